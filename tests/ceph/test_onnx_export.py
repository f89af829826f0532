"""The ONNX file answers as the lane's own prediction does, for every kind of map and any size of film."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.ceph import onnx_export
from stages.ceph.locating.model import TrainedCeph
from stages.ceph.onnx_export import EXPECTED, Graph, film_model
from stages.ceph.schema import CEPH
from stages.core.errors import StageError
from stages.core.export.onnx_file import FILM, LANDMARKS, ask, session, write_film_model

from .stored import draw_film, fit_settings, settings
from .untrained import write_untrained

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TURNED = [{"rotation": 0.0, "log_scale": 0.0}, {"rotation": 4.0, "log_scale": 0.05}]
KINDS: dict[str, dict[str, Any]] = {
    "local": {},
    "mean": {"decode": "mean"},
    "highest": {"decode": "highest"},
    "gaussian": {"maps": "gaussian"},
}


def films(*sizes: tuple[int, int]) -> list[np.ndarray]:
    from stages.core.data import geometry

    film, _ = draw_film(np.random.default_rng(2))
    return [geometry.resize(film, size) for size in sizes]


def exported(model: Path, file: Path) -> TrainedCeph:
    trained = TrainedCeph.open(model)
    write_film_model(file, film_model(trained), [{FILM: film} for film in films((240, 192), (97, 131))])
    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_answers_as_torch_does(kind: str, tmp_path: Path) -> None:
    changed = {"network": settings()["network"] | KINDS[kind], "views": TURNED}
    if kind == "gaussian":
        phase = fit_settings()["phases"][0] | {"weights": {"mse": 1.0}}
        changed["fit"] = fit_settings(phases=[phase])
    trained = exported(write_untrained(tmp_path / "model", **changed), tmp_path / "m.onnx")
    opened = session(tmp_path / "m.onnx")
    for film in films((240, 192), (331, 255), (80, 64), (51, 300)):
        found, wanted = ask(opened, {FILM: film}), trained.predict_film(film)
        assert found[LANDMARKS].shape == (CEPH.n_points, 2)
        np.testing.assert_allclose(found[LANDMARKS], wanted.points[0], atol=0.05)
        np.testing.assert_allclose(found[EXPECTED], wanted.expected_error[0], rtol=0.02)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    model = write_untrained(tmp_path / "model", key="abc")
    for name in "ab":
        exported(model, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    facts = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert (facts["lane"], facts["dataset"], facts["key"]) == ("ceph", "phantom", "abc")
    assert facts["notice"] == "research use only"
    assert json.loads(facts["landmarks"]) == list(CEPH.names)
    assert list(json.loads(facts["inputs"])) == [FILM]
    assert list(json.loads(facts["outputs"])) == [LANDMARKS, EXPECTED]
    assert str(tmp_path) not in str(facts)


def test_a_wrong_decode_is_refused_and_the_file_that_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a pixel of the network's input: the mistake that every export of heatmaps makes once."""
    model, file = write_untrained(tmp_path / "model"), tmp_path / "m.onnx"
    file.write_bytes(b"earlier")
    right = Graph._seen

    def shifted(self: Graph, *told: Any) -> Any:
        points, peak, spread = right(self, *told)
        return points + 0.5, peak, spread

    monkeypatch.setattr(Graph, "_seen", shifted)
    with pytest.raises(StageError, match=r"do not place the points alike .* landmarks 2\.1"):
        exported(model, file)
    assert file.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "model"]


def test_one_landmark_under_a_neighbours_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Graph.forward

    def exchanged(self: Graph, film: Any) -> Any:
        points, expected = right(self, film)
        return points[[1, 0, *range(2, CEPH.n_points)]], expected

    monkeypatch.setattr(Graph, "forward", exchanged)
    with pytest.raises(StageError, match="do not place the points alike"):
        exported(write_untrained(tmp_path / "model"), tmp_path / "m.onnx")


def test_the_command_checks_phantoms_of_several_sizes(tmp_path: Path) -> None:
    told = onnx_export.export(write_untrained(tmp_path / "model"), tmp_path / "out" / "m.onnx")
    assert told.n_checked == 6
    assert told.lines()["outputs"] == f"{LANDMARKS}, {EXPECTED}"
    assert (tmp_path / "out" / "m.onnx").is_file()
