"""A model that answers the golden picture otherwise than before is not let in, however whole its bytes are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.serving import golden
from flows.serving.follower import Follower
from stages.core.model.card import ModelCard, load_card
from tests.flows.serving.toy_lane import Behaviour, release, shelf_of

Follow = Callable[..., Follower]


def toy_card(root: Path) -> ModelCard:
    return load_card(root / "models" / "toy" / "mean")


def test_the_picture_is_drawn_alike_each_time_and_fits_the_model(root: Path) -> None:
    release(root, 1)
    one, other = golden.picture(toy_card(root)), golden.picture(toy_card(root))
    assert np.array_equal(one.pixels, other.pixels)
    height, width = one.pixels.shape
    assert height / width == 2  # as the card's input of 8 x 4
    assert min(height, width) >= 256
    assert one.phantom
    assert np.ptp(one.pixels) > 100


def test_the_first_load_records_and_later_loads_are_held_to_it(
    root: Path, follow: Follow, behaviour: Behaviour
) -> None:
    release(root, 1)
    follower, later, shifted = follow(), follow(), follow()
    for one in (follower, later):
        one.refresh()
        assert one.lineup is not None
    assert follower.lineup is not None
    assert follower.lineup.champion.golden.held_to == "nothing"
    assert later.lineup is not None
    assert later.lineup.champion.golden.held_to == "first load"
    behaviour.shift = 3.0  # the code under the same weights changed
    shifted.refresh()
    assert shifted.lineup is None
    assert "does not answer the golden picture as at its first load: 0%" in shifted.complaints[0]


def test_points_of_the_registration_come_first(root: Path, follow: Follow, behaviour: Behaviour) -> None:
    shelf = shelf_of(root, release(root, 1))
    follower = follow()
    follower.refresh()
    assert follower.lineup is not None
    served = follower.lineup.champion
    behaviour.shift = 3.0
    golden.record(shelf, served.card, lambda film: served.answer(film, {}))
    behaviour.shift = 0.0
    golden.record(shelf, served.card, lambda film: served.answer(film, {}))  # what is there stays
    again = follow()
    again.refresh()
    assert again.lineup is None
    assert "at its registration" in again.complaints[0]
    behaviour.shift = 3.4
    again.refresh()
    assert again.lineup is not None
    assert again.lineup.champion.golden.held_to == "registration"
    assert again.lineup.champion.golden.largest_px == pytest.approx(0.4)


def test_a_golden_mismatch_leaves_the_present_model(root: Path, follow: Follow, behaviour: Behaviour) -> None:
    release(root, 1)
    release(root, 2)
    once = follow()
    once.refresh()  # version 2 is on record
    release(root, 1)
    follower = follow()
    follower.refresh()
    release(root, 2)
    behaviour.shift = 3.0
    follower.refresh()
    assert follower.lineup is not None
    assert follower.lineup.champion.target.version == 1
    assert "version 2" in follower.complaints[0]


@pytest.mark.parametrize(
    ("shift", "words"),
    [(math.nan, "2 points that are no numbers"), (math.inf, "no numbers"), (1e5, "2 points far off")],
)
def test_an_answer_without_sense_is_refused_at_the_first_load(
    root: Path, follow: Follow, behaviour: Behaviour, shift: float, words: str
) -> None:
    release(root, 1)
    behaviour.shift = shift
    follower = follow()
    follower.refresh()
    assert follower.lineup is None
    assert words in follower.complaints[0]


def test_a_damaged_record_is_said(root: Path, follow: Follow) -> None:
    release(root, 1)
    follow().refresh()
    (record,) = (root / ".plumbline/serving/golden/toy-phantom").iterdir()
    record.write_text("{}")
    follower = follow()
    follower.refresh()
    assert follower.lineup is None
    assert "remove it to record it again" in follower.complaints[0]
