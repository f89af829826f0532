"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no reason to fail, and a failure should come back.
settings.register_profile("plumbline", deadline=None, derandomize=True)
settings.load_profile("plumbline")

# Two test workers share the machine; a stage under test sets its own number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Builds of small pipelines start their stages as real ones do, from a process that imported something before.
os.environ.setdefault("PLUMBLINE_WARM", "json,numpy")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def realdata() -> Path:
    """The folder of real films and motion capture; the test is skipped where there is none."""
    folder = os.environ.get("PLUMBLINE_REALDATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PLUMBLINE_REALDATA does not name a folder of real films")
    return Path(folder)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no rows: making one takes seconds, copying it does not."""
    from stages.core.tracking import prepare

    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        prepare(folder)
    return folder / "mlflow.db"
