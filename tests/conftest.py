"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
