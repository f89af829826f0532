"""Shares of hints in training; apart from the sampling, so that reading parameters needs no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class HintPlan(BaseModel):
    """How training samples get hints.

    Attributes:
        counts: relative shares of samples that start with 0, 1, 2, ... hints at random points. The reference's
            are 1/8, 1/2, 1/4, 1/16, 1/32, ... up to 12.
        passes: relative shares of batches with 0, 1, 2, ... passes before the one that is learned from; after
            each, the worst point without a hint gets one. The reference's are equal for 0, 1 and 2.
        slips: probability that a sample with hints is relabelled by one vertebra, up or down, before they are
            drawn. Without it a network that fits its training films has nothing to learn from hints: it
            knows those films' count already. With it, only the hints tell which count is meant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    counts: tuple[float, ...] = Field(min_length=1)
    passes: tuple[float, ...] = Field(min_length=1)
    slips: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _are_shares(self) -> HintPlan:
        for name in ("counts", "passes"):
            shares = getattr(self, name)
            if min(shares) < 0 or sum(shares) <= 0:
                raise ValueError(f"{name}: shares >= 0 with a sum above 0 expected, got {shares}")
        return self
