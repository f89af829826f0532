"""Nothing that is killed leaves a process, a lock or other bytes behind; running again goes on."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from flows import dag
from tests.miniature import Miniature, until

ROUNDS = int(os.environ.get("PLUMBLINE_KILLS", "1"))
"""How often each kind is killed, each time at another moment: raise it after a change to `flows/repro.py`."""
RETRIED = "right"
"""The stage that dvc.yaml allows a second try: killed once, it does not fail the build."""
COMMANDS = ("mini.left", "mini.right")
"""How the long stages look in a process list."""


def _assert_resumes(miniature: Miniature, undisturbed: dict[str, bytes]) -> None:
    """Running the flow again ends with the bytes of an undisturbed build, and leaves no lock behind."""
    code, output = miniature.run("flows.build")
    assert code == 0, output
    assert miniature.outputs() == undisturbed
    miniature.assert_quiet()
    code, output = miniature.run("dvc", "repro")
    assert (code, "up to date" in output) == (0, True), output
    assert dag.heal(miniature.root) == []


# What to kill, and what to wait for before: each of these lives for a second or more.
KINDS = {
    "command": (COMMANDS, COMMANDS),
    "dvc": (
        ("flows.repro",),
        ("flows.repro source", "flows.repro left", "flows.repro right", "flows.repro merge"),
    ),
    "flow": (("flows.build",), ("flows.repro source", "flows.repro left", "flows.repro merge")),
}


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("victim", KINDS)
def test_sigkill_at_a_random_moment(
    miniature: Miniature, undisturbed: dict[str, bytes], victim: str, seed: int
) -> None:
    chance = random.Random(f"{victim} {seed}")
    victims, signs = KINDS[victim]
    flow = miniature.start("flows.build")
    miniature.wait_for(chance.choice(signs))
    time.sleep(chance.uniform(0.0, 1.0))
    chosen = chance.choice(miniature.wait_for(*victims))
    tried_again = victim != "flow" and any(RETRIED in word for word in chosen.cmdline())
    chosen.kill()
    output, _ = flow.communicate(timeout=60)
    expected = -signal.SIGKILL if victim == "flow" else 0 if tried_again else 1
    assert flow.returncode == expected, output
    miniature.assert_quiet()
    _assert_resumes(miniature, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT][:ROUNDS])
def test_a_signal_ends_the_flow_within_seconds(
    miniature: Miniature, undisturbed: dict[str, bytes], signum: signal.Signals
) -> None:
    miniature.set("left", seconds=60.0)
    flow = miniature.start("flows.build")
    miniature.wait_for(COMMANDS[0])
    flow.send_signal(signum)
    begun = time.monotonic()
    output, _ = flow.communicate(timeout=60)
    assert time.monotonic() - begun < 20.0
    assert flow.returncode == 128 + signum, output
    miniature.assert_quiet()
    assert miniature.flow_run()["state_type"] == "CRASHED"
    assert dag.heal(miniature.root) == []
    miniature.set("left", seconds=1.0)
    code, output = miniature.run("dvc", "repro")
    assert code == 0, output
    assert miniature.outputs() == undisturbed


def test_a_run_cancelled_in_the_ui_leaves_nothing(miniature: Miniature) -> None:
    miniature.set("left", seconds=60.0)
    server = miniature.start("flows.build", "--serve")
    try:
        served = {"deployments": {"name": {"any_": ["served"]}}}
        (deployment,) = until(lambda: miniature.ask("deployments/filter", served), 60.0, "the deployment")
        due = {"state": {"type": "SCHEDULED"}}
        run = miniature.ask(f"deployments/{deployment['id']}/create_flow_run", due)
        miniature.wait_for(COMMANDS[0], seconds=120.0)
        miniature.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
        gone = lambda: not miniature.processes(*COMMANDS, "flows.repro")  # noqa: E731
        until(gone, 20.0, "the end of the stages", miniature.processes)
        until(lambda: miniature.flow_run()["state_name"] == "Cancelled", 60.0, "the state")
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=60)
    assert "Traceback" not in output, output
    assert dag.heal(miniature.root) == []


def test_a_stage_ends_when_plain_dvc_is_killed(miniature: Miniature, undisturbed: dict[str, bytes]) -> None:
    dvc = miniature.start("dvc", "repro", "left")
    until(lambda: (miniature.root / "out/left.txt").is_file(), 60.0, "the stage's first line")
    dvc.kill()
    dvc.communicate(timeout=60)
    miniature.assert_quiet()
    dag.heal(miniature.root)
    assert miniature.run("dvc", "repro")[0] == 0
    assert miniature.outputs() == undisturbed
