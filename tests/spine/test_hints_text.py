"""Hints as typed: both ways to name a point, and every wrong one named at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import StageError
from stages.spine.hints_text import parse_hints
from stages.spine.schema import SCHEMA, vertebral_schema

SIZE = (2000, 800)


@given(
    st.dictionaries(
        st.integers(0, SCHEMA.n_points - 1), st.tuples(st.floats(-0.5, 799.5), st.floats(-0.5, 1999.5))
    ),
    st.sampled_from([" ", "-", "_", ""]),
    st.booleans(),
)
def test_what_is_written_is_read_by_index_and_by_name(
    hints: dict[int, tuple[float, float]], separator: str, lower: bool
) -> None:
    by_index = [f"{index}={x!r},{y!r}" for index, (x, y) in hints.items()]
    names = {i: SCHEMA.names[i].replace(" ", separator) for i in hints}
    by_name = [f" {names[i].lower() if lower else names[i]} = {x!r} , {y!r}" for i, (x, y) in hints.items()]
    assert parse_hints(by_index, SIZE) == hints
    assert parse_hints(by_name, SIZE) == hints


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected POINT=X,Y"),
        ("=1,2", "expected POINT=X,Y"),
        ("T1 TL 1,2", "expected POINT=X,Y"),
        ("T13 TL=1,2", "no point 'T13 TL'"),
        ("68=1,2", "no point 68"),
        ("-1=1,2", "no point '-1'"),
        ("3=1", "expected X,Y"),
        ("3=1,5,2", "expected X,Y"),
        ("3=,2", "not a number: ''"),
        ("3=one,2", "not a number: 'one'"),
        ("3=nan,inf", "not a number: 'nan', 'inf'"),
        ("3=1_0,2", "not a number: '1_0'"),
        ("3=-1,2", "outside the film of 800 x 2000 px"),
        ("3=1e999,2", "outside the film"),
        ("3=1900,700", "outside the film"),
    ],
)
def test_a_wrong_hint_is_named_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(StageError) as caught:
        parse_hints([text], SIZE)
    assert f"{text!r}: {complaint}" in str(caught.value).replace("there is ", "")


def test_every_wrong_hint_is_named_in_one_error_and_no_right_one() -> None:
    texts = ["3=1,2", "T1-BR=5,6", "L9 TL=1,2", "4=x,2", "5=1,2", "6=900,2"]
    with pytest.raises(StageError) as caught:
        parse_hints(texts, SIZE)
    named = [text for text in texts if f"{text!r}: " in str(caught.value)]
    assert named == ["T1-BR=5,6", "L9 TL=1,2", "4=x,2", "6=900,2"]
    assert "has the hint '3=1,2' already" in str(caught.value)


def test_points_are_those_of_the_schema() -> None:
    assert parse_hints(["L2 BR=1,2"], SIZE, vertebral_schema(("L1", "L2"))) == {7: (1.0, 2.0)}
    with pytest.raises(StageError, match="from 0 to 7"):
        parse_hints(["T1 TL=1,2"], SIZE, vertebral_schema(("L1", "L2")))
