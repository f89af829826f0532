"""A review queue for a film lane that has no queue stage: what its model says of the films it may learn from."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.lanes import lane
from flows.review.config import Item, table_of
from flows.review.films import FilmPictures
from stages.core.data.schema import LandmarkSchema
from stages.core.data.split import SPLIT_SCHEMA
from stages.core.data.tables import read_table
from stages.core.errors import StageError
from stages.core.model.card import ModelCard
from stages.core.review.queue import write_queue

LOOKED_AT, QUEUED = 100, 50
"""films that the model is asked about, and those of them that become a queue"""
WORST = 3
"""points whose mean expected error ranks a film"""
EXPECTED = ("expected_error_px", "expected_error_raw_px", "radius_px")
"""what the lanes' answers call the error that is to be expected of a point, px of the film"""


def queue_from_predictions(
    root: Path, schema: LandmarkSchema, pictures: FilmPictures, model: Path, card: ModelCard, output: Path
) -> None:
    """Write a queue of the lane's training films, those first of whose points the model is least sure.

    Only films of the role train are asked about: others must never become labels. The order of their pseudonyms,
    which are hashes, is the order of chance, so that the first `LOOKED_AT` are a fair sample.

    Raises:
        StageError: the lane has no split or no film of that role, or the model cannot read its films.
    """
    split = read_table(root / "data" / schema.lane / "split.parquet")
    if wanted := [name for name in ("id", "role") if name not in split.columns]:
        raise StageError(f"data/{schema.lane}/split.parquet has no {wanted}; expected {SPLIT_SCHEMA.names}")
    pool = sorted(split.loc[split["role"] == "train", "id"])
    films = [film for film in pool if not pictures.missing([film])][:LOOKED_AT]
    if not films:
        raise StageError(f"the lane {schema.lane} has no films of the role train to review")
    items = [
        _item(film, told, schema, card)
        for film, told in zip(films, _predicted(root, schema.lane, pictures, films, model, card), strict=True)
        if "landmarks" in told
    ]
    ranked = sorted(items, key=lambda item: (-item.score, item.film))[:QUEUED]
    write_queue(output, table_of([replace(item, rank=rank) for rank, item in enumerate(ranked, start=1)]))


def _predicted(
    root: Path, name: str, pictures: FilmPictures, films: list[str], model: Path, card: ModelCard
) -> list[dict[str, Any]]:
    """The answers of `plumbline predict` on the films' pictures, in their order."""
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        files = [Path(scratch) / f"{film}.png" for film in films]
        for file, film in zip(files, films, strict=True):
            file.write_bytes(pictures.png(film))
        predict_files = lane(name, root).module("predict").predict_files
        # The pictures were written here and bear no phantom's mark; the model belongs to these films.
        answers: list[dict[str, Any]] = predict_files(model, files, Path(scratch) / "out", card.is_phantom)
    return answers


def _item(film: str, told: dict[str, Any], schema: LandmarkSchema, card: ModelCard) -> Item:
    by_name = {point["name"]: point for point in told["landmarks"]}
    points = np.array([[by_name[n]["x"], by_name[n]["y"]] for n in schema.names], np.float64)
    known = next((key for key in EXPECTED if key in by_name[schema.names[0]]), None)
    error = np.array([by_name[n][known] if known else 0.0 for n in schema.names], np.float64)
    worst = np.argsort(-error)[:WORST]
    named = ", ".join(schema.names[i] for i in worst)
    return Item(
        rank=0,
        film=film,
        kind="uncertain",
        blinded=False,
        score=float(error[worst].mean()),
        reason=f"expected error at {named}" if known else "a film of the training set",
        points=points,
        expected_error=error,
        spacing=None,
        model_key=card.key,
    )
