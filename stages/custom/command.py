"""How the stages of described lanes start: `python -m stages.custom.convert --lane data/lanes/NAME.json ...`.

The frame of all stages finds a stage's parameters by a fixed section. Here the section is that of the lane:
`NAME.convert` in params.yaml, for the parameters that the stage's own class declares.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable
from pathlib import Path

from stages.core.errors import StageError
from stages.core.params import StageParams
from stages.core.stage import stage_main
from stages.custom.description import read_description

Run = Callable[..., dict[str, float]]


def lane_main(run: Run) -> None:
    """Run a stage from the command line for the lane that `--lane` names."""
    try:
        name = _lane_named(sys.argv[1:])
    except StageError as error:
        sys.exit(f"ERROR: {error}")
    stage_main(for_lane(run, name))


def for_lane(run: Run, lane: str) -> Run:
    """`run` with its parameters in the lane's own section of params.yaml."""

    @functools.wraps(run)
    def of_lane(*args: typing.Any, **options: typing.Any) -> dict[str, float]:
        return run(*args, **options)

    model = params_for(typing.get_type_hints(run)["params"], lane)
    of_lane.__annotations__ = run.__annotations__ | {"params": model}
    return of_lane


def params_for(model: type[StageParams], lane: str) -> type[StageParams]:
    """The parameter class of a described lane: `model` with the section `<lane>.<step>`."""
    step = model.section.rpartition(".")[2]
    return type(model.__name__, (model,), {"section": f"{lane}.{step}", "__module__": model.__module__})


def _lane_named(arguments: list[str]) -> str:
    if "--lane" not in arguments[:-1]:
        raise StageError("a stage of a described lane needs --lane data/lanes/NAME.json")
    file = Path(arguments[arguments.index("--lane") + 1])
    described = read_description(file)
    if described.name != file.stem:
        raise StageError(f"{file} describes the lane '{described.name}': a description is named as its lane")
    return described.name
