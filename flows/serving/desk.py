"""Where films wait for a worker. Each is answered by the line-up of models that served when it was taken in."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flows.serving.canary import Arm, Guardrail, Outcome, goes_to_challenger
from flows.serving.follower import Follower, Lineup
from flows.serving.golden import points_of
from flows.serving.metrics import Metrics
from flows.serving.predictor import OptionError, Served
from flows.serving.settings import ServingParams
from flows.serving.shadow import PredictionLog, Shadow, entry_of
from stages.core.data.decode import Film, decode_film
from stages.core.model.prediction import LIMITS


class BusyError(Exception):
    """All workers are busy and the queue is full."""


class NotReadyError(Exception):
    """No model of the lane has been let in yet."""


class PhantomError(Exception):
    """A phantom's model was asked for a person's film."""


class ModelError(Exception):
    """The model failed on a film that could be read."""


@dataclass(frozen=True)
class Upload:
    """A film as it came in.

    Attributes:
        content: the bytes of its file.
        suffix: `.dcm` where the sender says that it is DICOM, else empty: content tells the other formats.
        options: for the lane, such as hints.
    """

    content: bytes
    suffix: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Post:
    """One lane's place at the desk."""

    follower: Follower
    guardrail: Guardrail


class Desk:
    """Workers, a bounded queue before them, and what happens to a film in between.

    Args:
        params: section `serving`.
        log: where answers are written down.
        metrics: what is counted.
        shadow: answers films a second time, by the model that did not; None without shadow.
        allow_phantom: let models that were trained on phantoms read persons' films.
    """

    def __init__(
        self,
        params: ServingParams,
        log: PredictionLog,
        metrics: Metrics,
        shadow: Shadow | None = None,
        allow_phantom: bool = False,
    ) -> None:
        self._pool = ThreadPoolExecutor(params.workers, thread_name_prefix="predict")
        self._places = threading.BoundedSemaphore(params.workers + params.queue)
        self._log = log
        self._metrics = metrics
        self._shadow = shadow
        self._allow_phantom = allow_phantom

    def reserve(self) -> None:
        """Take one place before a film is read in, so that waiting films have a bound; BusyError if all are taken."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        self._metrics.waiting.inc()

    def release(self) -> None:
        self._metrics.waiting.dec()
        self._places.release()

    def submit(self, post: Post, upload: Upload) -> Future[dict[str, Any]]:
        """Have a film answered on a place that was reserved, which is released with the answer.

        Returns:
            The lane's answer with the stamp of the model that gave it, film_sha256 and arm. Its errors: FilmError,
            PhantomError, OptionError, NotReadyError, ModelError.
        """
        lineup = post.follower.lineup
        future: Future[dict[str, Any]]
        if lineup is None:
            future = Future()
            future.set_exception(NotReadyError())
        else:
            future = self._pool.submit(self._answer, post, lineup, upload)
        future.add_done_callback(lambda _: self.release())
        return future

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, post: Post, lineup: Lineup, upload: Upload) -> dict[str, Any]:
        sha256 = hashlib.sha256(upload.content).hexdigest()
        film = _decode(upload)
        if lineup.champion.card.is_phantom and not film.phantom and not self._allow_phantom:
            raise PhantomError(
                "this model was trained on generated films (phantoms) and must not read a person's film; start "
                "the service with --allow-phantom to see what it does nevertheless"
            )
        served, other, arm = lineup.champion, lineup.challenger, "champion"
        answer = None
        if other is not None and goes_to_challenger(sha256, other.target.key, lineup.percent):
            try:
                answer, seconds = self._ask(post, lineup, "challenger", film, upload.options)
                served, other, arm = other, lineup.champion, "challenger"
            except ModelError:
                self._metrics.fallbacks.labels(served.card.lane).inc()
        if answer is None:
            answer, seconds = self._ask(post, lineup, "champion", film, upload.options)
        self._log.write("served", sha256, arm=arm, **entry_of(served, answer, seconds))
        if self._shadow is not None and other is not None:
            self._shadow.offer(film, sha256, upload.options, answer, served, other)
        return answer | {"film_sha256": sha256, "arm": arm}

    def _ask(
        self, post: Post, lineup: Lineup, arm: Arm, film: Film, options: dict[str, Any]
    ) -> tuple[dict[str, Any], float]:
        """The answer of one model and the seconds that it took; counted, and judged for the canary."""
        served = lineup.champion if arm == "champion" else lineup.challenger
        assert served is not None
        start = time.perf_counter()
        failure: Exception | None = None
        outlier, answer = False, {}
        try:
            answer = served.answer(film, options)
            outlier = _off_the_film(answer)
        except OptionError:
            raise
        except Exception as error:  # a model may fail in any way; the service goes on
            failure = error
        seconds = time.perf_counter() - start
        self._metrics.seconds.labels(served.card.lane, _version(served), arm).observe(seconds)
        challenger = lineup.challenger if lineup.percent > 0 else None
        outcome = Outcome(failure is not None, seconds, outlier)
        halt = post.guardrail.add(arm, outcome, challenger.target.key if challenger is not None else None)
        if halt is not None and challenger is not None:
            post.follower.halt(challenger, halt)
        if failure is not None:
            self._metrics.failures.labels(served.card.lane, _version(served), arm).inc()
            raise ModelError(f"{served.target} failed: {type(failure).__name__}: {failure}") from failure
        return answer, seconds


def _version(served: Served) -> str:
    return "unregistered" if served.target.version is None else str(served.target.version)


def _decode(upload: Upload) -> Film:
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        path = Path(scratch) / f"film{upload.suffix}"
        path.write_bytes(upload.content)
        return decode_film(path, LIMITS)


def _off_the_film(answer: dict[str, Any]) -> bool:
    """Whether a point lies off the film; raises where one is no number."""
    points = points_of(answer)
    if not np.isfinite(points).all():
        raise ValueError("it gave points that are no numbers")
    last = np.array([answer["width"], answer["height"]]) - 0.5
    return bool(((points < -0.5) | (points > last)).any())
