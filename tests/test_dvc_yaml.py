"""dvc.yaml says the truth about every stage: inputs, outputs, parameters and code."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from flows.deps import code_dependencies, imported_files, read_stages, stage_modules
from stages.core.params import StageParams, load_params, lookup
from stages.custom.command import params_for

ROOT = Path(__file__).resolve().parents[1]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES = read_stages(ROOT)
MODULES = stage_modules(ROOT)
every_stage = pytest.mark.parametrize("name", list(STAGES))


def params_model(name: str) -> type[StageParams]:
    """The parameters of a stage; those of a described lane stand in the lane's own section."""
    run = importlib.import_module(MODULES[name]).run
    model = get_type_hints(run)["params"]
    return params_for(model, described_lane(name)) if described_lane(name) else model


def described_lane(name: str) -> str:
    """The lane of a stage, where data/lanes describes it; else ""."""
    lane = name.partition("-")[0]
    return lane if (ROOT / "data" / "lanes" / f"{lane}.json").is_file() else ""


def sections(name: str) -> list[str]:
    """Paths in params.yaml that a stage reads; of a stage `name@key` the entry of the key too."""
    model = params_model(name)
    return [model.section, *([f"{model.each}.{name.partition('@')[2]}"] if model.each else [])]


def paths(entries: list[Any]) -> set[str]:
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def outputs(stage: dict[str, Any]) -> set[str]:
    return {p for kind in ("outs", "metrics", "plots") for p in paths(stage.get(kind, []))}


@every_stage
def test_stage_is_the_module_of_its_name(name: str) -> None:
    lane, _, step = name.partition("@")[0].partition("-")
    step = step.replace("-", "_")
    lane = "custom" if described_lane(name) else lane
    assert MODULES[name] == (f"stages.{lane}.{step}" if step else f"stages.{lane}")


@every_stage
def test_paths_of_the_command_are_the_dependencies_and_outputs(name: str) -> None:
    stage = STAGES[name]
    words = shlex.split(stage["cmd"])[3:]
    named = {word for word in words if not word.startswith("--")}
    data = {d for d in stage["deps"] if not d.startswith("stages/")}
    assert named == data | outputs(stage)


def test_code_dependencies_cover_what_each_stage_imports() -> None:
    wrong = [
        (d.stage, sorted(d.uncovered), sorted(d.idle))
        for d in code_dependencies(ROOT)
        if d.uncovered or d.idle
    ]
    assert not wrong, f"(stage, lacking, needless): {wrong}"


@every_stage
def test_a_handful_of_code_dependencies(name: str) -> None:
    assert len([d for d in STAGES[name]["deps"] if d.startswith("stages/")]) <= 16


def test_training_does_not_depend_on_report_or_tracking_code() -> None:
    for name in STAGES:
        if "gpu" in STAGES[name].get("meta", {}):
            files = imported_files(ROOT, MODULES[name])
            assert not [f for f in files if "report" in f or "tracking" in f]


@every_stage
def test_parameters_are_those_that_the_stage_reads(name: str) -> None:
    model = params_model(name)
    shared = {k for k, v in PARAMS.items() if k in model.model_fields and not isinstance(v, dict)}
    expected = shared
    for section in sections(name):
        if lookup(PARAMS, section):
            expected.add(section)
        if any(lookup(overlay, section) for overlay in PARAMS["profiles"].values()):
            expected.add(f"profiles.${{profile}}.{section}")
    assert set(STAGES[name].get("params", [])) == expected


@pytest.mark.parametrize("profile", list(PARAMS["profiles"]))
@every_stage
def test_every_profile_fills_every_stage(name: str, profile: str) -> None:
    load_params(params_model(name), ROOT / "params.yaml", profile, name.partition("@")[2] or None)


def test_every_parameter_is_read_by_a_stage() -> None:
    models = [params_model(name) for name in STAGES]
    read = {model.section for model in models} | {model.each for model in models} | {"registry"}
    read |= {"ceph.events"}  # a path that dvc.yaml names
    unread = [
        f"{lane}.{section}"
        for lane, tree in PARAMS.items()
        if isinstance(tree, dict) and lane not in ("profiles", "raw", "registry", "serving")
        for section in tree
        if f"{lane}.{section}" not in read and lane not in read
    ]
    fields = {field for model in models for field in model.model_fields}
    unread += [
        key
        for key, value in PARAMS.items()
        if not isinstance(value, dict) and key not in fields | {"profile"}
    ]
    assert not unread


@every_stage
def test_outputs_lie_where_they_belong_and_none_is_persistent(name: str) -> None:
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[name].get(kind, []):
            (path, options), *_ = entry.items() if isinstance(entry, dict) else [(entry, {})]
            assert path.split("/")[0] in ("data", "models", "reports")
            assert not options.get("persist"), (
                "a persistent output switches DVC's run-cache off for its stage"
            )


def test_stages_are_those_that_dvc_finds() -> None:
    """Repeated stages are written out here and by DVC alike: same names, commands, inputs and outputs."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        found = {stage.name: stage for stage in repo.index.stages if hasattr(stage, "name")}
        assert found.keys() == STAGES.keys()
        for name, stage in found.items():
            if "@" in name:
                assert stage.cmd == STAGES[name]["cmd"].strip()
                assert {out.def_path for out in stage.outs} == outputs(STAGES[name])
                files = {dep.def_path for dep in stage.deps if dep.def_path != "params.yaml"}
                assert files == set(STAGES[name]["deps"])
