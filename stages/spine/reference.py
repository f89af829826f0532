"""How the public KeyBot code draws and reads heatmaps and runs its Refiner. For comparison only.

Same values as `GaussianHeatmap` of stages/core/model/codecs.py, at the reference's cost: drawing builds a
grid of coordinates anew for every film and each of its landmarks; reading picks a patch for every pair of
landmarks in the batch and keeps the diagonal, so that memory grows with the square of the batch.

Same values also as `KeyBotRefiner` and keybot_loss, with the very weights of a `KeyBotRefiner`: all 2K hint
maps and both heads' logits, sigmoids and targets at the film's size, three equal channels of grey, and every
convolution on maps that were enlarged and joined before it.

And the loop at 0 clicks with the very weights of the three networks: a Detector's windows cut, stretched and drawn
one by one, a Corrector read by its highest pixels, maps copied every round, and one pass of the Refiner too many.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.spine.checking.network import WindowDetector
from stages.spine.correcting.network import DeepLabCorrector
from stages.spine.refining.hints import Hints
from stages.spine.refining.keybot import KeyBotRefiner, full_size


def encode_film_by_film(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(B, K, 2) points in model px -> (B, K, H, W) Gaussians of height 1."""
    films = []
    for film in points:
        rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        grid = torch.stack((columns, rows), -1).float().expand(len(film), *size, 2)
        square = ((grid - film[:, None, None]) ** 2).sum(-1)
        films.append(torch.exp(-square / (2 * sigma**2)))
    return torch.stack(films)


def decode_all_pairs(maps: Tensor, window: int, sharpness: float) -> Tensor:
    """(B, K, H, W) maps in [0, 1] -> (B, K, 2) points in model px, window by window."""
    batch, count, _, width = maps.shape
    reach = window // 2
    flat = maps.reshape(batch * count, *maps.shape[-2:])
    highest = flat.flatten(1).argmax(1)
    row, column = highest // width, highest % width
    padded = torch.nn.functional.pad(flat, (reach, reach, reach, reach))
    offset = torch.arange(window)
    rows = (row[:, None] + offset)[:, :, None].expand(-1, -1, window)
    columns = (column[:, None] + offset)[:, None, :].expand(-1, window, -1)
    every = padded[:, rows, columns]  # (B K, B K, window, window): each map at the place of each landmark
    patch = every.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
    weight = torch.softmax(sharpness * patch.flatten(1), 1).view_as(patch)
    step = (offset - reach).float()
    x = column + (weight.sum(1) * step).sum(1)
    y = row + (weight.sum(2) * step).sum(1)
    return torch.stack((x, y), -1).view(batch, count, 2)


def hints_film_by_film(hints: Hints, size: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """Previous maps and hint maps, (B, K, H, W) each at the film's size; zeros where there are none."""
    batch, count, _ = hints.points.shape
    drawn = torch.zeros(batch, count, *size, dtype=hints.points.dtype)
    for film, points, given in zip(drawn, hints.points, hints.given, strict=True):
        if given.any():
            film[given] = encode_film_by_film(points[None, given], size, sigma)[0]
    previous = torch.zeros_like(drawn) if hints.previous is None else full_size(hints.previous, size)
    return previous, drawn


def forward_plainly(network: KeyBotRefiner, films: Tensor, hints: Hints) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) films -> main and auxiliary logits (B, K, H, W) at the film's size."""
    size = films.shape[-2], films.shape[-1]
    previous, drawn = hints_film_by_film(hints, size, network.hint_sigma)
    body, encoder = network.body, network.hint_encoder
    stem = body.act1(body.bn1(body.conv1(films.repeat(1, 3, 1, 1))))
    first = network.first_stage(stem + encoder.spread_out(encoder.squeeze(torch.cat((previous, drawn), 1))))
    told = full_size(drawn, (size[0] // 4, size[1] // 4))
    gate = network.gate.weigh(network.gate.convolutions(torch.cat((first, told), 1)))
    finest, *coarser = body.stages(first)
    grid = finest.shape[-2], finest.shape[-1]
    gathered = gate * torch.cat([finest, *(full_size(m, grid) for m in coarser)], 1)
    auxiliary = network.auxiliary(gathered)
    main = network.main(network.context(network.pixels(gathered), auxiliary))
    return full_size(main, size), full_size(auxiliary, size)


def losses_plainly(heads: tuple[Tensor, Tensor], points: Tensor, sigma: float) -> Tensor:
    """Sum of both heads' binary cross-entropies with Gaussians at (B, K, 2) points, none missing.

    The heads are logits (B, K, H, W) at the film's size.
    """
    target = encode_film_by_film(points, (heads[0].shape[-2], heads[0].shape[-1]), sigma)
    main, auxiliary = (F.binary_cross_entropy(torch.sigmoid(head), target) for head in heads)
    return main + auxiliary


def loop_plainly(
    refiner: KeyBotRefiner,
    detector: WindowDetector,
    corrector: DeepLabCorrector,
    film: Tensor,
    rounds: int,
    threshold: float,
    window: int,
    sharpness: float,
) -> Tensor:
    """A film (1, 1, H, W) in [0, 1] -> its points (1, K, 2) in px after at most so many rounds without a user.

    The networks are in eval mode. A round is never taken back.
    """
    size = film.shape[-2], film.shape[-1]

    def refine(hints: Hints) -> tuple[Tensor, Tensor]:
        maps = torch.sigmoid(forward_plainly(refiner, 2 * film - 1, hints)[0])
        return maps, decode_all_pairs(maps, window, sharpness)

    maps, points = refine(Hints(torch.full((1, refiner.main.out_channels, 2), torch.nan)))
    pseudo, previous = torch.full_like(points, torch.nan), torch.zeros_like(maps)
    for _ in range(rounds):
        flagged = judge_plainly(detector, film, points) >= threshold
        if not flagged.any():
            break
        proposed = propose_plainly(corrector, film, points, (size[0] // 2, size[1] // 2))
        pseudo[flagged] = proposed[flagged]
        previous[flagged] = copy.deepcopy(maps)[flagged]
        maps, points = refine(Hints(pseudo, previous))
    return refine(Hints(pseudo, previous))[1]


def judge_plainly(detector: WindowDetector, film: Tensor, points: Tensor) -> Tensor:
    """(1, 1, H, W) film in [0, 1] and (1, K, 2) points in its px -> (1, K) probability of being wrong.

    A crop is the whole pixels of its points' tight box inside the film, so that the values are near those of
    `WindowDetector`, whose boxes end between pixels, but not equal.
    """
    side, sigma = detector.architecture.side, detector.architecture.sigma
    seen = []
    for members in detector.members:
        crop, places = stretched_crop(film, points[0, members], side)
        drawn = encode_film_by_film(places[None], (side, side), sigma)
        grey = (2 * crop - 1).repeat(1, detector.architecture.film_channels, 1, 1)
        seen.append(torch.cat((grey, drawn), 1))
    judged = torch.sigmoid(detector.classifier(torch.cat(seen)))
    wrong = torch.zeros(points.shape[:2])
    for members, probability in zip(detector.members, judged, strict=True):
        wrong[0, members] = torch.maximum(wrong[0, members], probability)
    return wrong


def propose_plainly(
    corrector: DeepLabCorrector, film: Tensor, points: Tensor, size: tuple[int, int]
) -> Tensor:
    """(1, 1, H, W) film in [0, 1] and (1, K, 2) points in its px -> (1, K, 2), highest pixels of maps of `size`."""
    scale = torch.tensor([film.shape[-1] / size[1], film.shape[-2] / size[0]])
    small = F.interpolate(2 * film - 1, size=size, mode="bilinear")
    drawn = encode_film_by_film((points + 0.5) / scale - 0.5, size, corrector.codec.sigma)
    seen = torch.cat((small.repeat(1, corrector.film_channels, 1, 1), drawn), 1)
    maps = torch.sigmoid(corrector.network(seen)["out"])
    highest = maps.flatten(2).argmax(-1)
    return (torch.stack((highest % size[1], highest // size[1]), -1) + 0.5) * scale - 0.5


def stretched_crop(film: Tensor, points: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The box of (P, 2) points cut from a (1, 1, H, W) film: (1, 1, side, side), and the points in its px."""
    last = points.new_tensor([film.shape[-1] - 1, film.shape[-2] - 1])
    low = torch.minimum(points.amin(0).floor().clamp_min(0), last)
    high = torch.minimum(points.amax(0).ceil().clamp_min(0), last)
    (left, top), (right, bottom) = low.int().tolist(), high.int().tolist()
    crop = film[..., top : bottom + 1, left : right + 1]
    stretched = F.interpolate(crop, size=(side, side), mode="bilinear")
    return stretched, (points - low + 0.5) * (side / (high - low + 1)) - 0.5
