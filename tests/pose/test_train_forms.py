"""Training and use of the described forms, on a lane of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages.core.errors import StageError
from stages.core.model.card import load_card, save_model
from stages.core.stage import Observer
from stages.pose import train
from stages.pose.body.skeleton import SWAP, mirror_pose
from stages.pose.model import training
from stages.pose.model.architecture import FORMS, Form
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import mirror_window
from stages.pose.simulation.packed import Packed, PackedRole
from tests.pose.conftest import Lane, contents, train_params
from tests.pose.test_forms import DESCRIBED, SMALL, every_form, one_frame

_WEIGHTS = {"position": 1.0, "depth": 1.0, "angles": 0.01}


def form_params(form: Form, epochs: int = 2, **changes: Any) -> train.Params:
    """A described form that learns in a few seconds."""
    facts, fit = FORMS[form], train_params().fit.model_dump()
    phase = {
        "name": "all",
        "epochs": epochs,
        "rates": dict.fromkeys(facts.groups, 0.003),
        "weights": {name: _WEIGHTS.get(name, 0.02) for name in facts.losses},
    }
    small = {
        "form": form,
        "architecture": SMALL.model_dump(),
        "branches": {"depth": SMALL.model_dump(), "joint": SMALL.model_dump()} if form == "main" else None,
        "window_s": (0.0,),
        "linear": None if form != "window" else {"penalty": 0.01, "rows": 500},
        "samples_per_epoch": 600,
        "val_rows": 300,
        "fit": fit | {"phases": [phase], "batch_size": 32, "schedule": "constant", "ema_decay": 0.9},
    }
    return train_params(**(small | changes))


class Trained:
    """One small model a form, trained once."""

    def __init__(self, lane: Lane, folder: Path) -> None:
        self.lane, self.folder = lane, folder
        self.metrics: dict[str, dict[str, float]] = {}
        self.history: dict[str, list[dict[str, float]]] = {}

    def model(self, form: Form) -> Path:
        output = self.folder / form
        if form not in self.metrics:
            observe = Recorder(self.folder / f"scratch-{form}")
            self.metrics[form] = train.run(form_params(form), self.lane.packed, output, observe)
            self.history[form] = observe.seen
        return output


class Recorder(Observer):
    """Keeps what it is told of each epoch."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch, "untracked", echo=False)
        self.seen: list[dict[str, float]] = []

    def __call__(self, step: int, **metrics: float) -> None:
        super().__call__(step, **metrics)
        self.seen.append(metrics)


@pytest.fixture(scope="module")
def trained(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(lane, tmp_path_factory.mktemp("forms"))


@every_form
def test_an_epoch_lowers_the_loss_and_the_depth_error(trained: Trained, form: Form) -> None:
    trained.model(form)
    first, second = trained.history[form]
    assert second["train_loss"] < first["train_loss"]
    metrics = trained.metrics[form]
    assert metrics["best_val_sim_mean_abs_dz_cm"] < metrics["first_val_sim_mean_abs_dz_cm"]


@every_form
def test_training_twice_gives_equal_bytes(trained: Trained, form: Form, tmp_path: Path) -> None:
    model = trained.model(form)
    metrics = train.run(
        form_params(form), trained.lane.packed, tmp_path / form, Observer.quiet(tmp_path / "s")
    )
    assert metrics == trained.metrics[form]
    assert contents(tmp_path / form) == contents(model)


@every_form
def test_every_form_opens_behind_one_interface(trained: Trained, form: Form) -> None:
    model = trained.model(form)
    assert load_card(model).architecture == FORMS[form].architecture
    refiner = Refiner.load(model, 1)
    assert refiner.form == form
    packed = Packed.open(trained.lane.packed)
    rows = np.arange(0, len(packed.role("test")), 40)
    pose, scale = refiner.refine_rows(packed.role("test"), rows, packed.fps, packed.frame_step)
    assert (pose.shape, scale.shape) == ((len(rows), 17, 3), (len(rows), 17))
    assert np.isfinite(pose).all()
    assert (scale > 0).all()


@every_form
def test_a_mirrored_person_gets_the_mirrored_answer(trained: Trained, form: Form) -> None:
    refiner, window = Refiner.load(trained.model(form), 1), one_frame(5)
    pose, scale = refiner.refine(window)
    mirrored_pose, mirrored_scale = refiner.refine(mirror_window(window))
    np.testing.assert_allclose(mirrored_pose, mirror_pose(pose), atol=1e-4)
    np.testing.assert_allclose(mirrored_scale, scale[:, SWAP], rtol=1e-3)


@every_form
def test_no_label_reaches_a_network(
    lane: Lane, form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training with every label column made nonsense shows the network the same first batch."""
    read = PackedRole.__getitem__

    def garbled(role: PackedRole, name: str) -> np.ndarray:
        column = read(role, name)
        return column[::-1] * 1.5 if name in ("gt_pose", "view_dir", "distance_m") else column

    def first_batch(folder: str) -> list[torch.Tensor]:
        seen: list[tuple[torch.Tensor, ...]] = []

        def build_spied(*arguments: Any) -> torch.nn.Module:
            network = build(*arguments)
            network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
            return network

        build = training.build
        with monkeypatch.context() as patch:
            patch.setattr(training, "build", build_spied)
            params = form_params(form, epochs=1, samples_per_epoch=64)
            train.run(params, lane.packed, tmp_path / folder, Observer.quiet(tmp_path / "s"))
        return list(seen[0])

    plain = first_batch("plain")
    monkeypatch.setattr(PackedRole, "__getitem__", garbled)
    for one, other in zip(plain, first_batch("garbled"), strict=True):
        assert torch.equal(one, other)


def test_the_joint_refiner_expects_the_errors_of_validation(trained: Trained) -> None:
    refiner = Refiner.load(trained.model("joint"), 1)
    expected = 100 * float(refiner.network.mean_abs_dz_m.mean())  # type: ignore[union-attr, operator]
    assert expected == pytest.approx(trained.metrics["joint"]["best_val_sim_mean_abs_dz_cm"], rel=1e-3)


def test_frozen_branches_stand_still(lane: Lane, trained: Trained, tmp_path: Path) -> None:
    params = form_params("main", epochs=1).model_dump()
    params["fit"]["phases"][0]["rates"] |= {"depth": 0.0, "joint": 0.0}
    params["fit"]["ema_decay"] = 0.0
    train.run(
        train.Params.model_validate(params), lane.packed, tmp_path / "m", Observer.quiet(tmp_path / "s")
    )
    network = Refiner.load(tmp_path / "m", 1).network
    assert not network.depth.move[-1].weight.any()  # type: ignore[union-attr, index]
    assert network.fusion.free[-1].weight.any()  # type: ignore[union-attr, index]


def test_walking_the_camera_around_trains_too(lane: Lane, tmp_path: Path) -> None:
    params = form_params("depth", epochs=1, turn_deg=20.0)
    metrics = train.run(params, lane.packed, tmp_path / "m", Observer.quiet(tmp_path / "s"))
    assert np.isfinite(metrics["best_val_sim_mean_abs_dz_cm"])


def test_impossible_combinations_name_every_problem() -> None:
    with pytest.raises(ValidationError) as error:
        train_params(form="main")
    for words in (
        "window_s must be [0.0]",
        "branches must be given for main",
        "linear must be given for window",
        "weights must name position, bones",
    ):
        assert words in str(error.value)
    with pytest.raises(ValidationError, match="turn_deg must be 0"):
        train_params(turn_deg=10.0)
    for form in DESCRIBED:
        form_params(form)


def test_another_lanes_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    card = load_card(trained.model("depth")).model_copy(update={"architecture": "resnet18", "lane": "chest"})
    save_model(tmp_path, {"weight": torch.zeros(1)}, card)
    with pytest.raises(StageError, match="holds a resnet18 of lane chest; expected one of depth-refiner"):
        Refiner.load(tmp_path, 1)
