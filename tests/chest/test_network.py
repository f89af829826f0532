"""The regressor's size, range, starting point and attention."""

from __future__ import annotations

import pytest
import torch

from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.attention import CoordinateAttention
from stages.chest.regressor.network import LandmarkRegressor, SpatialHead
from stages.core.model.inputs import n_parameters

DESCRIBED = Architecture(
    film_channels=3, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2), hidden=(512, 256), dropout=0.5
)
SMALL = Architecture(film_channels=1, channels=(4, 6, 8, 10), blocks=(1, 1, 1, 1), hidden=(12,), dropout=0.2)
ATTENTIVE = SMALL.model_copy(update={"attention": True})
SPATIAL = SMALL.model_copy(update={"head": "spatial"})


def test_described_form_has_the_described_parameters():
    network = LandmarkRegressor(DESCRIBED, 15)
    assert n_parameters(network.backbone) == 11_176_512
    assert n_parameters(network.head) == 401_694
    assert n_parameters(network) == 11_578_206


def test_attention_adds_the_described_parameters():
    network = LandmarkRegressor(DESCRIBED.model_copy(update={"attention": True}), 15)
    assert n_parameters(network.attention) == 25_648
    assert n_parameters(network) == 11_578_206 + 25_648


def test_dropout_halves_from_layer_to_layer():
    network = LandmarkRegressor(DESCRIBED, 15)
    assert [m.p for m in network.head if isinstance(m, torch.nn.Dropout)] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("architecture", [SMALL, ATTENTIVE, SPATIAL])
@pytest.mark.parametrize("size", [(48, 48), (64, 40)])
def test_points_stay_on_the_film(architecture, size):
    network = LandmarkRegressor(architecture, 15)
    points = network(torch.rand(3, *size))
    assert points.shape == (3, 15, 2)
    assert (points >= -0.5).all()
    assert (points[..., 0] <= size[1] - 0.5).all()
    assert (points[..., 1] <= size[0] - 0.5).all()


def test_starts_near_the_given_shape():
    torch.manual_seed(0)
    network = LandmarkRegressor(SMALL, 15)
    shape = torch.rand(15, 2) * 40 + 4
    network.start_at(shape, 48, 48)
    predicted = network.eval()(torch.rand(5, 48, 48))
    assert float((predicted - shape).detach().norm(dim=-1).mean()) < 1.5


def test_an_architecture_of_three_stages_is_refused():
    with pytest.raises(ValueError, match="channels"):
        Architecture(film_channels=1, channels=(4, 6, 8), blocks=(1, 1, 1, 1), hidden=(), dropout=0.0)  # type: ignore[arg-type]


def test_groups_hold_every_parameter_once_and_attention_only_where_it_is():
    for architecture, names in (
        (SMALL, ["backbone", "head"]),
        (ATTENTIVE, ["backbone", "attention", "head"]),
    ):
        network = LandmarkRegressor(architecture, 15)
        assert list(network.groups) == names
        assert sum(map(n_parameters, network.groups.values())) == n_parameters(network)


def test_a_parent_without_attention_gives_all_other_weights_and_attention_is_fresh():
    parent, child = LandmarkRegressor(SMALL, 15).state_dict(), LandmarkRegressor(ATTENTIVE, 15)
    before = {name: value.clone() for name, value in child.attention.state_dict().items()}
    child.continue_from(parent)
    for name, value in child.state_dict().items():
        if not name.startswith("attention."):
            assert torch.equal(value, parent[name]), name
    assert all(torch.equal(value, before[name]) for name, value in child.attention.state_dict().items())


def test_a_parent_with_attention_gives_it_too():
    parent, child = LandmarkRegressor(ATTENTIVE, 15), LandmarkRegressor(ATTENTIVE, 15)
    child.continue_from(parent.state_dict())
    films = torch.rand(2, 48, 48)
    assert torch.equal(parent.eval()(films), child.eval()(films))


@pytest.mark.parametrize("lacking", ["head.3.weight", "backbone.0.weight"])
def test_other_missing_weights_of_a_parent_are_errors(lacking):
    weights = LandmarkRegressor(SMALL, 15).state_dict()
    del weights[lacking]
    with pytest.raises(RuntimeError, match=lacking):
        LandmarkRegressor(ATTENTIVE, 15).continue_from(weights)


def test_attention_weighs_rows_and_columns_each_by_one_factor_below_1():
    """For each channel the map's change is an outer product of row and column weights, whatever the map."""
    torch.manual_seed(0)
    attention, x = CoordinateAttention(24).double().eval(), torch.rand(2, 24, 5, 7, dtype=torch.float64) + 0.1
    change = (attention(x) / x).detach()
    assert change.min() > 0
    assert change.max() < 1
    assert torch.linalg.matrix_rank(change, rtol=1e-9).unique().tolist() == [1]
    assert change[0, 0].std(0).min() > 1e-6, "rows have one weight"
    assert change[0, 0].std(1).min() > 1e-6, "columns have one weight"


def test_attention_sees_where_in_a_row_something_is():
    torch.manual_seed(0)
    attention = CoordinateAttention(8).eval()
    here = torch.zeros(1, 8, 4, 6)
    here[:, :, 1, 2] = 1
    there = here.roll(2, 3)
    torch.testing.assert_close(attention(here).roll(2, 3), attention(there))


def test_a_spatial_head_reaches_the_film_s_edges_and_follows_its_map():
    head = SpatialHead(1, 1)
    torch.nn.init.constant_(head.maps.weight, 50.0)
    for row, column in ((0, 0), (1, 2), (3, 4)):
        x = torch.zeros(1, 1, 4, 5)
        x[..., row, column] = 1
        expected = torch.tensor([[[column / 4, row / 3]]])
        torch.testing.assert_close(head(x), expected, atol=1e-4, rtol=0)
