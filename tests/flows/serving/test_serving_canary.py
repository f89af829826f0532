"""Which films go to the challenger, and when they stop going there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.serving import canary
from flows.serving.canary import Guardrail, Outcome, goes_to_challenger
from flows.serving.launch import set_canary
from stages.core.errors import StageError
from tests.flows.serving.toy_lane import PARAMS, release

FILMS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(4000)]
GOOD, BAD = Outcome(False, 0.1, False), Outcome(True, 0.1, False)
SLOW, OFF = Outcome(False, 0.5, False), Outcome(False, 0.1, True)


@pytest.mark.parametrize("percent", [0, 10, 50, 100])
def test_the_share_is_the_one_asked_for(percent: float) -> None:
    share = sum(goes_to_challenger(film, "key", percent) for film in FILMS) / len(FILMS)
    assert share == pytest.approx(percent / 100, abs=0.03)
    assert percent not in (0, 100) or share == percent / 100


@given(st.sampled_from(FILMS), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_share_moves_no_film_back(film: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert goes_to_challenger(film, "key", small) <= goes_to_challenger(film, "key", large)


def test_the_place_of_a_film_is_the_same_on_every_machine() -> None:
    """Python's own hash is salted for each process; this place is written down."""
    assert [goes_to_challenger(film, "key", 50) for film in FILMS[:8]] == [
        int.from_bytes(hashlib.sha256(f"key\0{film}".encode()).digest()[:8], "big") % 10_000 < 5_000
        for film in FILMS[:8]
    ]


def test_another_challenger_meets_other_films() -> None:
    one, other = ({f for f in FILMS if goes_to_challenger(f, key, 10)} for key in ("a", "b"))
    assert len(one & other) < 0.3 * len(one)


def halted(champion: list[Outcome], challenger: list[Outcome]) -> str | None:
    guardrail = Guardrail(PARAMS.canary)
    for outcome in champion:
        assert guardrail.add("champion", outcome, "key") is None
    return [guardrail.add("challenger", outcome, "key") for outcome in challenger][-1]


@pytest.mark.parametrize(
    ("challenger", "words"),
    [
        ([GOOD] * 20, None),
        ([GOOD] * 18 + [BAD] * 2, None),  # 10 % more than the champion, as much as is allowed
        ([GOOD] * 17 + [BAD] * 3, "failed on 15%"),
        ([GOOD] * 17 + [OFF] * 3, "point off the film on 15%"),
        ([SLOW] * 20, "takes 0.50 s"),
        ([BAD] * 9, None),  # too few to say
        ([BAD] * 10, "failed on 100%"),
    ],
)
def test_a_challenger_is_halted_if_it_does_worse_than_is_allowed(
    challenger: list[Outcome], words: str | None
) -> None:
    said = halted([GOOD] * 20, challenger)
    assert said is None if words is None else said is not None and words in said


def test_a_failing_champion_does_not_halt_its_challenger() -> None:
    assert halted([], [BAD] * 10) is not None
    assert halted([BAD] * 10 + [GOOD] * 10, [GOOD] * 5 + [BAD] * 5) is None
    assert halted([SLOW] * 20, [SLOW] * 20) is None


def test_only_the_latest_films_count_and_those_of_this_challenger() -> None:
    window = PARAMS.canary.window
    assert halted([GOOD] * 20, [GOOD] * 20 + [BAD] * 2 + [GOOD] * window) is None
    guardrail = Guardrail(PARAMS.canary)
    for _ in range(9):
        guardrail.add("challenger", BAD, "one")
    assert guardrail.add("challenger", BAD, "another") is None


def test_a_decision_is_kept_and_a_damaged_file_is_said(root: Path) -> None:
    release(root, 1)
    with pytest.raises(StageError, match="no challenger"):
        set_canary(root, "toy", 10)
    key = release(root, 2, promote=False)
    assert "version 2" in set_canary(root, "toy", 10)
    assert canary.decisions(root)["toy-phantom"].percent == 10
    canary.decide(root, "toy-phantom", key, 0, halted="slow")
    assert "was halted on" in set_canary(root, "toy", 50)
    with pytest.raises(StageError, match="between 0 and 100"):
        set_canary(root, "toy", 101)
    (root / ".plumbline/serving/canary.json").write_text("{")
    with pytest.raises(StageError, match=r"canary\.json is damaged"):
        canary.decisions(root)
