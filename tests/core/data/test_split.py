"""Roles belong to patients and do not move when films come or go."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.data.split import (
    assign_roles,
    patient_folds,
    read_split,
    split_digest,
    split_metrics,
    write_split,
)
from stages.core.errors import StageError

SHARES = {"train": 0.6, "val": 0.15, "gate": 0.1, "test": 0.15}


def names(n: int) -> list[str]:
    return [f"patient-{i}" for i in range(n)]


def test_shares_are_met_on_average() -> None:
    roles = assign_roles(names(4000), SHARES, seed=1)
    for role, share in SHARES.items():
        assert abs((roles == role).mean() - share) < 0.025


def test_a_patient_keeps_its_role_when_others_come_and_go() -> None:
    before = dict(zip(names(200), assign_roles(names(200), SHARES, 7), strict=True))
    kept = names(200)[50:150] + [f"late-{i}" for i in range(40)]
    after = dict(zip(kept, assign_roles(kept, SHARES, 7), strict=True))
    assert all(after[p] == before[p] for p in names(200)[50:150])


def test_another_seed_gives_another_split() -> None:
    assert (assign_roles(names(100), SHARES, 1) != assign_roles(names(100), SHARES, 2)).any()


def test_wrong_shares_are_refused() -> None:
    with pytest.raises(StageError, match="add up to 1"):
        assign_roles(names(3), {"train": 0.5, "test": 0.4}, 0)
    with pytest.raises(StageError, match="exam"):
        assign_roles(names(3), {"train": 0.5, "exam": 0.5}, 0)


def table(n: int = 80) -> pd.DataFrame:
    patients = [f"p{i // 2}" for i in range(n)]
    ids = [f"film-{i:03}" for i in range(n)]
    return pd.DataFrame({"id": ids, "patient": patients, "role": assign_roles(patients, SHARES, 3)})


def test_split_round_trip_and_counts(tmp_path: Path) -> None:
    split = table()
    write_split(tmp_path / "split.parquet", split.sample(frac=1, random_state=0))
    back = read_split(tmp_path / "split.parquet")
    pd.testing.assert_frame_equal(back, split, check_dtype=False)
    counts = split_metrics(back)
    assert sum(v for k, v in counts.items() if k.startswith("n_films")) == len(split)


def test_a_patient_in_two_roles_is_refused(tmp_path: Path) -> None:
    split = table()
    split.loc[0, "role"] = "test" if split.loc[1, "role"] != "test" else "train"
    with pytest.raises(StageError, match="two roles"):
        write_split(tmp_path / "split.parquet", split)


def test_an_empty_role_is_refused(tmp_path: Path) -> None:
    split = table()
    with pytest.raises(StageError, match="gate"):
        write_split(tmp_path / "split.parquet", split[split["role"] != "gate"])


def test_digest_ignores_order_and_sees_a_moved_film() -> None:
    split = table()
    assert split_digest(split) == split_digest(split.iloc[::-1])
    moved = split.copy()
    moved.loc[moved.index[moved["role"] == "train"][0], "role"] = "val"
    assert split_digest(moved) != split_digest(split)
    assert split_digest(moved, ["test"]) == split_digest(split, ["test"])
    assert np.array_equal(split["id"], sorted(split["id"]))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_part_no_patient_and_are_of_one_size(folds: int) -> None:
    patients = [f"patient-{i % 23}" for i in range(80)]
    dealt = patient_folds(patients, folds, seed=4)
    by_patient = pd.DataFrame({"patient": patients, "fold": dealt}).groupby("patient")["fold"]
    assert (by_patient.nunique() == 1).all()
    sizes = by_patient.first().value_counts()
    assert set(sizes.index) == set(range(folds))
    assert sizes.max() - sizes.min() <= 1


def test_as_many_folds_as_patients_leave_none_empty() -> None:
    assert sorted(patient_folds(names(7), 7, seed=1)) == list(range(7))


def test_folds_do_not_depend_on_the_order_of_the_films() -> None:
    patients = names(40)
    forwards, backwards = patient_folds(patients, 4, 2), patient_folds(patients[::-1], 4, 2)
    assert np.array_equal(forwards, backwards[::-1])
    assert (forwards != patient_folds(patients, 4, 3)).any(), "another seed gives other folds"
