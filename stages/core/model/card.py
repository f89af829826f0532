"""A model folder: `weights.pt`, a plain table of tensors, and `card.json`, which says what they are.

    save_model(folder, network, card)     load_card(folder)     load_weights(folder)

Weights open with `weights_only=True`: a file that would run code is refused, wherever it came from. Both
files are the same bytes for the same weights and card.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.core.data import geometry
from stages.core.errors import StageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "weights.pt"
CARD = "card.json"


class InputSize(BaseModel):
    """Size of the film that a network reads, in px of it; stored films are resized to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    height: int = Field(gt=0)
    width: int = Field(gt=0)

    @property
    def size(self) -> geometry.Size:
        return self.height, self.width


class ModelCard(BaseModel):
    """What a model is, what it was trained on, and what it may be used for.

    Attributes:
        lane, dataset: registered as `<lane>-<dataset>`; a model of "phantom" reads no person's film.
        architecture: name of the network, enough to build it again together with `params`.
        key: DVC key of the training run, "untracked" outside DVC.
        params: the parameters of the training stage.
        input: the size of film that the network reads; None for models that read no film.
        landmarks: landmark names in the order of the output (`schema` in the file).
        n_train: films (or sequences) trained on.
        split_sha256: digest of the locked split.
        research_use_only: always true.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    lane: str
    dataset: str
    architecture: str
    key: str
    params: dict[str, Any]
    input: InputSize | None
    landmarks: tuple[str, ...] = Field(alias="schema", min_length=1)
    n_train: int = Field(ge=0)
    split_sha256: str
    research_use_only: Literal[True] = True

    @property
    def registry_name(self) -> str:
        """The name that this model competes under."""
        return f"{self.lane}-{self.dataset}"

    @property
    def is_phantom(self) -> bool:
        return self.dataset == "phantom"


def save_model(folder: Path, model: torch.nn.Module | Mapping[str, Tensor], card: ModelCard) -> None:
    """Write `weights.pt` and `card.json`; the folder is created, files of these names are replaced.

    See `save_tensors`.
    """
    import torch

    save_tensors(folder / WEIGHTS, model.state_dict() if isinstance(model, torch.nn.Module) else model)
    text = json.dumps(card.model_dump(mode="json", by_alias=True), indent=2, sort_keys=True, allow_nan=False)
    _replace(folder / CARD, f"{text}\n".encode())


def save_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write a table of tensors; the folder is created, a file of this name is replaced.

    Tensors are saved from the CPU, contiguous and each with its own storage, so that the bytes depend on
    their values alone.
    """
    import torch

    # `contiguous()` alone leaves the strides of dimensions of length 1 as they are, and they are saved too
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    # Saved through memory: torch.save writes a file's name into the archive, and the file below is renamed.
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    _replace(file, buffer.getvalue())


def load_card(folder: Path) -> ModelCard:
    """Read `card.json`.

    Raises:
        StageError: if it is missing or does not describe a model; the message names every wrong field.
    """
    path = folder / CARD
    if not path.is_file():
        raise StageError(f"{folder} is not a model folder: it has no {CARD}")
    try:
        return ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise StageError(f"{path} does not describe a model: {wrong_fields(error)}") from None


def load_weights(folder: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Read `weights.pt` of a folder as name -> tensor on `device`, without running anything that the file may contain.

    Raises:
        StageError: if the file is missing, damaged, or anything but a table of tensors.
    """
    import torch

    path = folder / WEIGHTS
    if not path.is_file():
        raise StageError(f"{folder} is not a model folder: it has no {WEIGHTS}")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StageError(
            f"{path} was refused: it holds more than tensors and could run code when opened. "
            f"Use only weights that a training stage of this project wrote. ({_first_line(error)})"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise StageError(
            f"{path} cannot be read as weights, the file is damaged: {_first_line(error)}"
        ) from None
    if not isinstance(state, dict):
        raise StageError(f"{path}: expected a table of tensors, found {type(state).__name__}")
    if wrong := sorted(str(k) for k, v in state.items() if not isinstance(v, torch.Tensor)):
        raise StageError(f"{path}: expected a table of tensors, but {', '.join(wrong[:10])} are none")
    return state


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's files: what a registry knows a model by."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise StageError(f"{folder} holds no files")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def wrong_fields(error: ValidationError) -> str:
    """Every field of a file that pydantic refuses, with its reason, on one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
