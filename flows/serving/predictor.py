"""A loaded model that stamps its answers."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.lanes import lane
from flows.serving import golden
from flows.serving.settings import ServingParams
from flows.serving.source import Target
from stages.core.data.decode import Film
from stages.core.errors import StageError
from stages.core.model.card import ModelCard, load_card


class OptionError(Exception):
    """The lane has no such option, or it was given a value that cannot be used."""


@dataclass(frozen=True, eq=False)
class Served:
    """One version of a model, loaded. Immutable: whoever holds it gets answers and stamp of the same version.

    Attributes:
        target: what the registry knows it by.
        card: its card.
        calibration_id: digest of what turns its confidence into px; equal for models that promise alike.
        golden: what the golden check came to.
    """

    target: Target
    card: ModelCard
    calibration_id: str
    golden: golden.Verdict
    _predict: Callable[..., dict[str, Any]]

    @property
    def stamp(self) -> dict[str, Any]:
        """What every answer says of its model."""
        return {
            "lane": self.card.lane,
            "registered_name": self.target.name,
            "version": self.target.version,
            "model_key": self.target.key,
            "model_sha256": self.target.model_sha256,
            "trained_on": self.card.dataset,
            "split_sha256": self.card.split_sha256,
            "calibration_id": self.calibration_id,
            "notice": "research use only",
        }

    def answer(self, film: Film, options: dict[str, Any]) -> dict[str, Any]:
        """The lane's answer for one film, with the stamp.

        Raises:
            OptionError: the options are not the lane's, or their values cannot be used.
        """
        if strange := sorted(options.keys() - inspect.signature(self._predict).parameters.keys()):
            raise OptionError(f"the lane {self.card.lane} has no {', '.join(strange)}: leave that out")
        try:
            answer = self._predict(film, **options)
        except StageError as error:  # the lanes' word for input that a person can mend
            raise OptionError(str(error)) from None
        return answer | {"model": answer["model"] | self.stamp}


def load(target: Target, folder: Path, root: Path, params: ServingParams) -> Served:
    """Open a model folder, warm it up and hold it to its golden answer.

    Raises:
        StageError: the folder is no model of its lane, or it does not pass the check.
    """
    card = load_card(folder)
    if card.key != target.key or card.registry_name != target.name:
        raise StageError(f"{folder} holds {card.registry_name} ({card.key[:12]}), expected {target}")
    module = lane(card.lane, root).module("predict")
    trained = module.open_model(folder)

    def predict(film: Film, **options: Any) -> dict[str, Any]:
        return module.predict_film(trained, film, **options)

    # The signature without the model, so that options can be told from the lane's own parameters.
    own = inspect.signature(module.predict_film)
    told = list(own.parameters.values())[1:]
    predict.__signature__ = own.replace(parameters=told)  # type: ignore[attr-defined]
    calibrated = getattr(module, "calibration", None)
    said = target.model_sha256 if calibrated is None else json.dumps(calibrated(trained), sort_keys=True)
    calibration_id = hashlib.sha256(said.encode()).hexdigest()[:12]
    verdict = golden.check(root, target, card, predict, params.golden)
    return Served(target, card, calibration_id, verdict, predict)
