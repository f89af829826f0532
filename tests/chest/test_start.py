"""The weights that the phases start from: random, or a backbone from a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from stages.chest import start
from stages.chest.regressor.architecture import Architecture
from stages.chest.regressor.inference import load_network
from stages.chest.regressor.network import LandmarkRegressor
from stages.chest.schema import CHEST
from stages.core.data.labels import LabelledFilms
from stages.core.errors import StageError
from stages.core.model.card import load_card, load_weights
from stages.core.params import load_params
from stages.core.stage import Observer

from .conftest import Lane, contents, start_params

PUBLISHED = Architecture(
    film_channels=3, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2), hidden=(16,), dropout=0.0
)


@pytest.fixture(scope="module")
def resnet() -> torchvision.models.ResNet:
    """A torchvision network whose statistics differ from those of a fresh one."""
    torch.manual_seed(4)
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def save(file: Path, state: dict[str, Any]) -> tuple[str, str]:
    torch.save(state, file)
    return str(file), hashlib.sha256(file.read_bytes()).hexdigest()


def run(
    lane: Lane, output: Path, given: tuple[str, str], architecture: Architecture = PUBLISHED
) -> LandmarkRegressor:
    changes = {"weights": given[0], "weights_sha256": given[1], "architecture": architecture}
    params = start_params().model_copy(update=changes)
    start.run(params, lane.films, lane.split, output, Observer.quiet(output / "s"))
    return load_network(output, load_card(output))


def test_random_weights_are_the_seed_s(lane: Lane, phases: Path, tmp_path: Path):
    observe = Observer.quiet(tmp_path / "s")
    start.run(start_params(), lane.films, lane.split, tmp_path / "again", observe)
    assert contents(tmp_path / "again") == contents(phases / "start")
    other = start_params().model_copy(update={"seed": 99})
    start.run(other, lane.films, lane.split, tmp_path / "other", observe)
    name = "backbone.0.weight"
    assert not torch.equal(load_weights(tmp_path / "other")[name], load_weights(phases / "start")[name])


def test_answers_about_the_mean_shape_of_the_training_films(lane: Lane, phases: Path):
    network = load_network(phases / "start", load_card(phases / "start"))
    data = LabelledFilms.open(lane.films, lane.split)
    films = torch.from_numpy(np.array(data.films.images[:6])).float() / 255
    with torch.inference_mode():
        predicted = network(films).numpy()
    mean_shape = data.landmarks_model[data.trainable()].mean(0)
    assert np.linalg.norm(predicted - mean_shape, axis=-1).mean() < 4


@pytest.mark.parametrize("channels", [3, 1])
def test_the_backbone_answers_as_torchvision_s_to_a_grey_film(lane: Lane, tmp_path: Path, resnet, channels):
    """For one channel the first convolution is summed over colours: the same answer to equal channels."""
    architecture = PUBLISHED.model_copy(update={"film_channels": channels})
    network = run(lane, tmp_path / "start", save(tmp_path / "w.pth", resnet.state_dict()), architecture)
    grey = torch.rand(2, 1, 64, 64)
    body = torch.nn.Sequential(*list(resnet.children())[:-2])
    with torch.inference_mode():
        expected = body(grey.expand(-1, 3, -1, -1))
        found = network.backbone(grey.expand(-1, channels, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_card_names_the_file_by_its_hash_alone(lane: Lane, phases: Path, tmp_path: Path, resnet):
    given = save(tmp_path / "somebody.pth", resnet.state_dict())
    run(lane, tmp_path / "start", given)
    text = (tmp_path / "start" / "card.json").read_text()
    assert json.loads(text)["params"]["start"] == f"sha256:{given[1]}"
    assert "somebody" not in text
    assert json.loads((phases / "start" / "card.json").read_text())["params"]["start"] == "random"


def test_a_model_of_this_project_gives_its_backbone(lane: Lane, phases: Path, tmp_path: Path):
    file = phases / "full_wing" / "weights.pt"
    given = (str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    network = run(lane, tmp_path / "start", given, start_params().architecture)
    trained, own = load_weights(phases / "full_wing"), network.state_dict()
    assert all(torch.equal(own[n], trained[n]) for n in trained if n.startswith("backbone."))
    assert not torch.equal(own["head.3.weight"], trained["head.3.weight"])


def test_another_file_is_noticed_and_its_hash_told(lane: Lane, tmp_path: Path, resnet):
    file, digest = save(tmp_path / "w.pth", resnet.state_dict())
    with pytest.raises(StageError, match=rf"{digest}.*weights_sha256 is '0000'.*params.yaml"):
        run(lane, tmp_path / "start", (file, "0000"))
    with pytest.raises(StageError, match="there is no file"):
        run(lane, tmp_path / "start", (str(tmp_path / "none.pth"), digest))


def test_every_layer_that_does_not_fit_is_named(lane: Lane, tmp_path: Path, resnet):
    state = dict(resnet.state_dict())
    del state["layer2.0.downsample.0.weight"]
    state["layer4.1.bn2.bias"] = torch.zeros(7)
    state["layer4.2.conv1.weight"] = torch.zeros(512, 512, 3, 3)
    with pytest.raises(StageError) as error:
        run(lane, tmp_path / "start", save(tmp_path / "w.pth", state))
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "layer2.0.downsample.0.weight",
        "layer4.2.conv1.weight",
        "layer4.1.bn2.bias",
    ]
    assert "(7,), expected (512,)" in lines[-1]


def test_counters_may_be_missing_as_in_old_files(lane: Lane, tmp_path: Path, resnet):
    state = {n: v for n, v in resnet.state_dict().items() if not n.endswith("num_batches_tracked")}
    run(lane, tmp_path / "start", save(tmp_path / "w.pth", state))


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code in a file of weights ran",))


@pytest.mark.parametrize(
    ("state", "said"), [({"a": Planted()}, "could run code"), ({"a": 1}, "a table of tensors")]
)
def test_a_file_of_anything_but_tensors_is_refused(lane: Lane, tmp_path: Path, capsys, state, said):
    with pytest.raises(StageError, match=said):
        run(lane, tmp_path / "start", save(tmp_path / "w.pth", state))
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("profile", ["demo", "cpu", "full"])
def test_every_profile_has_whole_parameters(profile: str):
    LandmarkRegressor(load_params(start.Params, profile=profile).architecture, CHEST.n_points)
