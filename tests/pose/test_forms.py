"""The described refiners by themselves: sizes, starting points, symmetries, and what they are allowed to see."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from stages.pose.body.frames import view_direction
from stages.pose.body.skeleton import HIPS, JOINT, LIMBS, SWAP, bone_lengths, mirror_pose
from stages.pose.model import losses
from stages.pose.model.architecture import FORMS, PUBLISHED, Architecture, Branches, Form, form_of
from stages.pose.model.depth import (
    ORIENTED,
    PoseAwareDepthRefiner,
    hand_features,
    rebuild,
    view_code,
)
from stages.pose.model.forms import INPUTS, build, inputs_of
from stages.pose.model.forward import CHAIN, angle_inputs, chain_links, move
from stages.pose.model.joint import JointConstraintRefiner
from stages.pose.model.main import MainRefiner
from stages.pose.model.windows import Window, make_window, mirror_window

SMALL = Architecture(width=16, layers=1, heads=2, dropout=0.0)
DESCRIBED: tuple[Form, ...] = ("depth", "depth_large", "joint", "main")
every_form = pytest.mark.parametrize("form", DESCRIBED)

_STANDING = {
    "nose": (0, -0.65, -0.1), "left_eye": (0.03, -0.68, -0.08), "left_ear": (0.07, -0.66, 0.0),
    "left_shoulder": (0.18, -0.5, 0.0), "left_elbow": (0.25, -0.22, 0.0), "left_wrist": (0.27, 0.0, -0.1),
    "left_hip": (0.12, 0.0, 0.0), "left_knee": (0.13, 0.42, -0.05), "left_ankle": (0.13, 0.84, 0.02),
}  # fmt: skip


def some_poses(n: int, seed: int = 0) -> np.ndarray:
    """(n, 17, 3) people in loose poses who face the camera, metres, camera frame, root-relative; float32."""
    pose = np.zeros((17, 3))
    for name, place in _STANDING.items():
        pose[JOINT[name]] = place
        pose[SWAP[JOINT[name]]] = place * np.array([1 if name == "nose" else -1, 1, 1])
    poses = pose + np.random.default_rng(seed).normal(0, 0.08, (n, 17, 3))
    return (poses - (poses[:, HIPS[0]] + poses[:, HIPS[1]])[:, None] / 2).astype(np.float32)


def one_frame(n: int = 4, seed: int = 0) -> Window:
    rng = np.random.default_rng(seed)
    poses = some_poses(n, seed)
    uv = 300 * poses[..., :2] + rng.normal(0, 5, (n, 17, 2)) + 500
    return make_window(poses[:, None], rng.uniform(0.3, 1, (n, 1, 17)), uv[:, None])


def small(form: Form, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    params: dict[str, Any] = {"architecture": SMALL.model_dump(), "window_s": [0.0]}
    if form == "main":
        params["branches"] = Branches(depth=SMALL, joint=SMALL).model_dump()
    return build(form, params).eval()


def moved(network: torch.nn.Module) -> torch.nn.Module:
    """The same network with no layer at zero."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def answer(form: Form, network: torch.nn.Module, window: Window) -> Any:
    return network(*map(torch.from_numpy, inputs_of(form, window)))


# ---------------------------------------------------------------- sizes


def test_described_sizes_are_met_to_the_parameter() -> None:
    def count(network: torch.nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert count(PoseAwareDepthRefiner(PUBLISHED["depth"])) == 655_942
    assert count(JointConstraintRefiner(PUBLISHED["joint"])) == 916_456
    assert count(MainRefiner(PUBLISHED["main"])) == 1_210_477
    large = PUBLISHED["depth_large"]
    assert (large.width, large.layers, large.heads, len(ORIENTED)) == (128, 6, 8, 14)
    assert count(PoseAwareDepthRefiner(large, limbs=True)) > 3_000_000


def test_a_card_names_the_form() -> None:
    assert [form_of(facts.architecture) for facts in FORMS.values()] == list(FORMS)
    assert form_of("resnet18") is None


# ---------------------------------------------------------------- what goes in


@every_form
def test_only_what_an_estimator_saw_goes_in(form: Form) -> None:
    names = tuple(inspect.signature(small(form).forward).parameters)
    assert names == INPUTS[form]
    assert set(names) <= {"pose", "visibility", "seen", "angles", "angle_visibility"}


@every_form
def test_a_longer_window_is_refused(form: Form) -> None:
    window = one_frame()
    longer = Window(*(np.repeat(a, 3, axis=1) for a in (window.pose, window.visibility, window.seen)))
    with pytest.raises(ValueError, match="sees one frame"):
        inputs_of(form, longer)


def test_hand_features_follow_their_list() -> None:
    """A T on the picture: shoulders level, the left arm twice as long, the right knee bent by nothing."""
    seen = torch.zeros(1, 17, 2)
    places = {
        "nose": (0.5, -8), "left_shoulder": (2, -6), "right_shoulder": (-2, -4), "left_elbow": (4, -6),
        "left_wrist": (6, -6), "right_elbow": (-3, -4), "right_wrist": (-4, -4), "left_hip": (1, 0),
        "right_hip": (-1, 0), "left_knee": (1, 3), "left_ankle": (1, 6), "right_knee": (-1, 4), "right_ankle": (-1, 8),
    }  # fmt: skip
    for name, (u, v) in places.items():
        seen[0, JOINT[name]] = torch.tensor([float(u), float(v)])
    shoulders = 20**0.5
    expected = [-2, 0, shoulders, 2, 4 / 2, 2, 6 / 8, -2, 5, 5 / shoulders, 0.5, -3, 15 / 6 + 12 / 6, 0, -2.5]
    np.testing.assert_allclose(hand_features(seen)[0].numpy(), expected, atol=1e-4)


def test_the_view_code_is_that_of_azimuth_and_elevation() -> None:
    view = torch.tensor([[0.0, 0.0, 1.0], [0.5**0.5, 0.5**0.5, 0.0]])  # at the right; in front and above
    code = view_code(view)
    assert code.shape == (2, 34)
    np.testing.assert_allclose(code[0, :2].numpy(), [0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(code[1, :2].numpy(), [0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(
        code[0, 2:5].numpy(), [1.0, 0.0, 0.0], atol=1e-5
    )  # sin of 90, 180, 360 degrees
    np.testing.assert_allclose(code[1, 18:20].numpy(), [1.0, 0.0], atol=1e-5)  # sin of 90, 180 degrees


# ---------------------------------------------------------------- what comes out


@every_form
def test_a_fresh_network_is_the_identity(form: Form) -> None:
    window = one_frame()
    found = answer(form, small(form), window)
    np.testing.assert_allclose(found[0].detach().numpy(), window.pose[:, 0], atol=1e-6)
    assert torch.isfinite(found[1]).all()


@every_form
def test_answers_are_root_relative_and_hear_of_every_sample_alone(form: Form) -> None:
    network, window = moved(small(form)), one_frame(6)
    pose = answer(form, network, window)[0]
    assert (pose[:, HIPS[0]] + pose[:, HIPS[1]]).abs().max() < 1e-5
    half = Window(window.pose[:3], window.visibility[:3], window.seen[:3])
    torch.testing.assert_close(answer(form, network, half)[0], pose[:3], atol=1e-5, rtol=1e-4)


def test_a_larger_person_gets_the_same_correction_in_proportion() -> None:
    network, window = moved(small("depth")), one_frame()
    larger = Window(1.2 * window.pose, window.visibility, 1.2 * window.seen)
    one, two = (answer("depth", network, w).pose.detach() for w in (window, larger))
    assert (one - torch.from_numpy(window.pose[:, 0])).abs().max() > 0.01
    torch.testing.assert_close(two, 1.2 * one, atol=1e-4, rtol=1e-4)


def test_the_depth_refiner_moves_depths_alone_and_says_where_the_camera_is() -> None:
    window = one_frame()
    found = answer("depth", moved(small("depth")), window)
    np.testing.assert_allclose(found.pose[..., :2].detach().numpy(), window.pose[:, 0, :, :2], atol=1e-6)
    torch.testing.assert_close(found.view.norm(dim=1), torch.ones(4))
    assert (found.log_distance >= np.log(2)).all()


def test_turned_limbs_keep_the_lengths_of_the_estimate() -> None:
    pose, other = (torch.from_numpy(some_poses(4, seed)) for seed in (0, 1))
    parents, children = (list(ends) for ends in zip(*ORIENTED, strict=True))
    bones, directions = (p[:, children] - p[:, parents] for p in (pose, other))
    torch.testing.assert_close(rebuild(pose, bones), pose, atol=1e-6, rtol=0)
    turned = directions / directions.norm(dim=-1, keepdim=True) * bones.norm(dim=-1, keepdim=True)
    found = rebuild(pose, turned)
    kept = (*LIMBS, HIPS)
    np.testing.assert_allclose(bone_lengths(found.numpy(), kept), bone_lengths(pose.numpy(), kept), rtol=1e-4)
    ends = [list(e) for e in zip(*LIMBS, strict=True)]
    given, wanted = (p[:, ends[1]] - p[:, ends[0]] for p in (found, other))
    assert torch.nn.functional.cosine_similarity(given, wanted, dim=-1).min() > 0.9999


def test_gates_are_shares_of_three_candidates() -> None:
    found = answer("main", moved(small("main")), one_frame())
    torch.testing.assert_close(found.gates.sum(-1), torch.ones(4, 17))
    low, high = found.candidates.amin(1), found.candidates.amax(1)
    middle = (found.gates.transpose(1, 2)[..., None] * found.candidates).sum(1)
    assert ((middle >= low - 1e-5) & (middle <= high + 1e-5)).all()


# ---------------------------------------------------------------- angles


def test_poses_moved_to_other_angles_have_those_angles() -> None:
    pose, other = some_poses(5, 0), some_poses(5, 1)
    ones = np.ones((5, 17), np.float32)
    given, wanted = (angle_inputs(p, ones)[0] for p in (pose, other))
    found = move(*map(torch.from_numpy, (pose, given, wanted)))
    angles, _, confidence = angle_inputs(found.numpy(), ones)
    wrong = confidence * np.abs(losses.wrapped(torch.from_numpy(angles - wanted)).numpy())
    assert wrong.max() < 0.5
    kept = (*LIMBS, HIPS)
    np.testing.assert_allclose(bone_lengths(found.numpy(), kept), bone_lengths(pose, kept), rtol=1e-4)


def test_a_joint_sees_itself_and_its_neighbours_in_the_chain() -> None:
    links, names = chain_links(), [joint.name for joint in CHAIN]
    np.testing.assert_array_equal(links, links.T)
    near = {name: {names[j] for j in np.flatnonzero(row)} for name, row in zip(names, links, strict=True)}
    assert near["pelvis"] == {"pelvis", "right_hip", "left_hip", "trunk"}
    assert near["left_knee"] == {"left_hip", "left_knee", "left_ankle"}
    assert near["right_elbow"] == {"right_shoulder", "right_elbow"}


def test_unseen_joints_are_hardly_attended_to() -> None:
    network = moved(JointConstraintRefiner(SMALL)).eval()
    angles, _, _ = angle_inputs(some_poses(4), np.ones((4, 17)))
    given = torch.from_numpy(angles)
    changed = given.clone()
    changed[:, 10] += 40  # an elbow

    def effect(visible: float) -> float:
        visibility = torch.ones(4, 12)
        visibility[:, 10] = visible
        others = [i for i in range(12) if i != 10]
        change = network(changed, visibility) - network(given, visibility)
        return float(change[:, others].detach().abs().mean())

    assert effect(0.0) < 0.01 * effect(1.0)


def test_angles_that_cannot_be_told_have_no_weight() -> None:
    _, _, confidence = angle_inputs(some_poses(4), np.ones((4, 17)))
    names = [joint.name for joint in CHAIN]
    assert not confidence[:, names.index("left_ankle")].any()
    assert not confidence[:, names.index("trunk"), 0].any()
    assert confidence[:, names.index("left_hip"), 0].all()


def test_angle_errors_go_the_short_way_round() -> None:
    a, b = torch.full((1, 12, 3), 179.0), torch.full((1, 12, 3), -179.0)
    assert losses.angle_loss(a, b, torch.ones_like(a)) == pytest.approx(2, abs=1e-4)


# ---------------------------------------------------------------- losses


def test_described_losses_are_zero_on_the_truth() -> None:
    pose = torch.from_numpy(some_poses(4))
    view = torch.from_numpy(view_direction(pose.numpy(), np.array([0, 0, 4.0])).astype(np.float32))
    assert losses.bone_loss(pose, pose) == 0
    assert losses.view_loss(view, view) == pytest.approx(0, abs=1e-6)
    assert losses.distance_loss(torch.full((4,), 4.0).log(), torch.full((4,), 4.0)) == 0
    assert losses.best_loss(pose, pose[:, None] + 0.1, pose) == pytest.approx(0, abs=1e-5)
    symmetric = (pose + torch.from_numpy(mirror_pose(pose.numpy()))) / 2
    assert losses.symmetry_loss(symmetric, torch.ones(4, 17)) == pytest.approx(0, abs=1e-6)


def test_an_unseen_arm_may_look_shorter() -> None:
    pose = torch.from_numpy(some_poses(1))
    pose = (pose + torch.from_numpy(mirror_pose(pose.numpy()))) / 2
    visibility = torch.ones(1, 17)
    pose[:, JOINT["left_wrist"]] += 0.3
    seen = losses.symmetry_loss(pose, visibility)
    visibility[:, JOINT["left_wrist"]] = 0
    assert losses.symmetry_loss(pose, visibility) < 1e-6 < seen


def test_gates_learn_to_trust_the_better_candidate() -> None:
    truth = torch.from_numpy(some_poses(2))
    candidates = torch.stack([truth, truth + 0.2, truth + 0.3], dim=1)
    right, wrong = torch.zeros(2, 17, 3), torch.zeros(2, 17, 3)
    right[..., 0], wrong[..., 1] = 1, 1
    assert losses.gate_loss(right, candidates, truth) < 1e-3 < losses.gate_loss(wrong, candidates, truth)


def test_mirrored_inputs_are_those_of_the_mirrored_window() -> None:
    window = one_frame()
    mirrored = mirror_window(window)
    arrays = (a[:, 0] for a in (window.pose, window.visibility, window.seen))
    found = losses.mirrored(*map(torch.from_numpy, arrays))
    for ours, theirs in zip(found, (mirrored.pose, mirrored.visibility, mirrored.seen), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs[:, 0])
