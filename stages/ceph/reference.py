"""What the system description does otherwise, made anew to see what each costs. For comparison only.

No stage uses these; tests measure them. Its recipe: films stretched to 512 x 512, heatmaps of deviation 2.5,
plain squared error, the highest pixel as the answer, and distances in pixels of that map called millimetres.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.ceph.locating.reading import highest
from stages.core.evaluate.errors import radial_errors

SIZE = (512, 512)
SIGMA = 2.5


def decode_highest(maps: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, K, 2) whole pixels: off by 0.38 px on average where the map is perfect."""
    return highest(maps)


def plain_mse(maps: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all pixels, nearly all of which are 0 in the target."""
    return (maps - target).square().mean()


def sdr_percent_of_pixels(predicted: Tensor, truth: Tensor, threshold: float) -> float:
    """SDR in percent of points (N, K, 2) in px of the 512 x 512 map, the threshold in mm taken for px.

    A film of 1935 x 2400 px at 0.1 mm has 0.378 x 0.469 mm a px there: 2 px are 0.76 to 0.94 mm.
    """
    errors = radial_errors(predicted.numpy(), truth.numpy())
    return float(100 * (torch.from_numpy(errors) <= threshold).double().mean())
