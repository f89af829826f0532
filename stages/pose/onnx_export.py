"""A trained refiner as one ONNX file: `plumbline export pose` and the latency bench call it.

    inputs     as `model.forms.INPUTS` names them, float32; the first dimension is the batch, of any size
    outputs    refined (B, 17, 3) metres, camera frame, root-relative; expected_abs_dz_m (B, 17)

The file holds one pass of the network. Windows, angles and the mean with the mirrored answer are made outside
it, as `model.windows`, `model.forms` and `Refiner.refine` do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.core.errors import StageError
from stages.core.export.onnx_file import require, save, session
from stages.pose.model.forms import INPUTS, inputs_of
from stages.pose.model.inference import Refiner
from stages.pose.model.windows import make_window

if TYPE_CHECKING:
    from torch import Tensor, nn

OUTPUTS = ("refined", "expected_abs_dz_m")
TOLERANCE = 1e-4
"""Metres by which torch and ONNX Runtime may differ on the poses of the check."""
_CHECKED_BATCHES = (1, 7)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote: the form, its inputs' names, and the largest difference to torch in metres."""

    form: str
    inputs: tuple[str, ...]
    max_difference_m: float

    def lines(self) -> dict[str, str]:
        """What a command prints."""
        return {
            "form": self.form,
            "inputs": ", ".join(self.inputs),
            "outputs": ", ".join(OUTPUTS),
            "largest difference to torch": f"{1000 * self.max_difference_m:.2g} mm (allowed {1000 * TOLERANCE:g})",
        }


def export(model: Path, file: Path) -> Exported:
    """Write the model of a folder as ONNX and hold it against torch on made-up poses.

    Args:
        model: folder of pose-train.
        file: is replaced; its folder is created. Equal models give equal bytes.
    Raises:
        StageError: onnx or onnxruntime is missing, or the two differ by more than TOLERANCE; the file is then
            removed.
    """
    require()
    import torch

    refiner = Refiner.load(model, threads=1)
    names = INPUTS[refiner.form]
    sample = sample_inputs(refiner, 2)
    batch = {0: "batch"}
    facts = {
        "lane": refiner.card.lane,
        "dataset": refiner.card.dataset,
        "architecture": refiner.card.architecture,
        "key": refiner.card.key,
        "notice": "research use only",
        "landmarks": json.dumps(refiner.card.landmarks),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    inputs = dict(zip(names, map(torch.from_numpy, sample), strict=True))
    save(file, one_pass(refiner.network), inputs, OUTPUTS, dict.fromkeys((*names, *OUTPUTS), batch), facts)
    difference = max(_difference(refiner, file, n) for n in _CHECKED_BATCHES)
    if not difference <= TOLERANCE:
        file.unlink()
        raise StageError(
            f"{model}: ONNX Runtime differs from torch by {difference:.2g} m; allowed {TOLERANCE:g}"
        )
    return Exported(refiner.form, names, difference)


def one_pass(network: nn.Module) -> nn.Module:
    """The network with the two outputs of every form: poses, and expected depth errors in metres."""
    from torch import nn

    class OnePass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
            answer = self.network(*inputs)
            return answer[0], answer[1].exp()

    return OnePass().eval()


def sample_inputs(refiner: Refiner, n: int) -> tuple[np.ndarray, ...]:
    """Inputs of `n` made-up people."""
    rng = np.random.default_rng(n)
    n_frames = len(refiner.card.params["window_s"])
    pose = rng.normal(0, 0.3, (n, n_frames, 17, 3))
    uv = 300 * pose[..., :2] + rng.normal(0, 5, (n, n_frames, 17, 2))
    return inputs_of(refiner.form, make_window(pose, rng.uniform(0.2, 1, (n, n_frames, 17)), uv))


def _difference(refiner: Refiner, file: Path, n: int) -> float:
    """Largest difference of torch's and ONNX Runtime's outputs for a batch of `n`, metres."""
    import torch

    inputs = sample_inputs(refiner, n)
    with torch.inference_mode():
        ours = one_pass(refiner.network)(*map(torch.from_numpy, inputs))
    theirs = session(file).run(None, dict(zip(INPUTS[refiner.form], inputs, strict=True)))
    return max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs, strict=True))
