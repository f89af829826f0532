"""The code of every model that MLflow serves: files to `stages.<lane>.predict`, its answers to a table.

MLflow copies this file and the package `stages` into each logged model and runs the file when a model is
loaded, so a registered version keeps answering as it did when it was registered.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from stages.core.errors import StageError

Answer = dict[str, Any]
Answers = Callable[[Path, bool, dict[str, Any]], Answer]
"""file, whether a phantom's model may answer on a person's film, options of the lane -> what the lane says"""


class LaneModel(PythonModel):
    """Landmarks of films or motion capture files, given by path or by content."""

    def load_context(self, context: Any) -> None:
        """Open the model among the artifacts; its networks are loaded once."""
        folder = Path(context.artifacts["model"])
        lane = json.loads((folder / "card.json").read_text(encoding="utf-8"))["lane"]
        predictor = importlib.import_module(f"stages.{lane}.predict")
        self._lane = lane
        self._answer = (
            _film_by_film(predictor, folder) if _reads_films(predictor) else _file_by_file(predictor, folder)
        )

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict one row a file.

        Args:
            model_input: in each row `path` (a file that this machine can read) or `content` (its bytes); for
                spines also `hints`, points that a user is sure of: `L4 TL=412,980; T1 BR=300,120`.
            params: `allow_phantom`: let a phantom-trained model answer on a person's film.
        Returns:
            One row a file, in the order of the rows. Columns file; landmarks: the points of a film as lists
            of coordinates in px of the film, or those of every frame of a file of poses in metres, empty
            where there is no answer; answer: all that the lane says of it as JSON, with landmark names,
            the training set and "research use only", or `error` with the reason why there is no answer. A
            row without an answer takes none from the others.
        Raises:
            ValueError: no column says where the files are.
        """
        if not {"path", "content"} & set(model_input.columns):
            raise ValueError(
                f"a column `path` or `content` has to name the files; got {list(model_input.columns)}"
            )
        allow_phantom = bool((params or {}).get("allow_phantom", False))
        rows = [self._row(row, allow_phantom) for row in model_input.to_dict("records")]
        return pd.DataFrame(rows, columns=["file", "landmarks", "answer"])

    def _row(self, row: dict[Any, Any], allow_phantom: bool) -> dict[str, Any]:
        given = {name: row[name] for name in ("path", "content", "hints") if _is_there(row.get(name))}
        name = Path(given["path"]).name if "path" in given else "content"
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            try:
                file = _file(given, Path(scratch))
                answer = self._answer(file, allow_phantom, self._options(given))
            except StageError as error:
                answer = {"error": {"reason": "refused", "detail": str(error)}}
        return {
            "file": name,
            "landmarks": answer.pop("points", []),
            "answer": json.dumps({**answer, "file": name}),
        }

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        if "hints" not in given:
            return {}
        if self._lane not in TAKE_HINTS:
            raise StageError(f"the lane {self._lane} takes no hints: leave the column out")
        return {"hints": [hint.strip() for hint in str(given["hints"]).split(";") if hint.strip()]}


TAKE_HINTS = ("spine",)


def _reads_films(predictor: ModuleType) -> bool:
    return hasattr(predictor, "predict_film")


def _film_by_film(predictor: ModuleType, folder: Path) -> Answers:
    from stages.core.data.decode import FilmError, decode_film
    from stages.core.model.card import load_card
    from stages.core.model.prediction import LIMITS, read_films

    card, model = load_card(folder), predictor.open_model(folder)

    def answer(file: Path, allow_phantom: bool, options: dict[str, Any]) -> Answer:
        try:
            (film,) = read_films(card, [file], allow_phantom).values()
        except StageError:
            try:
                decode_film(file, LIMITS)
            except FilmError as error:  # a lone file that is no film: the reason goes before the summary
                return {"error": {"reason": error.reason, "detail": error.detail}}
            raise
        told = predictor.predict_film(model, film, **options)
        return {**told, "points": [[float(point[axis]) for axis in "xy"] for point in told["landmarks"]]}

    return answer


def _file_by_file(predictor: ModuleType, folder: Path) -> Answers:
    def answer(file: Path, allow_phantom: bool, options: dict[str, Any]) -> Answer:
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            out = Path(scratch) / "out"
            (told,) = predictor.predict_files(folder, [file], out, allow_phantom, **options)
            points = _points(told, out)
        return {name: value for name, value in told.items() if name not in _WRITTEN} | {"points": points}

    return answer


def _points(answer: Answer, out: Path) -> list[Any]:
    """Points of a film, or of each frame of the poses that the lane wrote to `out`."""
    if "poses" in answer:
        with np.load(out / answer["poses"]) as written:
            return written["pose"].astype(float).tolist()
    return [[float(point[axis]) for axis in "xy"] for point in answer.get("landmarks", [])]


_WRITTEN = ("overlay", "poses", "angles", "markers", "angles_page", "motion_page")
"""entries of an answer that name files beside it, which go with the scratch folder"""
_SUFFIXES = {
    b"\xff\xd8": ".jpg",
    b"\x89P": ".png",
    b"PK": ".npz",
    b"II*": ".tif",
    b"MM\0*": ".tif",
    b"PAR1": ".parquet",
}


def _file(given: dict[str, Any], scratch: Path) -> Path:
    """The file of a row: as named, or written to `scratch` from its content."""
    if ("path" in given) == ("content" in given):
        raise StageError(
            "a row needs either `path` or `content`, this one has " + (" and ".join(given) or "none")
        )
    if "path" in given:
        path = Path(given["path"])
        if not path.is_file():
            raise StageError(f"there is no file {path} on the machine that answers")
        return path
    content = given["content"]
    suffix = next((s for magic, s in _SUFFIXES.items() if content.startswith(magic)), ".bin")
    file = scratch / f"content{suffix}"
    file.write_bytes(content)
    return file


def _is_there(value: Any) -> bool:
    """Whether a cell holds something: JSON's null arrives as None or NaN."""
    return isinstance(value, str | bytes) and len(value) > 0


set_model(LaneModel())
