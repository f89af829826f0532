"""`plumbline review`: gathers what a lane's review needs and serves the page on this machine."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import yaml

from flows.lanes import lane as known_lane
from flows.repro import environment
from flows.review.config import HeatmapPng, Item, ReviewConfig, read_items
from flows.review.films import FilmPictures, open_pictures
from flows.review.guard import is_loopback
from flows.review.heatmaps import Heatmaps, MapModel
from flows.review.predicted import queue_from_predictions
from flows.review.store import EventStore, database_file
from stages.core.data.schema import LandmarkSchema
from stages.core.errors import StageError
from stages.core.model.card import CARD, ModelCard, load_card
from stages.core.params import parse_params
from stages.core.stage import STATE
from stages.custom.description import read_description

PORT_VARIABLE, DEFAULT_PORT = "PLUMBLINE_REVIEW_PORT", 8090
MAP_MODELS = {"ceph": ("stages.ceph.locating.model", "TrainedCeph")}
"""lane -> module and class of the model that offers `probability_maps`"""


def launch(
    lane: str,
    root: Path,
    port: int | None = None,
    name: str = "",
    read_only: bool = False,
    host: str = "127.0.0.1",
    open_page: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the review of a lane until Ctrl-C.

    Args:
        port: default is $PLUMBLINE_REVIEW_PORT, then 8090; 0 takes any that is free.
        name: annotator that the page starts with.
        host: address to listen on; anything but loopback shows films to the network.
        open_page: open it in this machine's browser.
        say: told the address.
    Raises:
        StageError: the lane has no films, queue or model here, or the port is taken.
    """
    import uvicorn

    from flows.review.server import create_app

    wanted = int(os.environ.get(PORT_VARIABLE) or DEFAULT_PORT) if port is None else port
    with _listen(host, wanted) as listener:
        port = int(listener.getsockname()[1])
        config = prepare(lane, root, host=host, port=port, read_only=read_only, annotator=name, say=say)
        app = create_app(config)
        page = f"http://{host}:{port}/" + (f"?{urlencode({'name': name})}" if name else "")
        say(f"Review of {lane}, round {config.round}: {page}  (Ctrl-C ends it; verdicts are kept)")
        if not is_loopback(host):
            say(f"Careful: everybody who reaches {host}:{port} sees these films; there is no password.")
        if open_page:
            threading.Timer(0.5, webbrowser.open, [page]).start()
        settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(settings).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StageError(
            f"{host}:{port} cannot be listened on ({error.strerror}): choose another with --port or "
            f"{PORT_VARIABLE}"
        ) from None


def prepare(
    lane: str,
    root: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    read_only: bool = False,
    annotator: str = "",
    say: Callable[[str], None] = print,
) -> ReviewConfig:
    """Gather a lane's review: its queue (made where there is none), films, model and open round."""
    known = known_lane(lane, root)
    described = known.description
    schema = lane_schema(lane) if described is None else read_description(described).schema
    pictures = open_pictures(root, lane, _raw_folders(root, lane))
    card = load_card(root / known.model)
    queue = queue_file(root, schema, pictures, known.model, card, say)
    items = read_items(queue, schema)
    database = database_file(root, lane)
    with closing(EventStore(database, time.time)) as store:
        round_ = store.open_round()
    return ReviewConfig(
        schema=schema,
        items=items,
        pictures=pictures,
        database=database,
        round=round_,
        dataset=card.dataset,
        host=host,
        port=port,
        read_only=read_only,
        annotator=annotator,
        heatmap=_heatmaps(root / known.model.parent, lane, pictures, items),
    )


def lane_schema(lane: str) -> LandmarkSchema:
    """The landmarks of a lane, from `stages.<lane>.schema`."""
    try:
        module = importlib.import_module(f"stages.{lane}.schema")
    except ModuleNotFoundError:
        raise StageError(
            f"the lane {lane} has no landmarks on films, so there is nothing to review"
        ) from None
    found = [
        value for value in vars(module).values() if isinstance(value, LandmarkSchema) and value.lane == lane
    ]
    if len(found) != 1:
        raise StageError(
            f"stages/{lane}/schema.py has {len(found)} landmark schemas of the lane; expected one"
        )
    return found[0]


def _raw_folders(root: Path, lane: str) -> list[tuple[str, Path | None]]:
    """Stores that may hold films of a queue, with their raw folders: a clinic's first, as films are reviewed there."""
    raw = parse_params(root / "params.yaml").get("raw", {})
    return [
        (store, root / raw[key] if key in raw else None)
        for store, key in (("clinic", f"{lane}_clinic"), ("films", lane))
    ]


def queue_file(
    root: Path,
    schema: LandmarkSchema,
    pictures: FilmPictures,
    model: Path,
    card: ModelCard,
    say: Callable[[str], None],
) -> Path:
    """The lane's queue: that of its stage `<lane>-queue`, built where it is missing; else one of predictions."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stage = f"{schema.lane}-queue"
    if stage in stages:
        queue = root / "data" / schema.lane / "queue.parquet"
        if not queue.is_file():
            say(f"There is no queue yet: dvc repro {stage}")
            command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", stage]
            if subprocess.run(command, cwd=root, env=environment(), check=False).returncode:
                raise StageError(f"`dvc repro {stage}` failed: see above")
        return queue
    queue = root / STATE / "review" / schema.lane / f"queue-{card.key[:12]}.parquet"
    if not queue.is_file():
        say(f"Asking the model of {schema.lane} which films are worth a look ...")
        queue_from_predictions(root, schema, pictures, root / model, card, queue)
    return queue


def _heatmaps(models: Path, lane: str, pictures: FilmPictures, items: list[Item]) -> HeatmapPng | None:
    """Heatmaps of the model that made the queue, which need not be the lane's last; None where it is not here."""
    cards = sorted(models.glob(f"*/{CARD}")) if lane in MAP_MODELS else []
    made = [card.parent for card in cards if load_card(card.parent).key == items[0].model_key]
    if not made:
        return None

    def open_model() -> MapModel:
        module, name = MAP_MODELS[lane]
        opened: MapModel = getattr(importlib.import_module(module), name).open(made[0])
        return opened

    return Heatmaps(pictures, open_model)
