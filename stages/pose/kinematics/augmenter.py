"""The marker augmenter of OpenCap and Pose2Sim (LSTM v0.3): 43 skin markers beside twenty-two points.

Its folder is the user's; nothing of it is part of this project:

    lower/ model.onnx mean.npy std.npy      15 markers -> 35 of trunk and legs
    upper/ model.onnx mean.npy std.npy       7 markers -> 8 of the arms

Uhlrich et al. 2023, Falisse et al. 2024. What it adds is learnt from other people's motion: turns about long axes
and the pelvis's tilt are its experience, not an observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import StageError
from stages.pose.kinematics.markers import AUGMENTED, BASIC, LOWER, UPPER

LOWER_INPUTS: tuple[str, ...] = (
    "Neck",
    *(f"{side}{part}" for part in ("Shoulder", "Hip", "Knee", "Ankle", "Heel", "SmallToe", "BigToe")
      for side in "RL"),
)  # fmt: skip
UPPER_INPUTS: tuple[str, ...] = (
    "Neck",
    *(f"{side}{part}" for part in ("Shoulder", "Elbow", "Wrist") for side in "RL"),
)
_FILES = ("model.onnx", "mean.npy", "std.npy")
_HEIGHTS_M, _MASSES_KG = (1.0, 2.3), (20.0, 250.0)


@dataclass(frozen=True)
class _Part:
    """One of the two networks: markers in, markers out."""

    session: Any
    mean: np.ndarray
    std: np.ndarray
    inputs: Sequence[str]
    outputs: Sequence[str]

    def run(
        self, markers: Mapping[str, np.ndarray], height_m: float, mass_kg: float
    ) -> dict[str, np.ndarray]:
        hip = markers["Hip"]
        relative = [(markers[name] - hip) / height_m for name in self.inputs]
        body = np.broadcast_to([height_m, mass_kg], (len(hip), 2))
        features = (np.concatenate([*relative, body], axis=1) - self.mean) / self.std
        (found,) = self.session.run(None, {"inputs": features[None].astype(np.float32)})
        places = found[0].reshape(len(hip), -1, 3).astype(np.float64) * height_m + hip[:, None]
        return {name: places[:, k] for k, name in enumerate(self.outputs)}


@dataclass(frozen=True)
class Augmenter:
    """Both networks, loaded."""

    lower: _Part
    upper: _Part

    @classmethod
    def load(
        cls, folder: Path, threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> Augmenter:
        """Open a folder of the augmenter.

        Raises:
            StageError: onnxruntime is not installed, or files are missing or of another version; names all.
        """
        try:
            import onnxruntime
        except ImportError:
            raise StageError(
                "the marker augmenter needs onnxruntime: pip install 'plumbline[export]'"
            ) from None
        missing = [f"{part}/{file}" for part in ("lower", "upper") for file in _FILES
                   if not (folder / part / file).is_file()]  # fmt: skip
        if missing:
            raise StageError(
                f"{folder} is not a folder of the marker augmenter (LSTM v0.3): it lacks {', '.join(missing)}. "
                "It comes with Pose2Sim, under MarkerAugmenter/LSTM/v0.3_lower and v0.3_upper."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        parts, problems = [], []
        for name, inputs, outputs in (("lower", LOWER_INPUTS, LOWER), ("upper", UPPER_INPUTS, UPPER)):
            model, mean, std = (folder / name / file for file in _FILES)
            session = onnxruntime.InferenceSession(model, options, providers=list(providers))
            part = _Part(session, np.load(mean), np.load(std), inputs, outputs)
            sizes = (session.get_inputs()[0].shape[-1], session.get_outputs()[0].shape[-1], len(part.mean))
            wanted = (3 * len(inputs) + 2, 3 * len(outputs), 3 * len(inputs) + 2)
            if sizes != wanted:
                problems.append(
                    f"{name} maps {sizes[0]} to {sizes[1]} numbers; expected {wanted[0]} to {wanted[1]}"
                )
            parts.append(part)
        if problems:
            raise StageError(f"{folder} holds another version of the augmenter: {'; '.join(problems)}")
        return cls(*parts)

    def augment(
        self,
        markers: Mapping[str, np.ndarray],
        height_m: float,
        mass_kg: float,
        turn_to_front: bool = True,
    ) -> dict[str, np.ndarray]:
        """All sixty-five markers of one person's sequence, by name.

        Args:
            markers: (N, 3) each of `BASIC`, metres, consecutive frames, in a vertical frame (x level, y up, z
                right of x): markers shift by centimetres where gravity is off by 20 degrees.
            height_m, mass_kg: of the person.
            turn_to_front: turn the sequence for the networks so that the person faces x on average, and
                what comes out back again. As they come, the networks put the arms' markers up to some
                centimetres elsewhere for a person who faces another way.
        Raises:
            StageError: markers are missing or hold values that are not finite, or the body is implausible.
        """
        if missing := [name for name in BASIC if name not in markers]:
            raise StageError(
                f"the augmenter needs the markers {', '.join(BASIC)}; missing: {', '.join(missing)}"
            )
        if holes := [name for name in BASIC if not np.isfinite(markers[name]).all()]:
            raise StageError(f"the augmenter needs whole sequences; not finite: {', '.join(holes)}")
        for name, value, unit, (low, high) in (
            ("height", height_m, "m", _HEIGHTS_M),
            ("mass", mass_kg, "kg", _MASSES_KG),
        ):
            if not low <= value <= high:
                raise StageError(f"{name} is {value:g} {unit}; expected {low:g} to {high:g} {unit}")
        turn = heading(markers) if turn_to_front else np.eye(3)
        turned = {name: markers[name] @ turn.T for name in BASIC}
        added = {
            **self.lower.run(turned, height_m, mass_kg),
            **self.upper.run(turned, height_m, mass_kg),
        }
        return {name: added[name] @ turn if name in added else markers[name] for name in AUGMENTED}


def heading(markers: Mapping[str, np.ndarray]) -> np.ndarray:
    """(3, 3) the turn about y after which the person faces x, on average over the sequence."""
    x, _, z = (markers["RHip"] - markers["LHip"]).sum(0)
    # forward of the hip line is (z, 0, -x)
    length = np.hypot(x, z)
    cosine, sine = (z / length, -x / length) if length > 0 else (1.0, 0.0)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
