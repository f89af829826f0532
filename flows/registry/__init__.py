"""Promotion and rollback of lane models: idempotent commands beside the DVC graph, never a stage.

The log `.plumbline/registry.jsonl` and the shelf `.plumbline/registry/` are the truth; MLflow's registered
models, versions and aliases are a view of them that `repair` can rebuild at any time. Models are registered
as `<lane>-<data set>`, so that a phantom model never competes with a real one.
"""

from flows.registry.commands import Decision, promote, rollback
from flows.registry.gate import Policy
from flows.registry.log import Event
from flows.registry.lookup import RepairReport, history, repair, resolve_model

__all__ = [
    "Decision",
    "Event",
    "Policy",
    "RepairReport",
    "history",
    "promote",
    "repair",
    "resolve_model",
    "rollback",
]
