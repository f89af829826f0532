"""Several processes train one network: as one process would, with equal weights, and none hangs for another."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.core.train import runtime, trainer
from stages.core.train import team as teams
from stages.core.train.distributed import launch
from stages.core.train.plan import Phase, Plan

N = 22


class KilledError(Exception):
    """Stands for whatever ends a run."""


def small_net(statistics: bool) -> nn.Sequential:
    between = [nn.BatchNorm1d(8), nn.Dropout(0.2)] if statistics else []
    return nn.Sequential(nn.Linear(3, 8), *between, nn.Tanh(), nn.Linear(8, 1))


def plan(batch_size: int = 7) -> Plan:
    phase = Phase(name="all", epochs=6, rates={"all": 0.03}, weights={})
    return Plan(
        batch_size=batch_size,
        weight_decay=0.01,
        schedule="cosine",
        warmup=0.0,
        clip_norm=1.0,
        ema_decay=0.8,
        patience=0,
        monitor="error",
        precision="float32",
        checkpoint_every=1,
        phases=(phase,),
    )


def train(
    observe: Observer, statistics: bool, happens: str = "", settings: Plan | None = None
) -> dict[str, Any]:
    """Train a small network in this process and the others of its team; `happens` names what goes wrong."""
    device = runtime.prepare("cpu", 1, 0)
    rank = teams.current().rank
    inputs = torch.from_numpy(np.random.default_rng(5).normal(size=(N, 3)).astype(np.float32))
    truth = torch.sin(inputs.sum(1, keepdim=True))
    model = small_net(statistics)
    epochs = []

    def loss(batch: trainer.Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        epochs.append(batch.epoch)
        if happens == "rank 1 is killed" and rank == 1 and batch.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if happens == "the leader lingers" and batch.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(600)
        if happens == "an exception everywhere" and batch.epoch == 4:
            raise KilledError
        mse = ((model(inputs[batch.samples]) - truth[batch.samples]) ** 2).mean()
        if happens == "rank 1 gets a bad loss" and rank == 1 and batch.epoch == 2:
            mse = mse * float("nan")
        return mse, {"mse": mse}

    def validate() -> dict[str, float]:
        assert rank == 0
        return {"error": float((model(inputs) - truth).abs().mean())}

    groups = {"all": model}
    fitted = trainer.fit(model, groups, N, loss, validate, settings or plan(), 3, device, observe)
    state = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    states = [state]
    if dist.is_initialized():
        states = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(states, state)
    return {"states": states, "fitted": fitted, "history": observe.history, "epochs": epochs}


def run(
    scratch: Path, world_size: int, statistics: bool = False, happens: str = "", settings: Plan | None = None
) -> dict[str, Any]:
    return launch(world_size, "cpu", train, Observer.quiet(scratch, "k" * 64), statistics, happens, settings)


def numbers(state: dict[str, bytes]) -> np.ndarray:
    return np.concatenate([np.frombuffer(value, np.float32) for value in state.values()])


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An unbroken run of two processes, with batch statistics and dropout."""
    return run(tmp_path_factory.mktemp("together"), 2, statistics=True)


def test_two_processes_reach_what_one_reaches_with_the_same_batches(tmp_path: Path) -> None:
    one, two = (run(tmp_path / str(size), size) for size in (1, 2))
    assert list(one["history"]) == list(two["history"]) == [1, 2, 3, 4, 5, 6]
    for epoch, metrics in one["history"].items():
        assert two["history"][epoch] == pytest.approx(metrics, rel=1e-3)
    assert two["fitted"].best_value == pytest.approx(one["fitted"].best_value, rel=0.01)
    np.testing.assert_allclose(numbers(two["states"][1]), numbers(one["states"][0]), atol=1e-4)


def test_all_processes_end_with_the_same_weights_and_statistics(together: dict[str, Any]) -> None:
    first, second = together["states"]
    assert first == second
    assert together["history"][6]["error"] < together["history"][1]["error"]


def test_a_run_of_two_that_was_broken_ends_with_the_same_bytes(
    tmp_path: Path, together: dict[str, Any]
) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, 2, statistics=True, happens="an exception everywhere")
    resumed = run(tmp_path, 2, statistics=True)
    assert set(resumed["epochs"]) == {4, 5, 6}
    assert resumed["states"] == together["states"]
    assert resumed["history"] == together["history"]


def test_a_killed_process_fails_the_run_in_words(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"process 1 of 0 to 1 .* was ended by SIGKILL.*run again"):
        run(tmp_path, 2, happens="rank 1 is killed")
    assert not dist.is_initialized()


def test_the_reason_is_told_though_another_thread_asks_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waitpid = os.waitpid

    def slow_to_tell(pid: int, options: int) -> tuple[int, int]:
        found = waitpid(pid, options)
        if found[0]:  # the status is taken, and known to this thread alone
            time.sleep(2.0)
        return found

    monkeypatch.setattr(os, "waitpid", slow_to_tell)
    with pytest.raises(StageError, match=r"process 1 of 0 to 1 .* was ended by SIGKILL"):
        run(tmp_path, 2, happens="rank 1 is killed")


def test_a_bad_loss_in_another_process_is_told_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"process 1 of 0 to 1 .* stopped: the loss is nan in epoch 2"):
        run(tmp_path, 2, happens="rank 1 gets a bad loss")


def test_a_batch_has_a_sample_for_every_process(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="world_size is 2, but a batch has 1 samples"):
        run(tmp_path, 2, settings=plan(batch_size=1))


def exchange(weight_of_first: float) -> list[Any]:
    """Gradients and statistics of a team, each process with other ones."""
    team = teams.current()
    weight = weight_of_first if team.leads else 1 - weight_of_first
    parameters = [nn.Parameter(torch.ones(2, 3)) for _ in range(3)]
    parameters[0].grad = torch.full((2, 3), 10.0 + team.rank)
    if not team.leads:
        parameters[1].grad = torch.arange(6.0).view(2, 3)
    team.average_gradients(parameters, weight)
    norm = nn.BatchNorm1d(2)
    norm.register_buffer("not saved", torch.ones(1), persistent=False)
    same = torch.tensor([0.1, 1e-7])
    mean = torch.tensor([1.0, 3.0]) * (1 + team.rank)
    norm.load_state_dict(norm.state_dict() | {"running_mean": mean, "running_var": same})
    average = {name: value.clone() * 10 for name, value in norm.state_dict().items()}
    team.average_buffers(norm, average)
    summed = team.sum({"b": torch.tensor(1.0 + team.rank), "a": torch.tensor(5.0)})
    said: dict[str, Any] = team.from_leader({"rank": team.rank, "tensor": torch.full((2,), float(team.rank))})
    found: list[Any] = [
        *[p.grad.tolist() if isinstance(p.grad, torch.Tensor) else None for p in parameters],
        norm.state_dict()["running_mean"].tolist(),
        average["running_mean"].tolist(),
        torch.equal(norm.state_dict()["running_var"], same),
        {name: float(value) for name, value in summed.items()},
        (said["rank"], said["tensor"].tolist()),
    ]
    everybodys: list[Any] = [None] * team.size
    dist.all_gather_object(everybodys, found)
    return everybodys


def test_what_processes_exchange() -> None:
    first, second, third = launch(3, "cpu", exchange, 0.5)[:3]
    assert first == second == third
    grad, elsewhere, nowhere, mean, mean_of_average, same, summed, said = first
    np.testing.assert_allclose(grad, np.full((2, 3), 0.5 * 10 + 0.5 * 11 + 0.5 * 12))
    np.testing.assert_allclose(elsewhere, np.arange(6.0).reshape(2, 3))
    assert nowhere is None
    np.testing.assert_allclose(mean, [2.0, 6.0])
    np.testing.assert_allclose(mean_of_average, [20.0, 60.0])
    assert same
    assert summed == {"b": 6.0, "a": 15.0}
    assert said == (0, [0.0, 0.0])


@pytest.mark.parametrize("n", [2, 5, 16])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pieces_make_up_the_batch_and_differ_by_one_at_most(n: int, size: int) -> None:
    pieces = [teams.Team(rank, size).own_piece(np.arange(n)) for rank in range(size)]
    assert np.concatenate(pieces).tolist() == list(range(n))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_one_process_is_a_plain_call() -> None:
    assert launch(1, "cpu", os.getpid) == os.getpid()
    assert teams.current() == teams.Team(0, 1)
    assert teams.current().stream == ()


@pytest.mark.parametrize(
    ("world_size", "device", "message"),
    [
        (0, "cpu", "world_size must be at least 1"),
        (2, "mps", "several processes need cpu or cuda"),
        (2, "cuda:1", "several processes need cpu or cuda"),
        (1000, "cuda", "CUDA devices; each process needs its own"),
    ],
)
def test_impossible_teams_are_refused(world_size: int, device: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        launch(world_size, device, os.getpid)


def test_torchrun_has_to_agree_with_the_params(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(teams._TORCHRUN, "020" + "00", strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match="torchrun started 2 processes, but world_size in params.yaml is 1"):
        launch(1, "cpu", os.getpid)
    with pytest.raises(StageError, match="of a stage that trains in one"):
        teams.current()


STAGE = """
import os, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
import test_distributed as here

def work(folder, observe, happens):
    (folder / f"pid {{here.teams.current().rank}}").write_text(str(os.getpid()))
    if happens == "all sleep":
        time.sleep(600)
    return here.train(observe, True, happens)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    observe = here.Observer.quiet(folder / "scratch", "k" * 64)
    trained = here.launch(2, "cpu", work, folder, observe, sys.argv[2])
    (folder / f"result of {{os.getpid()}}").write_text(repr(trained["states"]))
"""


def stage_file(folder: Path, root: Path) -> Path:
    file = folder / "stage.py"
    file.write_text(STAGE.format(path=[str(root), str(Path(__file__).parent)]))
    return file


@pytest.mark.slow
def test_torchrun_gives_the_same_bytes_and_one_process_writes(
    tmp_path: Path, root: Path, together: dict[str, Any]
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, stage_file(tmp_path, root), tmp_path, ""], check=True, timeout=120)
    leader = (tmp_path / "pid 0").read_text()
    assert [p.name for p in tmp_path.glob("result *")] == [f"result of {leader}"]
    assert (tmp_path / f"result of {leader}").read_text() == repr(together["states"])


@pytest.mark.slow
def test_processes_end_with_a_killed_leader(tmp_path: Path, root: Path) -> None:
    leader = subprocess.Popen([sys.executable, stage_file(tmp_path, root), tmp_path, "all sleep"])
    follower = tmp_path / "pid 1"
    while not (follower.exists() and follower.read_text()):
        assert leader.poll() is None
        time.sleep(0.1)
    leader.kill()
    leader.wait()
    process = Path("/proc") / follower.read_text() / "stat"
    while process.exists() and ") Z" not in process.read_text():
        time.sleep(0.1)


@pytest.mark.slow
def test_a_leader_that_does_not_notice_a_dead_process_ends_in_words(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, str(stage_file(tmp_path, root)), str(tmp_path), "the leader lingers"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "ERROR: process 1 of 0 to 1 that train together was ended by SIGKILL" in ended.stderr
