"""Switching profiles and raw folders."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.profiles import assert_known, selection, switch, use
from stages.core.errors import StageError


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    shutil.copy(root / "params.yaml", tmp_path)
    (tmp_path / "films").mkdir()
    return tmp_path


def test_switching_there_and_back_restores_the_file(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    use(project, "cpu", {"spine": str(project / "films")})
    assert selection(project).profile == "cpu"
    assert selection(project).raw["spine"] == "films", "inside the checkout the path is relative"
    use(project, "demo", {})
    assert (project / "params.yaml").read_bytes() == before


def test_only_what_is_asked_changes(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    before = yaml.safe_load(text)
    use(project, "cpu", {"chest": str(project.parent)})
    after = yaml.safe_load((project / "params.yaml").read_text())
    assert after["raw"]["chest"] == str(project.parent.resolve())
    before["profile"], before["raw"]["chest"] = after["profile"], after["raw"]["chest"]
    assert before == after
    lines = (project / "params.yaml").read_text().splitlines()
    changed = [line for line, was in zip(lines, text.splitlines(), strict=True) if line != was]
    assert [line.split(":")[0].strip() for line in changed] == ["profile", "chest"]


@pytest.mark.parametrize("name", ["films: of the clinic", "#7", "null", "films' ünd more", "- a", "0755"])
def test_a_folder_of_any_name_is_read_back(project: Path, name: str) -> None:
    (project / name).mkdir()
    use(project, "cpu", {"pose": str(project / name)})
    assert selection(project).raw["pose"] == name
    before = (project / "params.yaml").read_bytes()
    use(project, "cpu", {})
    assert (project / "params.yaml").read_bytes() == before


def test_lanes_not_named_keep_their_folder_outside_demo(project: Path) -> None:
    use(project, "cpu", {"spine": str(project / "films")})
    use(project, "cpu", {"chest": str(project / "films")})
    assert selection(project).raw["spine"] == "films"
    use(project, "cpu", {"spine": "phantom"})
    assert selection(project).raw["spine"] == "data/raw/spine-phantom"


def test_every_missing_folder_is_named_and_nothing_changes(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(StageError) as error:
        use(project, "cpu", {"spine": "nowhere", "pose": "nothing"})
    assert "nowhere" in str(error.value)
    assert "nothing" in str(error.value)
    with pytest.raises(StageError, match="'night'"):
        use(project, "night", {})
    assert (project / "params.yaml").read_bytes() == before


def test_a_build_switches_as_the_command_does_and_says_what_changed(project: Path) -> None:
    use(project, "cpu", {"spine": str(project / "films")})
    assert switch(project, "cpu") == []
    assert switch(project, "full") == ["params.yaml: profile full (was cpu)"]
    assert selection(project).raw["spine"] == "films", "a folder of films is kept"
    said = switch(project, "demo")
    assert said == [
        "params.yaml: profile demo (was full)",
        "params.yaml: raw.spine data/raw/spine-phantom (was films)",
    ]


def test_an_unknown_profile_is_refused_with_those_that_exist(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    for refuse in (assert_known, switch):
        with pytest.raises(StageError, match="no profile 'night'.*demo, cpu, full"):
            refuse(project, "night")
    assert (project / "params.yaml").read_bytes() == before
