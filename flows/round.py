"""One round of the human-feedback loop as a Prefect flow: `plumbline round LANE`.

    ready?  ->  close the round  ->  params.yaml names its events  ->  build the lane  ->  offer for promotion

Each step may be repeated, and a round that was killed goes on with the step that it did not finish. Every round
fine-tunes the base of round 0 on the labels of all rounds, so that the stages' graph has no cycle.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.pipeline import build
from flows.publishing import offer
from flows.rounds import closing
from flows.rounds.pointing import point_at
from stages.core.params import project_root


@flow(name="round", flow_run_name="round of {lane}", persist_result=False)
def review_round(lane: str, simulated: bool = False, workers: int | None = None) -> State:
    """Let a lane's model learn from what was reviewed, and offer the result for promotion.

    Args:
        lane: its name.
        simulated: learn from the simulated reviewer's events; no round is closed.
        workers: stages that run at once.
    Raises:
        StageError: too few films are reviewed, or another round is being run.
    """
    root, logger = project_root(), get_run_logger()
    with closing.alone(root, lane):
        events = f"data/{lane}/simulated/{closing.EVENTS}" if simulated else _closed(root, lane)
        if point_at(root, lane, events):
            logger.info(f"params.yaml: {lane}.events is {events} now")
        built = build([f"{lane}-*"], workers=workers, return_state=True)
        if not built.is_completed():
            return Failed(message=f"the round is not finished, run it again: {built.message}")
        said = list(offer(root, lane, reason=f"after a round on {events}"))
        if not simulated:
            closing.end(root, lane)
            said.append(
                f"To keep this round: git add {events}.dvc params.yaml dvc.lock reports && git commit"
            )
    return Completed(message="\n".join([str(built.message), *said]))


def _closed(root: Path, lane: str) -> str:
    """Close the round that is due, or the one that was begun; its events, relative to the checkout."""
    number = closing.pending(root, lane)
    if number is None:
        found = closing.require_ready(root, lane)
        get_run_logger().info(str(found))
        number = found.round
        closing.begin(root, lane, number)
    return closing.close_held(lane, number, root).relative_to(root).as_posix()
