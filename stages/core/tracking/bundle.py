"""The code of every model that MLflow serves: files to `stages.<lane>.predict`, its answers to a table.

MLflow copies this file and the package `stages` into each logged model and runs the file when a model is
loaded, so a registered version keeps answering as it did when it was registered.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class LaneModel(PythonModel):
    """Landmarks of films or motion capture files, given by path or by content."""

    def load_context(self, context: Any) -> None:
        """Find the model folder among the artifacts."""
        self._folder = Path(context.artifacts["model"])
        self._lane = json.loads((self._folder / "card.json").read_text(encoding="utf-8"))["lane"]

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict one row a file.

        Args:
            model_input: column `path` (a file that this machine can read) or `content` (its bytes).
            params: `allow_phantom`: let a phantom-trained model answer on a person's film.
        Returns:
            One row a file, in the order of the rows. Columns file; landmarks: the points of a film as lists
            of coordinates in px of the film, or those of every frame of a file of poses in metres, empty
            where a file cannot be used; answer: all that the lane says of it as JSON, with landmark names,
            the training set and "research use only", or the reason why there is no answer.
        """
        predictor = importlib.import_module(f"stages.{self._lane}.predict")
        allow_phantom = bool((params or {}).get("allow_phantom", False))
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            files, out = _files(model_input, Path(scratch) / "in"), Path(scratch) / "out"
            answers = predictor.predict_files(self._folder, files, out, allow_phantom)
            landmarks = {answer["file"]: _landmarks(answer, out) for answer in answers}
        said = {answer["file"]: _without_files(answer) for answer in answers}
        return pd.DataFrame(
            {
                "file": [file.name for file in files],
                "landmarks": [landmarks[str(file)] for file in files],
                "answer": [json.dumps(said[str(file)]) for file in files],
            }
        )


def _landmarks(answer: dict[str, Any], out: Path) -> list[Any]:
    """Points of a film, or of each frame of the poses that the lane wrote to `out`."""
    if "poses" in answer:
        with np.load(out / answer["poses"]) as written:
            return written["pose"].astype(float).tolist()
    return [[float(point[axis]) for axis in "xy"] for point in answer.get("landmarks", [])]


_WRITTEN = ("overlay", "poses", "angles", "markers", "angles_page", "motion_page")
"""entries of an answer that name files beside it"""


def _without_files(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without paths, and without the pictures and arrays that go with the scratch folder."""
    kept = {name: value for name, value in answer.items() if name not in _WRITTEN}
    return kept | {"file": Path(answer["file"]).name}


_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"PK": ".npz", b"II*": ".tif", b"MM\0*": ".tif"}


def _files(table: pd.DataFrame, scratch: Path) -> list[Path]:
    """The files to read: as named, or written to `scratch` from their content."""
    given = [name for name in ("path", "content") if name in table and table[name].notna().all()]
    if len(given) != 1:
        raise ValueError(f"every row needs either `path` or `content`; got columns {list(table.columns)}")
    if given == ["path"]:
        return [Path(path) for path in table["path"]]
    scratch.mkdir(parents=True)
    files = []
    for number, content in enumerate(table["content"]):
        suffix = next((s for magic, s in _SUFFIXES.items() if content.startswith(magic)), ".bin")
        files.append(scratch / f"{number:06}{suffix}")
        files[-1].write_bytes(content)
    return files


set_model(LaneModel())
