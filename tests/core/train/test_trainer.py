"""The training loop: resume to the same bytes, phases, early stopping, frozen groups, bad losses."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train.plan import Phase, Plan, rate_factor

N = 20


class KilledError(Exception):
    """Stands for whatever ends a process."""


class Net(nn.Module):
    """Batch statistics, dropout and two groups: everything that a resume can get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "batch_size": 6,
        "weight_decay": 0.01,
        "schedule": "one-cycle",
        "warmup": 0.3,
        "clip_norm": 1.0,
        "ema_decay": 0.9,
        "patience": 0,
        "monitor": "error",
        "precision": "float32",
        "checkpoint_every": 1,
        "phases": [
            Phase(name="head", epochs=2, rates={"body": 0.0, "head": 0.01}, weights={"mse": 1.0}),
            Phase(name="all", epochs=4, rates={"body": 0.01, "head": 0.02}, weights={"mse": 0.5}),
        ],
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def train(
    scratch: Path,
    settings: Plan,
    die_at: int | None = None,
    sigkill: bool = False,
    key: str = "k" * 64,
    validate: object = None,
    seen: list[trainer.Batch] | None = None,
    heads: list[torch.Tensor] | None = None,
) -> tuple[bytes, dict[int, dict[str, float]], trainer.Fitted]:
    """Train a small network; die in the middle of epoch `die_at` if told to."""
    device = runtime.prepare("cpu", 1, 0)
    data = torch.from_numpy(np.random.default_rng(5).normal(size=(N, 3)).astype(np.float32))
    target = data.sum(1, keepdim=True)
    model = Net()
    steps = 0

    def loss(batch: trainer.Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal steps
        steps += 1
        if batch.epoch == die_at and steps % 3 == 2:
            if sigkill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KilledError
        if seen is not None:
            seen.append(batch)
        if heads is not None:
            heads.append(model.head.weight.detach().clone())
        noise = torch.from_numpy(batch.rng.normal(scale=0.1, size=(len(batch.samples), 3)).astype(np.float32))
        mse = ((model(data[batch.samples] + noise) - target[batch.samples]) ** 2).mean()
        return batch.phase.weights["mse"] * mse, {"mse": mse}

    def error() -> dict[str, float]:
        assert not model.training
        return {"error": float((model(data) - target).abs().mean())}

    observe = Observer.quiet(scratch, key)
    fitted = trainer.fit(
        model,
        {"body": model.body, "head": model.head},
        N,
        loss,
        validate or error,  # type: ignore[arg-type]
        settings,
        seed=3,
        device=device,
        observe=observe,
    )
    buffer = io.BytesIO()
    torch.save({name: value.clone() for name, value in model.state_dict().items()}, buffer)
    return buffer.getvalue(), observe.history, fitted


@pytest.mark.parametrize("die_at", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("every", [1, 3])
def test_a_run_resumed_after_an_exception_ends_with_the_same_bytes(
    tmp_path: Path, die_at: int, every: int
) -> None:
    settings = plan(checkpoint_every=every)
    whole = train(tmp_path / "whole", settings)
    with pytest.raises(KilledError):
        train(tmp_path / "torn", settings, die_at=die_at)
    seen: list[trainer.Batch] = []
    resumed = train(tmp_path / "torn", settings, seen=seen)
    assert resumed == whole
    assert list(resumed[1]) == [1, 2, 3, 4, 5, 6]
    if every == 1:
        assert {b.epoch for b in seen} == set(range(die_at, 7)), "finished epochs must not be trained again"


def test_a_run_resumed_after_sigkill_ends_with_the_same_bytes(tmp_path: Path, root: Path) -> None:
    whole = train(tmp_path / "whole", plan())
    code = (
        "import sys; from pathlib import Path; from tests.core.train.test_trainer import plan, train;"
        "train(Path(sys.argv[1]), plan(), die_at=4, sigkill=True)"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path / "torn")], cwd=root, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert (tmp_path / "torn" / "fit.pt").is_file()
    assert train(tmp_path / "torn", plan()) == whole


def test_a_finished_fit_is_not_trained_again(tmp_path: Path) -> None:
    first = train(tmp_path, plan())
    seen: list[trainer.Batch] = []
    assert train(tmp_path, plan(), seen=seen) == first
    assert seen == []


def test_a_checkpoint_of_another_plan_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(tmp_path / "torn", plan(weight_decay=0.3), die_at=5)
    assert train(tmp_path / "torn", plan()) == train(tmp_path / "whole", plan())


def test_without_a_dvc_key_nothing_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, plan(), die_at=5, key="untracked")
    seen: list[trainer.Batch] = []
    train(tmp_path, plan(), key="untracked", seen=seen)
    assert {b.epoch for b in seen} == {1, 2, 3, 4, 5, 6}


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    values = iter([5.0, float("nan"), 2.0, 3.0, 4.0, 5.0])
    fitted = train(tmp_path, plan(), validate=lambda: {"error": next(values)})[2]
    assert (fitted.best_epoch, fitted.best_value, fitted.epochs) == (3, 2.0, 6)


def test_a_first_value_that_is_nan_does_not_stay_the_best(tmp_path: Path) -> None:
    values = iter([float("nan"), 9.0, 8.0, 7.0, 6.0, 5.0])
    assert train(tmp_path, plan(), validate=lambda: {"error": next(values)})[2].best_epoch == 6


def test_patience_ends_a_phase_and_the_next_one_still_runs(tmp_path: Path) -> None:
    phases = [
        Phase(name=name, epochs=6, rates={"body": 0.01, "head": 0.01}, weights={"mse": 1.0}) for name in "ab"
    ]
    seen: list[trainer.Batch] = []
    values = iter([1.0, 2.0, 2.0, 3.0, 0.5, 2.0, 2.0])
    settings = plan(patience=2, phases=phases)
    fitted = train(tmp_path, settings, validate=lambda: {"error": next(values)}, seen=seen)[2]
    assert (fitted.best_epoch, fitted.epochs) == (5, 7)
    assert [b.phase.name for b in seen] == ["a"] * 9 + ["b"] * 12


def test_without_a_monitor_the_last_weights_are_kept(tmp_path: Path) -> None:
    _, history, fitted = train(tmp_path, plan(monitor=""), validate=dict)
    assert (fitted.best_epoch, fitted.epochs) == (6, 6)
    assert np.isnan(fitted.best_value)
    assert history[6].keys() == {"train_loss", "train_mse"}


def test_a_frozen_group_stands_still_with_its_statistics(tmp_path: Path) -> None:
    frozen = Phase(name="head", epochs=3, rates={"body": 0.0, "head": 0.1}, weights={"mse": 1.0})
    after = torch.load(io.BytesIO(train(tmp_path, plan(phases=[frozen], ema_decay=0.0))[0]))
    runtime.seed_everything(0)
    before = Net().state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith("body"), name


def test_every_sample_is_drawn_at_most_once_an_epoch_and_orders_differ(tmp_path: Path) -> None:
    seen: list[trainer.Batch] = []
    train(tmp_path, plan(), seen=seen)
    orders = [np.concatenate([b.samples for b in seen if b.epoch == e]) for e in (1, 2)]
    assert all(len(set(o)) == len(o) == 18 for o in orders)
    assert list(orders[0]) != list(orders[1])


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_of_the_steps_so_far_is_what_is_kept(tmp_path: Path, decay: float) -> None:
    phase = Phase(name="all", epochs=6, rates={"body": 0.01, "head": 0.02}, weights={"mse": 1.0})
    before_steps: list[torch.Tensor] = []
    settings = plan(ema_decay=0.0, monitor="", phases=[phase])
    last = torch.load(io.BytesIO(train(tmp_path / "plain", settings, heads=before_steps)[0]))["head.weight"]
    kept = train(tmp_path / "average", plan(ema_decay=decay, monitor="", phases=[phase]))[0]
    average = before_steps[0]
    for step, weights in enumerate([*before_steps[1:], last], start=1):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * weights
    torch.testing.assert_close(torch.load(io.BytesIO(kept))["head.weight"], average)
    start = before_steps[0]
    assert (average - start).norm() > 0.5 * (last - start).norm(), "the initial weights must be forgotten"


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)

    def loss(batch: trainer.Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        value = model(torch.ones(1, 1)).sum() * float("nan")
        return value, {"mse": value}

    one = plan(phases=[Phase(name="warm", epochs=1, rates={"all": 0.1}, weights={})])
    with pytest.raises(
        StageError, match=r"loss is nan in epoch 1 \(phase 'warm'\), step 1: mse nan; samples \["
    ):
        trainer.fit(
            model, {"all": model}, 4, loss, dict, one, 0, torch.device("cpu"), Observer.quiet(tmp_path)
        )


def test_errors_name_wrong_groups_missing_samples_and_an_unknown_monitor(tmp_path: Path) -> None:
    model = Net()
    groups: dict[str, nn.Module] = {"all": model}
    run = (lambda batch: None, dict, plan(), 0, torch.device("cpu"), Observer.quiet(tmp_path))
    with pytest.raises(StageError, match=r"rates are given for body, head, but .* groups are all"):
        trainer.fit(model, groups, 4, *run)  # type: ignore[arg-type]
    with pytest.raises(StageError, match="no training samples"):
        trainer.fit(model, groups, 0, *run)  # type: ignore[arg-type]
    with pytest.raises(StageError, match="monitor is 'error', but validation gives speed"):
        train(tmp_path, plan(), validate=lambda: {"speed": 1.0})


def test_bfloat16_trains(tmp_path: Path) -> None:
    history = train(tmp_path, plan(precision="bfloat16"))[1]
    assert np.isfinite(history[6]["error"])


@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_one_cycle_rises_to_one_at_the_end_of_the_warmup_and_falls(warmup: float) -> None:
    course = [rate_factor("one-cycle", p, warmup) for p in np.linspace(0, 1, 101)]
    assert max(course) <= 1.0 + 1e-12
    peak = round(100 * warmup)
    assert course[:peak] == sorted(course[:peak])
    assert course[peak:] == sorted(course[peak:], reverse=True)
    if warmup < 1:
        assert course[peak] == pytest.approx(1.0)
        assert course[-1] == pytest.approx(1e-4)


def test_other_schedules() -> None:
    assert {rate_factor("constant", p, 0.3) for p in (0, 0.5, 1)} == {1.0}
    assert rate_factor("cosine", 0, 0.3) == 1.0
    assert rate_factor("cosine", 1, 0.3) == pytest.approx(1e-4)
