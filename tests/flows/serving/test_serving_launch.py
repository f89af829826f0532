"""Starting the service, its parameters, and what the real lanes offer it."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from flows.lanes import LANES
from flows.serving.launch import serve
from flows.serving.settings import ServingParams
from flows.serving.source import reads_films
from stages.chest import predict as chest
from stages.chest.schema import CHEST
from stages.core.data.decode import decode_film
from stages.core.errors import StageError
from stages.core.model.prediction import LIMITS
from stages.core.params import load_params
from tests.conftest import ROOT
from tests.flows.review.browser import until
from tests.flows.serving.toy_lane import PARAMS, film, release
from tests.mlflow_checkout import card


@pytest.mark.parametrize("profile", ["demo", "cpu", "full"])
def test_params_yaml_fills_every_profile(profile: str) -> None:
    params = load_params(ServingParams, ROOT / "params.yaml", profile)
    assert params.canary.percent == 0, "no challenger answers films unless a person says so"


def test_lanes_that_read_films_answer_a_decoded_one() -> None:
    assert not reads_films("pose")
    assert not reads_films("nothing")
    films = [name for name in LANES if name != "pose"]
    assert [name for name in films if reads_films(name)] == films
    for name in films:
        module = LANES[name].module("predict")
        assert list(inspect.signature(module.predict_film).parameters)[1] == "film"
        assert list(inspect.signature(module.open_model).parameters) == ["model"]


def test_a_film_is_answered_as_the_command_answers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.core.model.card import load_card

    content = json.loads(card("chest")) | {"params": {"coverage": 0.9}, "schema": list(CHEST.names)}
    (tmp_path / "card.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    found = SimpleNamespace(points=rng.uniform(0, 70, (1, 15, 2)), radius=rng.uniform(1, 9, (1, 15)))
    trained: Any = SimpleNamespace(card=load_card(tmp_path), predict_film=lambda _: found)
    monkeypatch.setattr(chest, "open_model", lambda _: trained)
    path = tmp_path / "film.png"
    path.write_bytes(film())
    (of_command,) = chest.predict_files(tmp_path, [path], tmp_path / "out")
    of_service = chest.predict_film(trained, decode_film(path, LIMITS))
    assert of_command == {"file": str(path), "overlay": "film.overlay.png", **of_service}


def write_params(root: Path, **changes: Any) -> None:
    serving = PARAMS.model_dump(mode="json") | changes
    (root / "params.yaml").write_text(
        yaml.safe_dump({"profile": "demo", "profiles": {"demo": {}}, "serving": serving})
    )
    (root / "dvc.yaml").write_text("stages: {}\n")


def test_what_cannot_be_served_is_said_before_anything_starts(root: Path) -> None:
    write_params(root)
    release(root, 1)
    with pytest.raises(StageError, match="no alias 'best'; there are champion, challenger, previous"):
        serve(root, ["toy"], alias="best")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StageError, match=f"cannot listen at 127.0.0.1:{port}.*--port"):
            serve(root, ["toy"], port=port)


@pytest.mark.slow
def test_a_service_of_its_own_process_answers_and_ends_on_demand(root: Path) -> None:
    write_params(root, port=0)
    release(root, 1)
    command = [sys.executable, "-m", "tests.flows.serving.test_serving_launch", str(root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.match(r"http://127\.0\.0\.1:\d+(?=  toy-phantom)", process.stdout.readline())
        assert found is not None

        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"{found[0]}/health") as response:
                    return response.status == 200
            except OSError:
                return False

        until(ready, "the service is ready")
        request = urllib.request.Request(f"{found[0]}/predict/toy", film(), {"content-type": "image/png"})
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["model"]["version"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def main(root: Path) -> None:
    """In the child: the toy lane, served."""
    from flows.processes import follow_parent
    from tests.flows.serving.toy_lane import ToyLane

    follow_parent(os.getppid())
    LANES["toy"] = ToyLane("toy", Path("models/toy/mean"))
    serve(root, ["toy"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
