"""The service as its clients see it: answers, stamps, refusals, and swaps under load."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flows import registry
from flows.lanes import LANES
from flows.registry import commands
from flows.serving import canary
from flows.serving.app import Service
from flows.serving.follower import Follower
from flows.serving.shadow import LOG, pairs, read_log
from tests.flows.serving.toy_lane import PARAMS, Behaviour, film, key_of, release, roll_back, shelf_of

Serve = Callable[..., tuple[TestClient, Service, Follower]]
PNG = {"content-type": "image/png"}


def ask(client: TestClient, content: bytes, **options: Any) -> Any:
    return client.post("/predict/toy", content=content, headers=PNG, **options)


def error_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["reason"]


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_an_answer_says_which_model_gave_it(root: Path, serve: Serve) -> None:
    key = release(root, 1)
    client, _, _ = serve()
    response = ask(client, film(size=(90, 70)))
    assert response.status_code == 200
    answer = response.json()
    assert (answer["width"], answer["height"], answer["phantom"]) == (70, 90, True)
    assert [mark["x"] for mark in answer["landmarks"]] == [1.0, 1.0]
    model = answer["model"]
    assert (model["registered_name"], model["version"], model["model_key"]) == ("toy-phantom", 1, key)
    assert (model["trained_on"], model["notice"]) == ("phantom", "research use only")
    assert len(model["calibration_id"]) == 12
    assert answer["arm"] == "champion"


def test_swaps_under_load_never_mislabel_an_answer(root: Path, serve: Serve, behaviour: Behaviour) -> None:
    """Each toy model puts its points in the column of its version: point, version and key have to agree."""
    keys = {version: release(root, version) for version in (1, 2, 3)}
    behaviour.slow_s = 0.005
    client, _, follower = serve()
    stop = threading.Event()

    def deploy() -> None:
        turn = 0
        while not stop.is_set():
            roll_back(root, to=1 + turn % 3)
            turn += 1
            time.sleep(0.03)

    def hammer(worker: int) -> list[tuple[float, int, str]]:
        found = []
        for n in range(40):
            response = ask(client, film(100 * worker + n))
            assert response.status_code == 200, response.text
            answer = response.json()
            found.append(
                (answer["landmarks"][0]["x"], answer["model"]["version"], answer["model"]["model_key"])
            )
        return found

    deployer = threading.Thread(target=deploy)
    deployer.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            answers = [one for found in pool.map(hammer, range(6)) for one in found]
    finally:
        stop.set()
        deployer.join()
    assert all(x == version and key == keys[version] for x, version, key in answers)
    assert len({version for _, version, _ in answers}) > 1
    assert follower.swaps > 1
    logged = [entry for entry in read_log(root) if entry["role"] == "served"]
    assert len(logged) == len(answers)
    assert all(entry["points"][0][0] == entry["version"] for entry in logged)


def test_a_film_that_waits_is_answered_by_the_model_that_took_it_in(
    root: Path, serve: Serve, behaviour: Behaviour
) -> None:
    release(root, 1)
    client, _, follower = serve(params=PARAMS.model_copy(update={"workers": 1}))
    behaviour.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(ask, client, film(n)) for n in range(2)]  # one at work, one in the queue
        until(lambda: b"plumbline_films_in_house 2.0" in client.get("/metrics").content)
        release(root, 2)
        until(lambda: follower.swaps == 1)
        behaviour.gate.set()
        answers = [future.result().json() for future in inside]
    assert [(answer["landmarks"][0]["x"], answer["model"]["version"]) for answer in answers] == [(1.0, 1)] * 2
    assert ask(client, film()).json()["model"]["version"] == 2


def test_two_promotions_at_once_while_serving(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands themselves, without MLflow's view of the log: one swap, and no answer between two versions."""
    monkeypatch.setattr(commands, "mlflow_client", lambda _: nullcontext())
    monkeypatch.setattr(commands, "match", lambda *_: [])
    monkeypatch.setattr(commands.tracking, "sync", lambda _: None)
    bootstrap = {"resamples": 100, "level": 0.95, "method": "percentile", "minimum_groups": 2}
    policy = {
        "require_floor": False,
        "against_champion": "not_worse",
        "tolerance": 9.0,
        "bootstrap": bootstrap,
    }
    params = {"profile": "demo", "seed": 3, "registry": policy, "profiles": {"demo": {}}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    release(root, 1)
    client, _, follower = serve()
    shelf = shelf_of(root, release(root, 1.5))
    shutil.copy(shelf / "candidate.json", root / "models" / "toy")
    roll_back(root, to=1)
    until(lambda: follower.lineup is not None and follower.lineup.champion.target.version == 1)
    swaps = follower.swaps
    with ThreadPoolExecutor(3) as pool:
        promotions = [
            pool.submit(registry.promote, "toy", root, force=True, reason="twice at once") for _ in range(2)
        ]
        asked = pool.submit(lambda: [ask(client, film(n)).json() for n in range(20)])
        said = [promotion.result() for promotion in promotions]
        answers = asked.result()
    assert [decision.champion for decision in said] == [2, 2]
    until(lambda: follower.lineup is not None and follower.lineup.champion.target.version == 2)
    answers.append(ask(client, film()).json())
    assert answers[-1]["model"]["version"] == 2
    assert follower.swaps == swaps + 1
    placed = {1: 1.0, 2: 1.5}
    assert all(answer["landmarks"][0]["x"] == placed[answer["model"]["version"]] for answer in answers)


def test_a_service_without_a_model_says_so_and_becomes_ready(root: Path, serve: Serve) -> None:
    folder = shelf_of(root, release(root, 1))
    folder.rename(folder.with_name("away"))
    client, _, _ = serve()
    health = client.get("/health")
    assert health.status_code == 503
    assert "gone" in health.json()["lanes"]["toy"]["complaints"][0]
    response = ask(client, film())
    assert error_of(response) == (503, "not_ready")
    assert "retry-after" in response.headers
    folder.with_name("away").rename(folder)
    until(lambda: client.get("/health").status_code == 200)
    assert ask(client, film()).status_code == 200


def test_a_refused_swap_shows_in_health_while_the_old_model_answers(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    assert client.get("/health").json()["status"] == "ok"
    release(root, 2, promote=False)
    (shelf_of(root, key_of(2)) / "mean" / "weights.pt").write_bytes(b"")
    release(root, 2)  # what lies on the shelf stays
    until(lambda: client.get("/health").json()["status"] == "degraded")
    health = client.get("/health")
    assert health.status_code == 200
    assert "version 2" in health.json()["lanes"]["toy"]["complaints"][0]
    assert ask(client, film()).json()["model"]["version"] == 1


def test_a_phantom_model_reads_no_persons_film_unless_told(root: Path, serve: Serve) -> None:
    release(root, 1)
    release(root, 2, dataset="clinic")
    person = film(phantom=False)
    strict, open_to_all, real = (
        serve()[0], serve(allow_phantom=True)[0], serve("toy-clinic")[0],
    )  # fmt: skip
    assert error_of(ask(strict, person)) == (403, "phantom")
    assert ask(strict, film()).status_code == 200
    assert ask(open_to_all, person).json()["phantom"] is False
    assert ask(real, person).json()["model"]["trained_on"] == "clinic"
    assert len(read_log(root)) == 3


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (b"x" * 1_100_000, PNG, (413, "too_large")),
        (b"", PNG, (400, "empty")),
        (b"no film at all", PNG, (422, "film_format")),
        (film()[:-2000], PNG, (422, "film_truncated")),
        (b"no film at all", {"content-type": "application/dicom"}, (422, "film_format")),
        (film(size=(20, 20)), PNG, (422, "film_tiny")),
        (film(), {"content-type": "text/plain"}, (415, "content_type")),
        (film(), {}, (415, "content_type")),
        (film(), {"content-type": "multipart/form-data"}, (400, "form")),
        (film(), {"content-type": "multipart/form-data; boundary=x"}, (400, "form")),
        (b"--x\r\nno header\r\n\r\n", {"content-type": "multipart/form-data; boundary=x"}, (400, "form")),
    ],
)
def test_a_body_that_is_no_film_is_refused_with_a_reason(
    root: Path, serve: Serve, content: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    release(root, 1)
    client, service, _ = serve()
    assert error_of(client.post("/predict/toy", content=content, headers=headers)) == expected
    for _ in range(PARAMS.workers + PARAMS.queue):  # no place was lost on the way
        service.desk.reserve()


def test_a_body_without_a_stated_length_is_cut_off_at_the_limit(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    chunks = (b"x" * 100_000 for _ in range(40))
    assert error_of(client.post("/predict/toy", content=chunks, headers=PNG)) == (413, "too_large")


def test_a_form_carries_the_film_and_hints(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    part = {"film": ("a.png", film(), "image/png")}
    plain = client.post("/predict/toy", files=part)
    assert plain.status_code == 200, plain.text
    assert plain.json()["film_sha256"] == ask(client, film()).json()["film_sha256"]
    texts = client.post("/predict/toy?hint=a=1,2", files=part, data={"hint": ["b=3,4", "c=5,6"]})
    assert texts.json()["hints"] == ["a=1,2", "b=3,4", "c=5,6"]
    options = {"options": json.dumps({"hints": {"T2 BR": [412, 980.5]}})}
    assert client.post("/predict/toy", files=part, data=options).json()["hints"] == ["T2 BR=412,980.5"]


def test_a_request_that_breaks_the_service_is_counted(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("not foreseen")

    release(root, 1)
    client, service, _ = serve()
    monkeypatch.setattr("flows.serving.app.read_upload", broken)
    with pytest.raises(RuntimeError, match="not foreseen"):
        ask(client, film())
    assert b'plumbline_requests_total{lane="toy",status="500"} 1.0' in client.get("/metrics").content
    for _ in range(PARAMS.workers + PARAMS.queue):  # no place was lost on the way
        service.desk.reserve()


def test_a_form_carries_a_film_of_any_size_but_few_words(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    large = film(size=(500, 600))
    assert len(large) > 250_000
    answer = client.post("/predict/toy", files={"film": ("a.png", large, "image/png")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["film_sha256"] == ask(client, large).json()["film_sha256"]
    wordy = client.post("/predict/toy", files={"film": ("a.png", film())}, data={"hint": ["x" * 60_000] * 2})
    assert error_of(wordy) == (400, "form")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": "["}, "one JSON object"),
        ({"options": '{"hints": {"a": [1, "x"]}}'}, "hints are a list"),
        ({"options": '{"hints": [1]}'}, "hints are a list"),
        ({"options": '{"elevation": 3}'}, "has no elevation"),
        ({"hint": "nonsense"}, "hints that are none: nonsense"),
        ({"allow_phantom": "true"}, "unknown fields: allow_phantom"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    root: Path, serve: Serve, fields: dict[str, str], words: str
) -> None:
    release(root, 1)
    client, _, _ = serve()
    response = client.post("/predict/toy", files={"film": ("a.png", film())}, data=fields)
    assert response.status_code == 400
    assert words in response.json()["error"]["detail"]


def test_a_full_house_turns_films_away_and_takes_them_again(
    root: Path, serve: Serve, behaviour: Behaviour
) -> None:
    release(root, 1)
    params = PARAMS.model_copy(update={"workers": 1, "queue": 1})
    client, _, _ = serve(params=params)
    behaviour.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(ask, client, film(n)) for n in range(2)]
        until(lambda: b"plumbline_films_in_house 2.0" in client.get("/metrics").content)
        turned_away = ask(client, film(9))
        behaviour.gate.set()
        assert [future.result().status_code for future in inside] == [200, 200]
    assert error_of(turned_away) == (503, "busy")
    assert turned_away.headers["retry-after"] == "1"
    assert ask(client, film(9)).status_code == 200


def test_a_model_that_fails_is_an_error_of_that_film_only(
    root: Path, serve: Serve, behaviour: Behaviour
) -> None:
    release(root, 1)
    client, _, _ = serve()
    behaviour.broken = {1}
    response = ask(client, film())
    assert error_of(response) == (500, "model")
    assert "broken on purpose" in response.json()["error"]["detail"]
    behaviour.broken = set()
    assert ask(client, film()).status_code == 200


def test_points_that_are_no_numbers_are_no_answer(root: Path, serve: Serve, behaviour: Behaviour) -> None:
    release(root, 1)
    client, _, _ = serve()
    behaviour.shift = float("nan")
    assert error_of(ask(client, film())) == (500, "model")


def test_foreign_hosts_and_origins_are_refused(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    assert ask(client, film()).status_code == 200
    for headers in (
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ):
        response = client.post("/predict/toy", content=film(), headers=PNG | headers)
        assert error_of(response) == (403, "foreign"), headers
    own = {"host": "127.0.0.1:8470", "origin": "http://127.0.0.1:8470"}
    assert client.post("/predict/toy", content=film(), headers=PNG | own).status_code == 200


def test_pages_need_nothing_from_elsewhere(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    for path in ("/", "/page.js", "/page.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert "//" not in response.text.replace("// ", "").replace("http://www.w3.org", ""), path
        assert "default-src 'self'" in response.headers["content-security-policy"]
    assert client.get("/docs").status_code == 404


def test_lanes_that_are_not_served_are_said(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    assert error_of(client.post("/predict/gait", content=film(), headers=PNG)) == (404, "lane")
    assert list(client.get("/models").json()) == ["toy"] == list(LANES)


def test_metrics_count_what_happened(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, follower = serve()
    ask(client, film())
    ask(client, b"no film")
    client.post("/predict/" + "x" * 50, content=b"")
    release(root, 2)
    until(lambda: follower.swaps == 1)
    text = client.get("/metrics").text
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return found["plumbline_" + name, tuple(sorted(labels.items()))]

    assert value("requests_total", lane="toy", status="200") == 1
    assert value("requests_total", lane="toy", status="422") == 1
    assert value("requests_total", lane="unknown", status="404") == 1
    assert value("swaps_total", lane="toy") == 1
    assert value("model_seconds_count", lane="toy", version="1", arm="champion") == 1
    assert value("registry_age_seconds", lane="toy") < 10
    versions = [dict(labels)["version"] for name, labels in found if name == "plumbline_model_info"]
    assert versions == ["2"]


def test_shadow_answers_every_film_twice_and_shows_one(
    root: Path, serve: Serve, behaviour: Behaviour
) -> None:
    release(root, 1)
    release(root, 5, promote=False)
    client, service, _ = serve(shadow=True)
    assert service.shadow is not None
    for n in range(6):
        assert ask(client, film(n)).json()["model"]["version"] == 1
    service.shadow.drain()
    entries = read_log(root)
    assert sorted((e["role"], e["version"]) for e in entries) == [("served", 1)] * 6 + [("shadow", 2)] * 6
    table = pairs(entries)
    assert len(table) == 6
    assert table["mean_px"].tolist() == [4.0] * 6  # columns 1 and 5
    (summary,) = client.get("/models").json()["toy"]["shadow"]
    assert (summary["films"], summary["failures"], summary["mean_px"]) == (6, 0, 4.0)
    behaviour.broken = {5}
    assert ask(client, film(7)).status_code == 200
    service.shadow.drain()
    assert client.get("/models").json()["toy"]["shadow"][0]["failures"] == 1


def test_the_log_keeps_no_film_and_is_put_aside_when_full(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, service, _ = serve(params=PARAMS.model_copy(update={"log_mb": 0.002}))
    for n in range(8):
        ask(client, film(n))
    files = sorted((root / LOG).parent.glob("predictions*"))
    assert [file.name for file in files] == ["predictions.jsonl", "predictions.jsonl.1"]
    assert all(file.stat().st_size <= 2000 for file in files)
    with (root / LOG).open("ab") as stream:
        stream.write(b'{"cut short')
    fields = {"when", "film_sha256", "role", "arm", "width", "height", "points", "seconds"}
    stamp = {"lane", "registered_name", "version", "model_key", "trained_on", "calibration_id"}
    assert {frozenset(entry) for entry in read_log(root)} == {frozenset(fields | stamp)}
    assert service.log.failures == 0


def test_a_log_that_cannot_be_written_costs_no_answer(root: Path, serve: Serve) -> None:
    release(root, 1)
    client, _, _ = serve()
    (root / LOG).mkdir(parents=True)
    assert ask(client, film()).status_code == 200
    assert client.get("/health").json()["unwritten_log_lines"] == 1


def test_a_canary_answers_its_share_and_the_same_films_again(root: Path, serve: Serve) -> None:
    release(root, 1)
    key = release(root, 2, promote=False)
    client, _, _ = serve(percent=50)
    answers = [ask(client, film(n)).json() for n in range(40)]
    for answer in answers:
        to_challenger = canary.goes_to_challenger(answer["film_sha256"], key, 50)
        assert answer["arm"] == ("challenger" if to_challenger else "champion")
        assert answer["model"]["version"] == answer["landmarks"][0]["x"] == (2 if to_challenger else 1)
    assert {answer["arm"] for answer in answers} == {"champion", "challenger"}


def test_a_broken_canary_hurts_nobody_and_is_halted(root: Path, serve: Serve, behaviour: Behaviour) -> None:
    release(root, 1)
    key = release(root, 2, promote=False)
    client, _, follower = serve(percent=100)
    behaviour.broken = {2}
    answers = [ask(client, film(n)) for n in range(30)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"]["version"] for answer in answers} == {1}
    decision = canary.decisions(root)["toy-phantom"]
    assert (decision.key, decision.percent) == (key, 0)
    assert decision.halted is not None
    assert "failed on 100% of 10 films" in decision.halted
    assert b'plumbline_canary_fallbacks_total{lane="toy"} 10.0' in client.get("/metrics").content
    assert follower.lineup is not None
    assert follower.lineup.percent == 0
