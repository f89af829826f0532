"""The page of all lanes repeats what the lanes' pages say, and links them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import index
from stages.core.errors import StageError
from stages.core.params import load_params
from stages.core.report.page import Method, Page, Summary, Tile
from stages.core.report.wording import Estimate
from stages.core.stage import Observer
from tests.report_pages import read_page


def lane_page(folder: Path, lane: str, dataset: str, verdict: str, error: float = 5.0) -> Path:
    floors = (
        Method(
            "far", "mean shape", Estimate(50.0, 40, 60, 0.95), False, Estimate(-45, -50, -40, 0.95), "better"
        ),
        Method("near", "kernel ridge", Estimate(6.0, 5, 7, 0.95), False, Estimate(-1, -2, 1, 0.95), verdict),
        Method("other", "untested", Estimate(0.1, 0.1, 0.2, 0.95)),
    )
    model = Method("net", "network", Estimate(error, error - 1, error + 1, 0.95), is_model=True)
    page = Page(lane.capitalize(), "points")
    page.summary = Summary(
        lane,
        lane.capitalize(),
        f"points of the {lane}",
        dataset,
        dataset == "phantom",
        "px",
        (Tile("Mean error", model.error, "px"),),
        (model, *floors),
        (("open", f"The {lane} <fails> at its end."),),
        caveat="simulated" if lane == "pose" else "",
    )
    path = folder / f"{lane}.html"
    path.write_text(page.html(), encoding="utf-8")
    return path


def write(folder: Path, *pages: Path | None) -> dict[str, float]:
    return index.run(index.Params(), folder / "index.html", Observer.quiet(folder / "scratch"), *pages)


def test_lanes_are_linked_and_judged_by_their_strongest_floor(tmp_path: Path) -> None:
    pages = [
        lane_page(tmp_path, "spine", "aasce", "no difference"),
        lane_page(tmp_path, "chest", "covid15", "worse", error=9.0),
    ]
    assert write(tmp_path, *pages)["n_lanes"] == 2
    page = read_page(tmp_path / "index.html")
    assert {a["href"] for name, a in page.elements if name == "a"} == {"spine.html", "chest.html"}
    for text in ("aasce", "covid15", "The spine <fails> at its end.", "9.00 px", "8.00 to 10.0"):
        assert text in page.text
    assert page.text.count("kernel ridge 6.00") == 2
    assert "no difference shown" in page.text
    assert "worse" in page.text
    assert "phantom" not in page.text.lower()


def test_lanes_on_a_phantom_are_named(tmp_path: Path) -> None:
    pages = [
        lane_page(tmp_path, "spine", "aasce", "better"),
        lane_page(tmp_path, "pose", "phantom", "better"),
    ]
    write(tmp_path, pages[0], None, pages[1])
    page = read_page(tmp_path / "index.html")
    assert "phantom, simulated" in page.text
    assert "Every figure on this page about Pose was measured on data that this program drew" in page.text


def test_links_are_relative_to_the_page(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    page = lane_page(tmp_path / "sub", "spine", "aasce", "better")
    write(tmp_path, page)
    assert 'href="sub/spine.html"' in (tmp_path / "index.html").read_text()
    assert str(tmp_path) not in (tmp_path / "index.html").read_text()


def test_missing_pages_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"spine\.html.*chest\.html.*dvc repro"):
        write(tmp_path, tmp_path / "spine.html", tmp_path / "chest.html")
    with pytest.raises(StageError, match="at least one of --spine, --chest, --ceph, --pose"):
        write(tmp_path)


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    page = lane_page(tmp_path, "spine", "phantom", "better")
    write(tmp_path, page)
    first = (tmp_path / "index.html").read_bytes()
    write(tmp_path, page)
    assert (tmp_path / "index.html").read_bytes() == first


def test_params_are_complete() -> None:
    assert load_params(index.Params) == index.Params()
