"""Each defect of the public implementation: its re-creation fails the property that ours has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stages.pose import reference
from stages.pose.body.frames import view_direction
from stages.pose.body.skeleton import JOINT
from stages.pose.model import losses
from stages.pose.model.architecture import Architecture
from stages.pose.model.augment import turn
from stages.pose.model.depth import PoseAwareDepthRefiner
from stages.pose.model.forward import angle_inputs
from stages.pose.model.labels import Labels
from stages.pose.model.main import MainRefiner
from stages.pose.model.windows import Window, make_window, mirror_window
from tests.pose.test_forms import SMALL, some_poses


def test_a_samples_confidence_does_not_depend_on_the_batch() -> None:
    truth = torch.from_numpy(some_poses(6))
    refined = truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    log_scale = torch.full(truth.shape[:2], -3.0)
    worse = torch.cat([refined[:3], refined[3:] + 0.5])

    def of_the_first_three(poses: torch.Tensor) -> float:
        whole = losses.confidence_loss(poses, log_scale, truth) * 6
        return float(whole - losses.confidence_loss(poses[3:], log_scale[3:], truth[3:]) * 3)

    assert of_the_first_three(worse) == pytest.approx(of_the_first_three(refined), abs=1e-4)
    one, other = (reference.batch_maximum_confidence(poses, truth)[:3] for poses in (refined, worse))
    assert (one - other).abs().max() > 0.2


def test_a_truthful_answer_in_mid_step_costs_nothing() -> None:
    """The best answer there is: the truth itself, and mirrored for the mirrored input."""
    truth = torch.from_numpy(some_poses(8))
    angles = torch.from_numpy(angle_inputs(truth.numpy(), np.ones((8, 17)))[0])
    of_mirrored, _, _ = losses.mirrored(truth, torch.ones(8, 17), truth[..., :2])
    assert losses.mirror_loss(truth, of_mirrored) == 0
    assert losses.angle_loss(angles, angles, torch.ones_like(angles)) == 0
    assert reference.angle_symmetry_of_one_frame(angles) > 5


def test_bones_may_differ_between_people() -> None:
    one = torch.from_numpy(some_poses(1))
    poses, people = torch.cat([one, one, 1.3 * one, 1.3 * one]), torch.tensor([7, 7, 9, 9])
    assert losses.variation_loss(poses, people) == pytest.approx(0, abs=1e-9)
    assert reference.bone_variance_over_the_batch(poses) > 1e-3
    assert losses.variation_loss(poses, torch.tensor([7, 7, 7, 9])) > 1e-3  # the same person may not change


Mirror = Callable[[Window], Window]


@pytest.mark.parametrize(
    ("mirror", "follows"), [(mirror_window, True), (reference.mirror_without_visibility, False)]
)
def test_an_unseen_wrist_stays_unseen_in_the_mirror(mirror: Mirror, follows: bool) -> None:
    poses = some_poses(1)[:, None]
    visibility = np.ones((1, 1, 17))
    visibility[..., JOINT["left_wrist"]] = 0.1
    mirrored = mirror(make_window(poses, visibility, None))
    assert (mirrored.visibility[0, 0, JOINT["right_wrist"]] < 0.5) == follows


def test_a_turned_person_is_turned_in_the_picture_too() -> None:
    """With a perfect estimate and perfect detections the picture must show the turned pose, not the old one."""
    poses = some_poses(4)
    window = make_window(poses[:, None], np.ones((4, 1, 17)), None)
    degrees = np.array([-40.0, 10.0, 25.0, 170.0])
    root = np.array([0.0, 0.0, 4.0], np.float32)
    labels = Labels(
        poses, view_direction(poses, root).astype(np.float32), np.full(4, 4.0, np.float32), np.arange(4)
    )
    turned, now = turn(window, labels, degrees)
    np.testing.assert_allclose(turned.seen[:, 0], turned.pose[:, 0, :, :2], atol=1e-5)
    np.testing.assert_allclose(turned.pose[:, 0], now.pose, atol=1e-5)
    wrong = reference.turn_without_the_picture(window, degrees)
    np.testing.assert_allclose(wrong.pose, turned.pose, atol=1e-5)
    assert np.abs(wrong.seen - wrong.pose[..., :2]).max() > 0.1
    # The view that is learnt is the turned person's; it is told from the trunk's centre, which moved a little.
    expected = view_direction(now.pose, root)
    assert np.degrees(np.arccos((expected * now.view).sum(1).clip(-1, 1))).max() < 4
    assert np.degrees(np.arccos((expected * labels.view).sum(1).clip(-1, 1))).max() > 100


def test_the_joint_branch_moves_the_answer() -> None:
    torch.manual_seed(0)
    poses = torch.from_numpy(some_poses(3))
    given = torch.from_numpy(angle_inputs(poses.numpy(), np.ones((3, 17)))[0])
    depth = PoseAwareDepthRefiner(SMALL).eval()(poses, torch.ones(3, 17), poses[..., :2])
    main = MainRefiner(Architecture(width=16, layers=1, heads=2, dropout=0.0)).eval()
    bent = given.clone()
    bent[:, 3, 0] += 30  # a knee
    answer = main(poses, torch.ones(3, 17), depth, given, bent)
    ankle = JOINT["right_ankle"]
    assert (answer.pose - poses)[:, ankle].norm(dim=-1).min() > 0.01
    without = reference.fuse_without_the_joint_branch(poses, answer.gates, answer.candidates)
    torch.testing.assert_close(without, poses, atol=1e-5, rtol=0)  # depth and free correction start at zero
