"""Prefect flows over the DVC graph, registry, services and the command line."""

import stages  # noqa: F401  (switches telemetry off before any library is imported)
