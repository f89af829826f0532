"""The pose-aware depth refiner: one estimated pose and its 2D detections -> better depths.

Its parts are the described ones: a joint encoder, a 2D encoder with fifteen features read off the picture, a
predictor of the camera's position, a Fourier code of the view, attention across the joints, a head for depth
and one for confidence. What it is given differs, so that it can be used where only an estimate is known:

- the view is what the network itself predicts: a unit vector in the body's frame, never the label's camera;
- 2D is in metres about the detected hips (see `windows`), then in torsos, whatever the picture's shape;
- the confidence head gives the scale of a Laplace distribution, which means the same in every batch.

The pose is divided by its own torso's length and the answer multiplied by it: a larger person, the same
correction in proportion. Heads start at zero, so that training starts from the estimate.

The larger form turns limbs instead of moving joints: it predicts the direction of each, and puts the pose together
again in chain order with the lengths that the estimate's limbs have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.pose.body.skeleton import ARMS, HEAD, HIPS, LEGS, LIMBS, N_JOINTS, NOSE, SHOULDERS
from stages.pose.model.architecture import Architecture
from stages.pose.model.attention import Block

_OCTAVES = 8
_NEAREST_M = 2.0
_TYPICAL_ERROR = 0.2
"""In torsos; brings what the heads give to about unit size."""
_RESIDUAL_SHARE = 0.3
_LEAST_TORSO_M = 0.1
_EPSILON = 1e-6

ORIENTED = (
    *LIMBS,
    SHOULDERS,
    HIPS,
    *zip(SHOULDERS, HIPS, strict=True),
    *zip(SHOULDERS, HIPS[::-1], strict=True),
)
"""The fourteen limbs whose directions the larger form predicts: eight limbs, two lines, two sides, two diagonals."""
_PARENTS, _CHILDREN = (list(ends) for ends in zip(*ORIENTED, strict=True))


class DepthAnswer(NamedTuple):
    """pose (B, 17, 3) metres; log_scale (B, 17) of expected |dz| in metres; view (B, 3) unit direction to the
    camera in the body's frame (forward, up, right); log_distance (B,) of the camera in metres."""

    pose: Tensor
    log_scale: Tensor
    view: Tensor
    log_distance: Tensor


class Layers(nn.Sequential):
    """Layers one after the other, of single tokens: see `attention` on why their shape is (B N, width) inside."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n_in) or (B, N, n_in)"""
        if tokens.dim() == 2:
            return super().forward(tokens)
        out = super().forward(tokens.reshape(-1, int(tokens.shape[2])))
        return out.reshape(-1, int(tokens.shape[1]), int(out.shape[1]))


def mlp(*widths: int, dropout: float = 0.0) -> Layers:
    """Linear layers with ReLU, and dropout where there is some, between them."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        if i:
            layers += [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
        layers.append(nn.Linear(n_in, n_out))
    return Layers(*layers)


def zero_last(network: Layers) -> Layers:
    """Let the last layer start at zero."""
    nn.init.zeros_(network[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[-1].bias)  # type: ignore[arg-type]
    return network


def joint_codes(n: int, width: int) -> Tensor:
    """(n, width) sines and cosines of a token's number: tells joints apart without parameters."""
    rate = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    angle = torch.arange(n)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def torso_of(pose: Tensor) -> Tensor:
    """(B, 1, 1) length of the trunk in metres, never near zero."""
    trunk = _mid(pose, SHOULDERS) - _mid(pose, HIPS)
    return (trunk.square().sum(-1) + 1e-12).sqrt().clamp_min(_LEAST_TORSO_M)[:, None, None]


def hand_features(seen: Tensor) -> Tensor:
    """Fifteen features (B, 15) of root-centred 2D positions (B, 17, 2), u to the right and v down.

    In order: shoulders' v, left less right; hips' v; |shoulders|; |hips|; arms' length, left over right; left less
    right; legs' ratio; legs' difference; torso; torso over |shoulders|; nose u less torso's centre u; nose v less
    shoulders' v; mean u of the left side less that of the right; body centre u; v. A leg or arm is both its limbs.
    """
    vectors = _DIFFERENCES.to(seen) @ seen
    length = _norm(vectors)
    arm_left, arm_right, leg_left, leg_right = length[:, 3:11].reshape(-1, 4, 2).sum(-1).unbind(1)
    columns = [
        vectors[:, 0, 1],
        vectors[:, 1, 1],
        length[:, 0],
        length[:, 1],
        arm_left / (arm_right + _EPSILON),
        arm_left - arm_right,
        leg_left / (leg_right + _EPSILON),
        leg_left - leg_right,
        length[:, 2],
        length[:, 2] / (length[:, 0] + _EPSILON),
        vectors[:, 11, 0],
        vectors[:, 12, 1],
        vectors[:, 13, 0],
        vectors[:, 14, 0],
        vectors[:, 14, 1],
    ]
    return torch.stack(columns, dim=1)


def _differences() -> Tensor:
    """(15, 17) of the vectors that the hand features are read from: a mean of joints less another mean.

    Shoulders and hips, left less right; torso; eight limbs; nose from the torso's centre and from the shoulders'
    middle; left side from right side; the torso's centre.
    """
    trunk = (*SHOULDERS, *HIPS)
    left, right = ([joint for chain in side for joint in chain] for side in zip(ARMS, LEGS, strict=True))
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [
        *(((a,), (b,)) for a, b in (SHOULDERS, HIPS)),
        (SHOULDERS, HIPS),
        *(((child,), (parent,)) for parent, child in LIMBS),
        ((NOSE,), trunk),
        ((NOSE,), SHOULDERS),
        (left, right),
        (trunk, ()),
    ]
    rows = torch.zeros(len(pairs), N_JOINTS)
    for row, (plus, minus) in zip(rows, pairs, strict=True):
        row[list(plus)] += 1 / len(plus)
        row[list(minus)] -= 1 / max(1, len(minus))
    return rows


_DIFFERENCES = _differences()


def view_code(view: Tensor) -> Tensor:
    """(B, 3) unit directions (forward, up, right) -> (B, 34): azimuth / 360, elevation / 90 and their octaves."""
    azimuth = torch.remainder(torch.atan2(view[:, 2], view[:, 0]) / (2 * math.pi), 1.0)
    level = (view[:, 0].square() + view[:, 2].square() + 1e-12).sqrt()
    elevation = torch.atan2(view[:, 1], level) / (math.pi / 2)
    octaves = 2.0 ** torch.arange(_OCTAVES, device=view.device)
    around = 2 * math.pi * azimuth[:, None] * octaves
    above = math.pi * elevation[:, None] * octaves
    code = [torch.stack([azimuth, elevation], 1), around.sin(), around.cos(), above.sin(), above.cos()]
    return torch.cat(code, dim=1)


class Pose2DEncoder(nn.Module):
    """(B, 17, 2) positions in torsos -> (B, width): the raw ones, and the fifteen features beside them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.raw = mlp(2 * N_JOINTS, 2 * width, width)
        self.features = mlp(15, width, width)
        self.join = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())

    def forward(self, seen: Tensor) -> Tensor:
        return self.join(torch.cat([self.raw(seen.flatten(1)), self.features(hand_features(seen))], dim=1))


class CameraPredictor(nn.Module):
    """Where the camera stands, from the joints' features and the picture's: direction (B, 3), log distance (B,)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        n_in = (N_JOINTS + 1) * width
        self.direction = mlp(n_in, 4 * width, 2 * width, 3, dropout=dropout)
        self.distance = mlp(n_in, width, 1)

    def forward(self, joints: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.cat([joints.flatten(1), picture], dim=1)
        direction = self.direction(features)
        unit = direction / (direction.square().sum(1, keepdim=True) + 1e-12).sqrt()
        distance = nn.functional.softplus(self.distance(features))[:, 0] + _NEAREST_M
        return unit, distance.log()


class PoseAwareDepthRefiner(nn.Module):
    """See the module's docstring. 655,942 parameters at the described size (64 wide, 4 layers, 4 heads)."""

    joint_code: Tensor

    def __init__(self, architecture: Architecture, limbs: bool = False) -> None:
        """`limbs`: the larger form."""
        super().__init__()
        width, dropout = architecture.width, architecture.dropout
        self.encode_joint = mlp(4, width, width)
        self.encode_picture = Pose2DEncoder(width)
        self.camera = CameraPredictor(width, dropout)
        self.encode_view = mlp(2 + 4 * _OCTAVES, width, width)
        self.attend = nn.Sequential(*(Block(architecture) for _ in range(architecture.layers)))
        self.move = zero_last(mlp(2 * width, width, 3 if limbs else 1))
        self.confidence = zero_last(mlp(2 * width, width, 1))
        self.turn = LimbDirections(width) if limbs else None
        self.register_buffer("joint_code", joint_codes(N_JOINTS, width), persistent=False)

    def forward(self, pose: Tensor, visibility: Tensor, seen: Tensor) -> DepthAnswer:
        """
        Args:
            pose: (B, 17, 3) metres, camera frame, root-relative; visibility: (B, 17); seen: (B, 17, 2) metres.
        """
        torso = torso_of(pose)
        unit, picture = pose / torso, self.encode_picture(seen / torso)
        joints = self.encode_joint(torch.cat([unit, visibility[..., None]], -1)) + self.joint_code
        view, log_distance = self.camera(joints, picture)
        # Only the view's own loss teaches the camera: depth must not bend it into a code of its own.
        code = self.encode_view(view_code(view.detach()))
        attended = self.attend(joints + (picture + code)[:, None])
        both = torch.cat([attended, code[:, None].expand_as(attended)], -1)
        delta = _TYPICAL_ERROR * self.move(both)
        if self.turn is None:
            refined = unit + nn.functional.pad(delta, (2, 0))
        else:
            refined = self.turn(unit, seen / torso, attended, view.detach()) + _RESIDUAL_SHARE * delta
        refined = torso * (refined - _mid(refined, HIPS)[:, None])
        log_scale = (torso * _TYPICAL_ERROR).log()[:, :, 0] + self.confidence(both)[..., 0]
        return DepthAnswer(refined, log_scale, view, log_distance)


class LimbDirections(nn.Module):
    """Turns fourteen limbs and puts the pose together again, each limb as long as it was."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predict = zero_last(mlp(4 + 3 + 2 * width + 7, width, width, 3))

    def forward(self, unit: Tensor, seen: Tensor, joints: Tensor, view: Tensor) -> Tensor:
        """
        Args:
            unit: (B, 17, 3) pose and seen: (B, 17, 2) picture in torsos; joints: (B, 17, width) features;
            view: (B, 3) direction to the camera.
        Returns:
            (B, 17, 3) the pose with its limbs turned.
        """
        flat, bone = seen[:, _CHILDREN] - seen[:, _PARENTS], unit[:, _CHILDREN] - unit[:, _PARENTS]
        flat_length, length = _norm(flat)[..., None], _norm(bone)[..., None]
        direction = bone / length
        picture = [flat / flat_length, flat_length, flat_length / length]
        seen_from = _view_features(view)[:, None].expand(-1, len(ORIENTED), -1)
        near = [joints[:, _PARENTS], joints[:, _CHILDREN]]
        turned = direction + self.predict(torch.cat([*picture, direction, *near, seen_from], -1))
        return rebuild(unit, turned / _norm(turned)[..., None] * length)


def rebuild(pose: Tensor, bones: Tensor) -> Tensor:
    """The pose whose limbs are `bones` (B, 14, 3), from the hips outwards.

    Hips and shoulders lie about their middles on their own line; the shoulders' middle is where the trunk's
    sides and diagonals put it on average; the head goes with the shoulders' middle.
    """
    limb = dict(zip(ORIENTED, bones.unbind(1), strict=True))
    place: dict[int, Tensor] = {}
    for pair, middle in ((HIPS, _mid(pose, HIPS)), (SHOULDERS, None)):
        if middle is None:
            ends = [place[hip] - limb[shoulder, hip] for shoulder in SHOULDERS for hip in HIPS]
            middle = torch.stack(ends).mean(0)
        place[pair[0]], place[pair[1]] = middle - limb[pair] / 2, middle + limb[pair] / 2
    moved = (place[SHOULDERS[0]] + place[SHOULDERS[1]]) / 2 - _mid(pose, SHOULDERS)
    place |= {joint: pose[:, joint] + moved for joint in HEAD}
    for parent, child in LIMBS:
        place[child] = place[parent] + limb[parent, child]
    return torch.stack([place[joint] for joint in range(N_JOINTS)], dim=1)


def _view_features(view: Tensor) -> Tensor:
    """(B, 7): the direction itself, and sine and cosine of azimuth and elevation."""
    forward, up, right = view.unbind(1)
    level = (forward.square() + right.square() + 1e-12).sqrt()
    return torch.cat([view, torch.stack([right / level, forward / level, up, level], 1)], dim=1)


def _norm(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def _mid(pose: Tensor, pair: tuple[int, int]) -> Tensor:
    return (pose[:, pair[0]] + pose[:, pair[1]]) / 2
