"""ONNX files of film models: written, opened again with ONNX Runtime, and held against the lane's own prediction.

    input      film (H, W) uint8, grey, of any size, upright, as `core.data.decode` gives its pixels
    outputs    landmarks (K, 2) float64, px of that film, and what the lane says of each point

A film passes through everything that prediction does to it: resizing, crops, networks, decoding, calibration.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.data import geometry
from stages.core.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.core.model.card import ModelCard

FILM, LANDMARKS = "film", "landmarks"
OPSET = 17
TOLERANCE = 2e-4
"""Share of the film's longer side by which a point of ONNX Runtime may lie off the lane's own: 0.05 px at 224."""
STRAYS = 0.01
"""Share of all points that may lie further apart: where two places of a map are as high, a hair decides."""
ODD_SIZES = (0.37, 0.83), (1.31, 0.93), (0.07, 0.11)
"""Heights and widths, as shares of a film's own, at which the first film is asked for once more."""

Inputs = Mapping[str, np.ndarray]
Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class FilmModel:
    """What `write_film_model` needs of a lane.

    Attributes:
        card: of the model.
        graph: takes the inputs in their order and gives the outputs in theirs.
        inputs, outputs: name -> what it is, in words; `film` and `landmarks` come first.
        answer: the outputs for some inputs by the lane's own prediction.
    """

    card: ModelCard
    graph: nn.Module
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    answer: Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Exported:
    """What was written, and how it answers beside the lane's own prediction.

    Attributes:
        inputs: their names.
        differences: output -> largest difference, px for points.
        of_tolerance: the distance of two points as a share of what is allowed, all but STRAYS of them.
        n_checked: films.
    """

    inputs: tuple[str, ...]
    differences: Mapping[str, float]
    of_tolerance: float
    n_checked: int

    def lines(self) -> dict[str, str]:
        """What a command prints."""
        return {
            "inputs": ", ".join(self.inputs),
            "outputs": ", ".join(self.differences),
            "films compared with torch": str(self.n_checked),
            "largest difference": _told(self.differences),
            "share of the allowed distance": f"{self.of_tolerance:.2g}",
        }


FILM_SAYS = "(H, W) uint8, grey values of one film of any size, upright, bone bright"
LANDMARKS_SAY = "(K, 2) float64, x and y in px of the film, a pixel's centre at whole numbers"


def write_film_model(file: Path, model: FilmModel, checks: Sequence[Inputs]) -> Exported:
    """Write a model as ONNX if it answers the checks as the lane's own prediction does.

    Args:
        file: is replaced; its folder is created. Equal models give equal bytes.
        checks: inputs to hold the file to; the first ones trace the graph.
    Raises:
        StageError: onnx or onnxruntime is missing, or points lie further off than TOLERANCE; `file` is then
            left as it was.
    """
    require()
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        sample = {name: torch.from_numpy(value.copy()) for name, value in checks[0].items()}
        axes = {FILM: {0: "height", 1: "width"}}
        given = tuple(sample.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are fixed on purpose
            graph = torch.jit.trace(model.graph.eval(), given, check_trace=False)
        save(partial, graph, sample, tuple(model.outputs), axes, _facts(model))
        exported = _compared(session(partial), model, checks)
        if not exported.of_tolerance <= 1:
            raise StageError(
                f"{file.name} was not written: ONNX Runtime and torch do not place the points alike "
                f"({exported.of_tolerance:.2g} times the allowed distance). Largest differences: "
                f"{_told(exported.differences)}. Export with the versions of requirements.lock"
            )
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return exported


def require() -> None:
    """A StageError where the packages are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise StageError(f"{error.name} is not installed: pip install 'plumbline[export]'") from None


def save(
    file: Path,
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    facts: Mapping[str, str],
) -> None:
    """Write a network or a traced graph; `axes` are the dimensions of any size, `facts` its metadata."""
    import onnx
    import torch

    with warnings.catch_warnings():
        # The exporter that torch prefers needs a package more; what depends on values is scripted or masked.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                tuple(inputs.values()),
                str(file),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: dict(sides) for name, sides in axes.items()},
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise StageError(
                f"torch cannot write this network as ONNX: {str(error).splitlines()[0]}"
            ) from error
    content = onnx.load(str(file))
    onnx.helper.set_model_props(content, dict(facts))
    onnx.save(content, str(file))


def session(file: Path) -> Any:
    """An ONNX Runtime session on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def ask(opened: Any, inputs: Inputs) -> Outputs:
    """All outputs of a session by name."""
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(inputs)), strict=True))


def check_films(films: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The films, and the first one stretched to odd sizes, also to less than a network reads."""
    height, width = films[0].shape
    stretched = [(round(height * h) | 1, round(width * w) | 1) for h, w in ODD_SIZES]
    return [*films, *(geometry.resize(films[0], size) for size in stretched)]


def _facts(model: FilmModel) -> dict[str, str]:
    card = model.card
    return {
        "lane": card.lane,
        "dataset": card.dataset,
        "architecture": card.architecture,
        "key": card.key,
        "notice": "research use only",
        "landmarks": json.dumps(card.landmarks),
        "inputs": json.dumps(dict(model.inputs)),
        "outputs": json.dumps(dict(model.outputs)),
    }


def _compared(opened: Any, model: FilmModel, checks: Sequence[Inputs]) -> Exported:
    differences, shares = dict.fromkeys(model.outputs, 0.0), []
    for inputs in checks:
        theirs, ours = ask(opened, inputs), model.answer(inputs)
        apart = {name: _apart(ours[name], theirs[name], name == LANDMARKS) for name in model.outputs}
        differences = {name: max(differences[name], float(each.max())) for name, each in apart.items()}
        shares.append(apart[LANDMARKS] / (TOLERANCE * max(inputs[FILM].shape)))
    of_tolerance = float(np.quantile(np.concatenate(shares), 1 - STRAYS, method="higher"))
    return Exported(tuple(model.inputs), differences, of_tolerance, len(checks))


def _apart(ours: np.ndarray, theirs: np.ndarray, are_points: bool) -> np.ndarray:
    """(K,) distances of points, or differences of numbers; infinite where one is no number."""
    off = np.asarray(ours, np.float64) - theirs
    apart = np.linalg.norm(off, axis=-1) if are_points else np.abs(off)
    return np.where(np.isfinite(apart), apart, np.inf)


def _told(differences: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
