"""MLflow as a view of the journal: runs, inputs, figures and models, each found again by DVC's own key.

A stage's harness writes one journal record per run of a stage, after its outputs. `sync` logs the records
that MLflow lacks; it may be called at any time, by any process, any number of times. Tracking never decides
whether data is right: a failure is a warning, unless MLFLOW_STRICT=1.

This package is the only one under `stages` that imports MLflow, and only inside functions (2 to 3 seconds).
"""

from stages.core.tracking.mirror import SyncReport, rebuild, sync
from stages.core.tracking.store import TrackingError, connected, prepare, tracking_uri

__all__ = ["SyncReport", "TrackingError", "connected", "prepare", "rebuild", "sync", "tracking_uri"]
