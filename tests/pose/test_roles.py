from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.data.split import ROLES
from stages.core.errors import StageError
from stages.pose import pack
from stages.pose.simulation.roles import HASHED, OFFICIAL, PIECES, all_test, give_roles
from tests.pose.conftest import small_params

SETTINGS = small_params(pack.Params).roles


def sequences(dancers: list[int], official: bool = True, frames: int = 100) -> pd.DataFrame:
    """One sequence an entry; -1 is a dancer whom the name does not tell."""
    rows = [
        (k, f"s{k:03d}_d{dancer:02d}", dancer, "BR", "setting1", "none", frames)
        for k, dancer in enumerate(dancers)
    ]
    columns = ["seq", "name", "dancer", "genre", "setting", "split", "n_frames"]
    table = pd.DataFrame(rows, columns=columns)
    if official:
        table["split"] = ["test" if dancer % 3 == 0 else "train" for dancer in dancers]
    return table


@given(st.lists(st.integers(1, 30), min_size=12, max_size=60), st.integers(0, 1000), st.booleans())
def test_nobody_plays_two_roles_and_no_role_is_empty(dancers: list[int], seed: int, official: bool) -> None:
    groups = set(dancers)
    free = {d for d in groups if d % 3} if official else groups
    has_test = official and len(groups) > len(free)
    if len(free) < (3 if has_test else 4):
        return
    roles = give_roles(sequences(dancers, official), SETTINGS, seed)
    assert (roles.clips.groupby("dancer")["role"].nunique() == 1).all()
    assert set(roles.clips["role"]) == set(ROLES)
    assert sorted(roles.clips["clip"]) == sorted(sequences(dancers)["name"])
    assert roles.policy == (OFFICIAL if has_test else HASHED)


@given(st.integers(0, 1000))
def test_the_official_test_dancers_are_the_test_and_no_one_else(seed: int) -> None:
    roles = give_roles(sequences(list(range(1, 31))), SETTINGS, seed).clips
    assert ((roles["role"] == "test") == (roles["dancer"] % 3 == 0)).all()


def test_roles_depend_on_the_seed_alone_not_on_the_order() -> None:
    table = sequences(list(range(1, 31)))
    first = give_roles(table, SETTINGS, 5)
    assert give_roles(table.iloc[::-1], SETTINGS, 5).digest == first.digest
    assert give_roles(table, SETTINGS, 6).digest != first.digest


def test_another_dancer_moves_nobody() -> None:
    before = give_roles(sequences(list(range(1, 31))), SETTINGS, 5).clips.set_index("dancer")["role"]
    after = give_roles(sequences(list(range(1, 32))), SETTINGS, 5).clips.set_index("dancer")["role"]
    assert (after[before.index] == before).all()


@pytest.mark.parametrize("dancers", [[4, -1], [3, 4], [-1, -1]])
def test_two_sequences_are_cut_into_pieces_that_do_not_touch(dancers: list[int]) -> None:
    roles = give_roles(sequences(dancers, official=3 in dancers), SETTINGS, 5)
    assert roles.policy == PIECES
    clips = roles.clips
    assert set(clips["role"]) == set(ROLES)
    assert not set(clips.loc[clips["role"] == "test", "sequence"]) & set(
        clips.loc[clips["role"] != "test", "sequence"]
    )
    pieces = clips[clips["role"] != "test"].sort_values("first_frame")
    assert pieces["role"].tolist() == ["train", "val", "gate"]
    gaps = pieces["first_frame"].to_numpy()[1:] - pieces["last_frame"].to_numpy()[:-1]
    assert (gaps > 1).all()
    assert pieces["last_frame"].max() == 99
    assert pieces["clip"].is_unique


def test_a_single_sequence_is_an_error() -> None:
    with pytest.raises(StageError, match="d04"):
        give_roles(sequences([4]), SETTINGS, 5)


def test_a_folder_to_be_judged_is_all_test() -> None:
    clips = all_test(sequences([1, 2, 3])).clips
    assert set(clips["role"]) == {"test"}
    assert clips["last_frame"].tolist() == [99, 99, 99]
