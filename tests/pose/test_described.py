"""The refiners of the system description, trained in one stage and judged beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.pose import described, evaluate
from stages.pose.described import Params
from stages.pose.model.architecture import PUBLISHED
from stages.pose.model.inference import Refiner
from tests.pose.conftest import Lane, contents, small_params

FORMS = ("depth", "depth_large", "joint", "main")


def few_steps(*forms: str) -> Params:
    """The demo's parameters with an epoch of a few steps."""
    demo = load_params(Params, profile="demo").model_dump()
    chosen: dict[str, Any] = {form: demo["forms"][form] for form in forms}
    for form in chosen.values():
        form["phases"] = [{**form["phases"][0], "epochs": 1}]
    small = {"threads": 1, "samples_per_epoch": 200, "val_rows": 100, "forms": chosen}
    return Params.model_validate(demo | small)


@pytest.fixture(scope="module")
def trained(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float], Observer]:
    folder = tmp_path_factory.mktemp("described")
    observe = Observer.quiet(folder / "s")
    return (
        folder / "models",
        described.run(few_steps(*FORMS), lane.packed, folder / "models", observe),
        observe,
    )


def test_every_form_gets_a_folder_and_metrics_of_its_name(
    trained: tuple[Path, dict[str, float], Observer],
) -> None:
    models, metrics, observe = trained
    for form in FORMS:
        assert Refiner.load(models / form, 1).form == form
        assert metrics[f"{form}_epochs"] == 1
        assert f"{form}_val_sim_mean_abs_dz_cm" in observe.history[1]


def test_training_twice_gives_equal_bytes_whatever_else_is_trained(
    lane: Lane, trained: tuple[Path, dict[str, float], Observer], tmp_path: Path
) -> None:
    described.run(few_steps("joint"), lane.packed, tmp_path / "m", Observer.quiet(tmp_path / "s"))
    assert contents(tmp_path / "m" / "joint") == contents(trained[0] / "joint")


def test_they_are_judged_beside_the_refiner(
    lane: Lane, trained: tuple[Path, dict[str, float], Observer], tmp_path: Path
) -> None:
    params = small_params(evaluate.Params, threads=1)
    metrics = evaluate.run(
        params, lane.packed, lane.floors, lane.model, tmp_path / "e", Observer.quiet(tmp_path / "s"),
        described=trained[0],
    )  # fmt: skip
    views = pd.read_parquet(tmp_path / "e" / "per_sequence.parquet")
    counts = views.groupby("method")["id"].size()
    compared = set(pd.read_csv(tmp_path / "e" / "comparison.csv")["method_b"])
    for form in FORMS:
        assert counts[form] == (views["method"] == "refiner")[views["role"] == "test"].sum()
        assert metrics[f"{form}_sim_mean_abs_dz_cm"] > 0
        assert form in compared


def test_a_folder_of_other_forms_than_its_names_is_refused(
    trained: tuple[Path, dict[str, float], Observer], tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="holds none of .*depth_large"):
        evaluate.open_described(tmp_path, 1)
    (tmp_path / "main").symlink_to(trained[0] / "depth")
    with pytest.raises(StageError, match=r"main \(depth\)"):
        evaluate.open_described(tmp_path, 1)


def test_profile_full_has_the_published_sizes() -> None:
    full = load_params(Params, profile="full")
    for form in FORMS:
        assert full.of(form).architecture == PUBLISHED[form]
    branches = full.of("main").branches
    assert branches is not None
    assert (branches.depth, branches.joint) == (PUBLISHED["depth"], PUBLISHED["joint"])


def test_a_form_that_is_not_whole_is_an_error() -> None:
    demo = few_steps("joint").model_dump()
    demo["forms"]["joint"]["branches"] = load_params(Params).model_dump()["forms"]["main"]["branches"]
    with pytest.raises(ValidationError, match="branches must be given for main, and for no other form"):
        Params.model_validate(demo)
