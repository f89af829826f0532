"""`plumbline round LANE`: the flow of a round on the checkout's Prefect server.

Apart from the flow, because Prefect reads the server's address when it is imported.
"""

from __future__ import annotations

from flows.rounds import closing
from flows.server import prefect_api, wait_until_up
from stages.core.errors import StageError
from stages.core.params import project_root


def run(lane: str, simulated: bool = False, workers: int | None = None) -> str:
    """Run the flow on a Prefect server, the one of `make up` or a temporary one; returns what came out.

    Raises:
        StageError: the round was refused, or a stage failed.
    """
    root = project_root()
    if not simulated and closing.pending(root, lane) is None:
        closing.require_ready(root, lane)  # the flow asks again; to be refused needs no server
    url = prefect_api(root, temporary=True)

    from flows.round import review_round

    wait_until_up(url)
    state = review_round(lane, simulated, workers, return_state=True)
    if not state.is_completed():
        error = state.result(raise_on_failure=False)
        raise StageError(str(error) if isinstance(error, StageError) else str(state.message))
    return str(state.message)
