"""How a form of the Refiner turns its network's output into maps, points and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from stages.core.data import geometry
from stages.core.errors import StageError
from stages.core.model import imagenet
from stages.core.model import landmark_loss as losses
from stages.core.model.codecs import GaussianHeatmap, SoftmaxHeatmap
from stages.spine.refining.architecture import Architecture
from stages.spine.refining.hints import Hints
from stages.spine.refining.keybot import KeyBotRefiner, full_size
from stages.spine.refining.keybot_loss import full_size_bce, locate_full_size
from stages.spine.refining.network import HeatmapNetwork
from stages.spine.refining.pairs import Pairs


class Head(Protocol):
    """What training and prediction ask of a form."""

    @property
    def network(self) -> nn.Module: ...
    @property
    def codec(self) -> GaussianHeatmap | SoftmaxHeatmap: ...
    def start(self, built: Architecture) -> None: ...
    def groups(self) -> dict[str, nn.Module]: ...
    def maps(self, films: Tensor, hints: Hints) -> Tensor: ...
    def losses(self, films: Tensor, hints: Hints, truth: Tensor) -> Mapping[str, Tensor]: ...


def build_head(built: Architecture, n_points: int, size: geometry.Size, pairs: Pairs | None) -> Head:
    """The network of `built` with random (or shipped) weights, on the CPU."""
    form = KeyBotHead if built.form == "keybot" else SoftmaxHead
    return form.build(built, n_points, size, pairs)


@dataclass(frozen=True)
class SoftmaxHead:
    """A distribution over the cells a landmark, its mean the point."""

    network: HeatmapNetwork
    codec: SoftmaxHeatmap
    size: geometry.Size
    pairs: Pairs | None

    @classmethod
    def build(
        cls, built: Architecture, n_points: int, size: geometry.Size, pairs: Pairs | None
    ) -> SoftmaxHead:
        codec = SoftmaxHeatmap(sigma=built.sigma, stride=built.stride)
        return cls(HeatmapNetwork(built, n_points, size), codec, size, pairs)

    def start(self, built: Architecture) -> None:
        """Shipped weights for the backbone where `built` asks for them."""
        if built.weights == "imagenet":
            imagenet.load(self.network.backbone, built.backbone)

    def groups(self) -> dict[str, nn.Module]:
        """Parts with a learning rate of their own."""
        rest = nn.ModuleList([self.network.hints, self.network.head])
        return {"backbone": self.network.backbone, "head": rest}

    def maps(self, films: Tensor, hints: Hints) -> Tensor:
        """Films (B, 1, H, W) -> activated maps (B, K, h, w)."""
        return self.codec.activate(self.network(films, hints).float())

    def losses(self, films: Tensor, hints: Hints, truth: Tensor) -> Mapping[str, Tensor]:
        """Every loss by name; truth (B, K, 2) in input px."""
        logits = self.network(films, hints).float()
        counted = losses.inside(truth, self.size)
        points = self.codec.decode(logits)
        return {
            "cross_entropy": losses.cross_entropy(logits, self.codec.encode(truth, self.size), counted),
            "l1_cells": losses.l1(points, truth, counted) / self.codec.stride,
            **_morphology(points, truth, counted, self.size, self.pairs),
        }


@dataclass(frozen=True)
class KeyBotHead:
    """Sigmoid maps at the film's size from a main and an auxiliary head, as published."""

    network: KeyBotRefiner
    codec: GaussianHeatmap
    size: geometry.Size
    pairs: Pairs | None

    @classmethod
    def build(
        cls, built: Architecture, n_points: int, size: geometry.Size, pairs: Pairs | None
    ) -> KeyBotHead:
        # The reference reads a window of 15 px at sigma 7.5, and sharpens tenfold.
        window = 2 * max(1, round(built.sigma)) + 1 if built.sigma != 7.5 else 15
        codec = GaussianHeatmap(sigma=built.sigma, stride=1, window=window, sharpness=10.0)
        network = KeyBotRefiner(n_points, backbone=built.backbone, hint_sigma=built.hint_sigma)
        return cls(network, codec, size, pairs)

    def start(self, built: Architecture) -> None:
        if built.weights != "random":
            raise StageError("the keybot form starts from random weights: set network.weights to random")

    def groups(self) -> dict[str, nn.Module]:
        return {"all": self.network}

    def maps(self, films: Tensor, hints: Hints) -> Tensor:
        main, _ = self.network(films, hints)
        return self.codec.activate(full_size(main.float(), self.size))

    def losses(self, films: Tensor, hints: Hints, truth: Tensor) -> Mapping[str, Tensor]:
        main, aux = (m.float() for m in self.network(films, hints))
        counted, sigma = losses.inside(truth, self.size), self.codec.sigma
        points = locate_full_size(main, self.size, self.codec.window, self.codec.sharpness)
        return {
            "bce": full_size_bce(main, truth, counted, self.size, sigma),
            "bce_aux": full_size_bce(aux, truth, counted, self.size, sigma),
            **_morphology(points, truth, counted, self.size, self.pairs),
        }


def _morphology(
    points: Tensor, truth: Tensor, counted: Tensor, size: geometry.Size, pairs: Pairs | None
) -> dict[str, Tensor]:
    """The distance and angle terms; 0 where no pairs were chosen."""
    if pairs is None:
        zero = points.new_zeros(())
        return {"distance": zero, "angle": zero}
    sides = points.new_tensor([size[1], size[0]])
    found, wanted = points / sides, truth.to(points.dtype) / sides
    chosen = (torch.tensor(p, device=points.device) for p in (pairs.pairs, pairs.triplets))
    two, three = chosen
    return {
        "distance": losses.distances(found, wanted, counted, two),
        "angle": losses.angles(found, wanted, counted, three),
    }


def mirrored_average(head: Head, films: Tensor, hints: Hints, swap: Tensor) -> Tensor:
    """Maps of films averaged with those of their mirrors, mirrored back and left and right exchanged."""
    own = head.maps(films, hints)
    mirror = head.maps(films.flip(-1), hints.mirrored(films.shape[-1], swap))
    return (own + mirror.flip(-1)[:, swap]) / 2
