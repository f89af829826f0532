"""Two people at the same time: two clones with one remote lose nothing of each other's work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.miniature import Miniature


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_clones_build_and_push_to_one_remote_at_once(
    template: Path, tmp_path: Path, prefect_server: str, undisturbed: dict[str, bytes]
) -> None:
    first, second, third = (_clone(template, tmp_path, name, prefect_server) for name in ("a", "b", "c"))
    together = [(first, "demo"), (second, "cpu")]
    builds = [mini.start("flows.build", "--profile", profile) for mini, profile in together]
    for build in builds:
        said, _ = build.communicate(timeout=400)
        assert build.returncode == 0, said
    pushes = [mini.start("dvc", "push", "--run-cache") for mini, _ in together]
    for push in pushes:
        said, _ = push.communicate(timeout=200)
        assert push.returncode == 0, said
    assert first.outputs() == undisturbed != second.outputs()

    for mini, _ in together:
        for carried_by_git in ("params.yaml", "dvc.lock", "out/merge.json"):
            (third.root / "out").mkdir(exist_ok=True)
            shutil.copy(mini.root / carried_by_git, third.root / carried_by_git)
        code, said = third.run("dvc", "pull", "--run-cache")
        assert code == 0, said
        code, said = third.run("dvc", "repro")
        assert (code, "up to date" in said, "Running stage" in said) == (0, True, False), said
        assert third.outputs() == mini.outputs()


def _clone(template: Path, folder: Path, name: str, api: str) -> Miniature:
    root = folder / name
    shutil.copytree(template, root, symlinks=True)
    mini = Miniature(root, api)
    code, said = mini.run("dvc", "remote", "add", "--default", "team", str(folder / "remote"))
    assert code == 0, said
    return mini
