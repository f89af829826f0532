"""Fixtures: a review over drawn films, its clock, and its page without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.review.config import ReviewConfig
from tests.flows.review.desks import Clock, Page, client_of, review_config


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path, clock: Clock) -> ReviewConfig:
    return review_config(tmp_path, clock=clock)


@pytest.fixture
def page(config: ReviewConfig) -> Iterator[Page]:
    with client_of(config) as client:
        yield Page(client)
