"""The side effects that follow a build: journal to MLflow, candidates to the registry. Safe to repeat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flows.lanes import LANES
from stages.core.errors import StageError


def publish(root: Path, promote: bool) -> Iterator[str]:
    """Bring MLflow up to date and, if asked, offer each lane's candidate for promotion.

    Tracking does not decide whether data is right: a failure becomes a line, unless MLFLOW_STRICT=1.

    Yields:
        Lines for a person to read.
    """
    from flows import registry
    from stages.core import tracking

    yield str(tracking.sync(root))
    offered = [lane for lane in LANES.values() if promote and (root / lane.candidate).is_file()]
    for lane in offered:
        try:
            yield str(registry.promote(lane.name, root, reason="after a build"))
        except Exception as error:  # one lane's trouble, or MLflow's, holds up no other lane
            if os.environ.get("MLFLOW_STRICT") == "1":
                raise
            said = error if isinstance(error, StageError) else f"{type(error).__name__}: {error}"
            yield f"WARNING: {lane.name} was not offered for promotion: {said}"
