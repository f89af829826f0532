"""The control runs of the curriculum, at a size that takes seconds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.chest_controls import ARMS, Work, arm_params, main, needed
from stages.chest.reference import RECIPES

from .conftest import Lane


def test_an_arm_brings_its_parents_and_what_it_is_compared_with():
    assert needed(["mse"]) == ["full_wing", "mse"]
    assert needed(["complete"]) == ["full_wing", "wing_more", "wing_more_twice", "symmetry", "complete"]
    assert needed(list(ARMS)) == list(ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_compared_only_with_arms_of_as_many_epochs_or_its_own_ancestors(name: str):
    def ancestors(arm: str | None) -> list[str]:
        return [] if arm is None else [*ancestors(ARMS[arm].parent), arm]

    own = ancestors(name)
    for other in ARMS[name].against:
        assert other in own or len(ancestors(other)) == len(own)


def test_every_defect_has_an_arm():
    assert {arm.recipe for arm in ARMS.values()} - {None} == set(RECIPES)


@pytest.mark.parametrize("name", ARMS)
def test_arms_share_seed_split_and_schedule(name: str, tmp_path: Path):
    work = Work(tmp_path, "cpu", first=5, more=2, quick=False)
    params = arm_params(work, ARMS[name])
    assert params.fit.phases[0].epochs == (5 if ARMS[name].parent is None else 2)
    base = arm_params(work, ARMS["full_wing"])
    free = {"phases"}
    assert params.fit.model_dump(exclude=free) == base.fit.model_dump(exclude=free)
    assert (params.seed, params.input) == (base.seed, base.input)


@pytest.mark.slow
def test_a_quick_run_judges_every_arm_on_the_same_films(lane: Lane, tmp_path: Path):
    words = ["--raw", str(lane.raw), "--quick", "--first", "1", "--more", "1", "--out", str(tmp_path)]
    main([*words, "symmetry"])
    table = pd.read_csv(tmp_path / "chest_controls.csv")
    assert list(table["arm"]) == ["full_wing", "wing_more", "symmetry", "symmetry"]
    assert list(table["against"].fillna("")) == ["", "full_wing", "full_wing", "wing_more"]
    assert table["n_films"].nunique() == 1
    means = table.drop_duplicates("arm").set_index("arm")["mean_px224"]
    for row in table.dropna(subset=["against"]).itertuples():
        assert row.difference == pytest.approx(row.mean_px224 - means[row.against], abs=1e-3)
        assert row.difference_low <= row.difference <= row.difference_high
