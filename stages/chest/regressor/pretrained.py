"""A backbone from a file of weights: torchvision's ResNets of basic blocks, or a model of this project.

    conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer2.0.downsample.0 ...   torchvision
    0, 1, 4.conv1, 4.norm1, 6.shortcut.0 ...                               the backbone of `LandmarkRegressor`

Only the backbone is taken; the file's head answers another question.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.chest.regressor.architecture import Architecture
from stages.core.errors import StageError

COUNTER = "num_batches_tracked"
"""Steps that a normalisation saw: nothing reads it, and old files lack it."""
STEM = 4
"""Layers of the backbone before the first residual block."""


def checked_digest(file: Path, expected: str) -> str:
    """SHA-256 of a file of weights.

    Raises:
        StageError: there is no such file, or params.yaml names another hash.
    """
    if not file.is_file():
        raise StageError(f"chest.start.weights: there is no file {file}; give a path, or 'random'")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise StageError(
            f"chest.start.weights: the SHA-256 of {file} is {found}, but weights_sha256 is '{expected}'. If it "
            "is the right file, put this hash into params.yaml: by it the pipeline notices another file"
        )
    return found


def load_backbone(backbone: nn.Module, architecture: Architecture, file: Path) -> None:
    """Fill a backbone of `LandmarkRegressor` from a file.

    Where the network reads one channel and the file's reads three, the first convolution is summed over them:
    it then answers as to a grey film in three equal channels.

    Raises:
        StageError: naming every layer that is missing, left over or of another shape.
    """
    expected = {published_name(name, architecture): value for name, value in backbone.state_dict().items()}
    found = _published_backbone(_read(file), architecture)
    first = found.get("conv1.weight")
    if first is not None and architecture.film_channels == 1 and first.ndim == 4 and first.shape[1] == 3:
        found["conv1.weight"] = first.sum(1, keepdim=True)
    for name, value in expected.items():
        if name.endswith(COUNTER):
            found.setdefault(name, value)
    problems = [f"{name}: missing" for name in expected if name not in found]
    problems += [f"{name}: not in this network" for name in found if name not in expected]
    problems += [
        f"{name}: {tuple(found[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if problems:
        raise StageError(f"{file} does not fit chest.start.architecture:\n  " + "\n  ".join(problems))
    own = {name: found[published_name(name, architecture)] for name in backbone.state_dict()}
    backbone.load_state_dict(own)


def published_name(name: str, architecture: Architecture) -> str:
    """torchvision's name of a weight of our backbone."""
    number, _, rest = name.partition(".")
    if int(number) < STEM:
        return f"{('conv1', 'bn1')[int(number)]}.{rest}"
    block, stage = int(number) - STEM, 0
    while block >= architecture.blocks[stage]:
        block, stage = block - architecture.blocks[stage], stage + 1
    return f"layer{stage + 1}.{block}.{rest.replace('norm', 'bn').replace('shortcut', 'downsample')}"


def _published_backbone(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The file's backbone under torchvision's names."""
    if not any(name.startswith("backbone.") for name in state):
        return {name: value for name, value in state.items() if not name.startswith("fc.")}
    own = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    blocks = sum(architecture.blocks) + STEM
    return {
        published_name(n, architecture) if int(n.split(".")[0]) < blocks else n: v for n, v in own.items()
    }


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise StageError(
            f"{file} was refused: it holds more than tensors and could run code when opened. Save the network's "
            "state_dict alone"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise StageError(f"{file} cannot be read as weights: {error}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise StageError(f"{file}: expected a state_dict, a table of tensors")
    return state
