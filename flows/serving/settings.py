"""Section `serving` of params.yaml."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from stages.core.params import StageParams


class GoldenSettings(BaseModel):
    """When a model answers the golden picture as it did before.

    Attributes:
        tolerance_px: distance that a point may have from the recorded one, px of the golden picture.
        share: of the points that have to be so near. Below 1 because a point without any evidence in the picture
            may jump between kinds of CPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tolerance_px: float = Field(gt=0)
    share: float = Field(gt=0, le=1)


class CanarySettings(BaseModel):
    """The challenger's share of the films, and when it loses it.

    Attributes:
        percent: share of a challenger about which nobody decided yet.
        window: latest films of each model that count.
        minimum_films: fewer than that of either model are not judged.
        error_margin: the challenger's share of failures may exceed the champion's by this.
        outlier_margin: the same for answers with a point off the film.
        latency_factor: its 95th percentile of seconds may be this many times the champion's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    percent: float = Field(ge=0, le=100)
    window: int = Field(gt=0)
    minimum_films: int = Field(gt=0)
    error_margin: float = Field(gt=0, le=1)
    outlier_margin: float = Field(gt=0, le=1)
    latency_factor: float = Field(gt=1)


class ServingParams(StageParams):
    """How films are served.

    Attributes:
        port: on loopback unless `--host` says otherwise.
        workers: films that are predicted at once.
        queue: films that wait for a worker; one more is turned away with 503.
        native_threads: of each prediction.
        body_mb: largest film file, 10^6 bytes.
        body_s: a film that takes longer to arrive is turned away.
        poll_s: how often the alias is resolved.
        stale_s: a registry that has not answered for so long makes the service degraded.
        retry_s: a model that was refused is tried again after this.
        shadow_queue: films that wait for the other model; more are left out.
        log_mb: size at which the log of predictions is put aside (one older file is kept).
    """

    section: ClassVar[str] = "serving"
    port: int = Field(ge=0, le=65535)
    workers: int = Field(gt=0)
    queue: int = Field(ge=0)
    native_threads: int = Field(gt=0)
    body_mb: float = Field(gt=0)
    body_s: float = Field(gt=0)
    poll_s: float = Field(gt=0)
    stale_s: float = Field(gt=0)
    retry_s: float = Field(ge=0)
    shadow_queue: int = Field(gt=0)
    log_mb: float = Field(gt=0)
    golden: GoldenSettings
    canary: CanarySettings
