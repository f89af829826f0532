"""A page is one well-formed file that loads nothing, and carries its summary for the page of all lanes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import StageError
from stages.core.report.claims import Claim, claims_table, judge
from stages.core.report.markup import tag
from stages.core.report.page import (
    Cell,
    Method,
    Page,
    Summary,
    Tile,
    answers,
    banner,
    read_summary,
    table,
    tiles,
)
from stages.core.report.sections import comparison_table, styles, verdict_sentence
from stages.core.report.wording import Estimate
from tests.report_pages import read_page

MODEL = Method("net", "network", Estimate(5.0, 4.0, 6.0, 0.95), is_model=True)


def against(name: str, verdict: str, low: float = -2.0, high: float = -1.0) -> Method:
    return Method(name, name, Estimate(6.5, 6.0, 7.0, 0.95), False, Estimate(-1.5, low, high, 0.95), verdict)


def summary(text: str = "words") -> Summary:
    return Summary(
        lane="spine",
        title="Spine",
        subject=text,
        dataset="phantom",
        phantom=True,
        unit="raw px",
        tiles=(
            Tile("Mean", Estimate(5.0, math.nan, math.nan), "raw px"),
            Tile("Films", value="7", note=text),
        ),
        methods=(MODEL, against("mean shape", "better")),
        answers=(("good", text),),
    )


def test_a_summary_survives_the_page_whatever_its_words(tmp_path: Path) -> None:
    given = summary("</script><script>alert('&amp;')</script>\u2028")
    page = Page("Spine", "points", summary=given)
    page.add("one", "One", tag("p", "text"))
    path = tmp_path / "page.html"
    path.write_text(page.html(), encoding="utf-8")
    reader = read_page(path)
    assert sum(name == "script" for name, _ in reader.elements) == 1
    found = read_summary(path)
    assert found.methods == given.methods
    assert found.answers == given.answers
    assert found.subject == given.subject
    assert math.isnan(found.tiles[0].estimate.low)  # type: ignore[union-attr]


def test_a_file_without_a_summary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.html"
    path.write_text("<html></html>")
    with pytest.raises(StageError, match=r"other\.html holds no summary"):
        read_summary(path)


def test_sections_can_be_reached(tmp_path: Path) -> None:
    page = Page("Title", "subtitle")
    for name in ("a", "b", "c"):
        page.add(name, name.upper(), lead="why")
    path = tmp_path / "page.html"
    path.write_text(page.html(), encoding="utf-8")
    elements = read_page(path).elements
    assert "<nav" not in Page("Title", "subtitle", contents=False).html()
    assert [a["href"] for name, a in elements if name == "a"] == ["#a", "#b", "#c"]
    assert [a["id"] for name, a in elements if name == "section"] == ["a", "b", "c"]


def test_banner_tells_phantom_from_real() -> None:
    assert "not real data" in banner("phantom", True, "")
    assert "about Spine and Chest was measured" in banner("phantom", True, "", only=["Spine", "Chest"])
    real = banner("aasce", "", "481 films")
    assert "aasce" in real
    assert "phantom" not in real


def test_tiles_show_level_and_interval_only_where_there_is_one() -> None:
    shown = tiles([Tile("Error", Estimate(5, 4, 6, 0.9), "px"), Tile("Median", Estimate(3.0), "px")])
    assert "90 % interval 4.00 to 6.00" in shown
    assert shown.count("interval") == 1


def test_cells_are_shaded_within_bounds() -> None:
    shown = table(["joint", "dz"], [["hip", Cell("1", heat=0.25)], ["wrist", Cell("2", heat=7.0)]])
    assert "/ 0.25)" in shown
    assert "/ 1.00)" in shown


@pytest.mark.parametrize(
    ("verdicts", "style", "phrase"),
    [
        (["better", "better"], "good", "It beats floor0 and floor1."),
        (["better", "worse"], "bad", "It is worse than floor1."),
        (["better", "no difference"], "open", "No difference is shown from floor1."),
        (["too few groups", "better"], "open", "too few cases to compare it with floor0"),
    ],
)
def test_the_first_sentence_is_no_kinder_than_the_worst_verdict(
    verdicts: list[str], style: str, phrase: str
) -> None:
    methods = [MODEL, *(against(f"floor{k}", v) for k, v in enumerate(verdicts))]
    found, sentence = verdict_sentence(methods, "px", "9 films")
    assert found == style
    assert "On 9 films the model is off by 5.00 px (4.00 to 6.00)" in sentence
    assert phrase in sentence


def test_nothing_to_compare_is_said() -> None:
    assert verdict_sentence([], "px", "9 films") == ("open", "No trained model was evaluated.")
    assert "compared with nothing" in verdict_sentence([MODEL], "px", "9 films")[1]


def test_the_table_of_methods_holds_differences_and_words() -> None:
    shown = comparison_table([MODEL, against("mean shape", "better"), Method("x", "x", Estimate(1.0))], "px")
    for text in ("mean shape", "−1.50", "−2.00 to −1.00", "beats", "not compared", "95 % interval"):
        assert text in shown


def test_only_the_first_model_stands_out_and_styles_suffice() -> None:
    many = [MODEL, MODEL, *(against(str(k), "better") for k in range(12))]
    assert styles(many).count("model") == 1
    assert len(styles(many)) == 14


@pytest.mark.parametrize(
    ("estimate", "unreal", "verdict"),
    [
        (Estimate(5, 4, 6), "", "better here"),
        (Estimate(9, 8.5, 10), "", "not reached here"),
        (Estimate(8, 7, 9), "", "in agreement"),
        (Estimate(5), "", "no verdict: no interval"),
        (Estimate(5, 4, 6), "phantom", "no verdict: phantom"),
        (Estimate(5, 4, 6), "simulated", "no verdict: simulated"),
        (None, "", "not tested"),
    ],
)
def test_a_claim_is_judged_only_on_real_data_with_an_interval(
    estimate: Estimate | None, unreal: str, verdict: str
) -> None:
    claim = Claim("error", "8.13 px", "description", 8.13, "model")
    assert judge(claim, estimate, unreal)[0] == verdict


def test_claims_without_a_measurement_stay_in_the_table() -> None:
    shown = claims_table([Claim("speed", "2 s", "description", remark="contradictory")], {}, "")
    for text in ("speed", "2 s", "description", "not measured", "not tested", "contradictory"):
        assert text in shown


def test_answers_keep_their_style() -> None:
    assert answers([("bad", "worse <than> floors")]) == (
        '<ul class="answers"><li class="bad">worse &lt;than&gt; floors</li></ul>'
    )


@pytest.mark.parametrize(
    "module", ["stages.spine.report", "stages.chest.report", "stages.pose.report", "stages.index"]
)
def test_importing_a_report_loads_nothing_heavy(module: str, root: Path) -> None:
    heavy = "{'torch', 'matplotlib', 'sklearn', 'mlflow', 'prefect', 'albumentations', 'cv2'}"
    code = f"import sys, {module}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
