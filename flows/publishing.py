"""The side effects that follow a build: journal to MLflow, candidates to the registry. Safe to repeat."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.lanes import LANES, described
from stages.core.errors import StageError


def warm_up(root: Path) -> threading.Thread:
    """Import MLflow and make its database while something else works: both take seconds. Join before `publish`.

    What fails here fails there again, and is said there.
    """

    def work() -> None:
        from stages.core import tracking

        with suppress(Exception):
            tracking.prepare(root)

    thread = threading.Thread(target=work, name="warm up", daemon=True)
    thread.start()
    return thread


def publish(root: Path, promote: bool) -> Iterator[str]:
    """Bring MLflow up to date and, if asked, offer each lane's candidate for promotion.

    Tracking does not decide whether data is right: a failure becomes a line, unless MLFLOW_STRICT=1.

    Yields:
        Lines for a person to read.
    """
    from stages.core import tracking

    yield str(tracking.sync(root))
    for name in {**LANES, **described(root)} if promote else ():
        try:
            yield from offer(root, name, reason="after a build")
        except Exception as error:  # one lane's trouble, or MLflow's, holds up no other lane
            if os.environ.get("MLFLOW_STRICT") == "1":
                raise
            said = error if isinstance(error, StageError) else f"{type(error).__name__}: {error}"
            yield f"WARNING: {name} was not offered for promotion: {said}"


def offer(root: Path, lane: str, reason: str) -> Iterator[str]:
    """Offer what the last build left of a lane's candidates for promotion, in their order.

    One that others of the lane have to beat is offered once: it is in the registry then, whoever is champion.

    Yields:
        A line for each decision.
    Raises:
        StageError: a candidate speaks of a model that is not there.
    """
    from flows import registry
    from flows.registry.log import registered_as
    from stages.core.promotion.candidate import read_candidate

    files = {**LANES, **described(root)}[lane].candidates
    for file in files:
        if not (root / file).is_file():
            continue
        candidate = read_candidate(root / file)
        known = registered_as(root, candidate.registry_name).version_of(candidate.key) is not None
        if file == files[-1] or not known:
            yield str(registry.promote(lane, root, reason=reason, file=file.name))
