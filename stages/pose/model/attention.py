"""Attention among a fixed number of tokens, written with few and plain operations: single frames are small, so
that what an exported file spends on each operation decides how long a frame takes.

Layers of single tokens work on (B N, width): there an exported file adds the bias in the same operation. N and the
width are plain numbers (`int`), so that no file works them out again for each frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.pose.model.architecture import Architecture


class Attention(nn.Module):
    """Multi-head attention of N tokens (B, N, width) to N others."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.heads, self.dropout = architecture.heads, architecture.dropout
        self.queries, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, own: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
        """`bias` is added to the scores (B, heads, N, N)."""
        n, width = int(own.shape[1]), int(own.shape[2])
        depth = width // self.heads
        q = self.queries(own.reshape(-1, width)).reshape(-1, n, self.heads, depth).transpose(1, 2)
        both = self.keys_values(other.reshape(-1, width))
        k, v = both.reshape(-1, n, 2, self.heads, depth).permute(2, 0, 3, 1, 4)
        scores = (q / math.sqrt(depth)) @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        shares = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        return self.out((shares @ v).transpose(1, 2).reshape(-1, width)).reshape(-1, n, width)


class Block(nn.Module):
    """Pre-norm transformer block: attention among the tokens, then a layer four times as wide."""

    def __init__(self, architecture: Architecture, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        width, dropout = architecture.width, architecture.dropout
        self.norm_attention, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(architecture)
        self.wide = nn.Sequential(
            nn.Linear(width, 4 * width), activation(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """`bias` is added to the scores of the attention (B, heads, N, N)."""
        own = self.norm_attention(tokens)
        tokens = tokens + self.drop(self.attention(own, own, bias))
        n, width = int(tokens.shape[1]), int(tokens.shape[2])
        wide = self.wide(self.norm_wide(tokens).reshape(-1, width)).reshape(-1, n, width)
        return tokens + self.drop(wide)


class EachItsOwn(nn.Module):
    """A linear layer for each of N tokens: (B, N, n_in) -> (B, N, n_out)."""

    def __init__(self, n: int, n_in: int, n_out: int, zero: bool = False) -> None:
        """`zero`: start at zero."""
        super().__init__()
        reach = 0.0 if zero else 1 / math.sqrt(n_in)  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(n, n_in, n_out).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(n, n_out).uniform_(-reach, reach))

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens[:, :, None] @ self.weight)[:, :, 0] + self.bias
