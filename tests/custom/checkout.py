"""A scratch checkout for described lanes, and their stages run in this process."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from flows.deps import read_stages
from stages.core.params import load_params
from stages.core.stage import Observer
from stages.custom.command import for_lane

SIDE = 64
STEPS = [
    ("input", r"input: \{height: \d+, width: \d+\}", f"input: {{height: {SIDE}, width: {SIDE}}}"),
    ("epochs", r"epochs: \d+", "epochs: 2"),
    ("size", r"size: \[\d+, \d+\]", "size: [80, 64]"),
    ("thumbnail", r"thumbnail: \{[^}]*\}", "thumbnail: {height: 48, width: 48}"),
    ("resamples", r"resamples: 2000", "resamples: 200"),
    ("rotations", r"rotations: \[[^]]*\]", "rotations: [0.0]"),
]
"""what makes a build a matter of seconds"""


def checkout(root: Path, target: Path) -> Path:
    """A clone of `root` with its tracked files as they are now, without data, cache or models."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(root), str(target)], check=True)
    listed = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    for line in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
        if (root / line).is_file():
            (target / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / line, target / line)
    return target


def tracked(root: Path) -> dict[str, bytes]:
    """Every file of a checkout that Git tracks or would, and its bytes."""
    listed = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line: (root / line).read_bytes() for line in lines if (root / line).is_file()}


def make_small(root: Path, name: str) -> None:
    """Shrink the lane's parameters so that a build takes seconds."""
    file = root / "params.yaml"
    before, head, section = file.read_text().partition(f"\n{name}:")
    section, tail, after = section.partition("\nindex:")
    for _, pattern, small in STEPS:
        section, n = re.subn(pattern, small, section)
        assert n, f"the template has no {pattern} any more"
    file.write_text(before + head + section + tail + after)


def build(root: Path, name: str) -> dict[str, dict[str, float]]:
    """Run the lane's stages as dvc.yaml names them, in order, in this process; step -> its metrics."""
    raw = yaml.safe_load((root / "params.yaml").read_text())["raw"]
    told = {}
    for stage, entry in read_stages(root).items():
        if not stage.startswith(f"{name}-"):
            continue
        words = shlex.split(entry["cmd"])
        run = for_lane(importlib.import_module(words[2]).run, name)
        params: Any = load_params(get_type_hints(run)["params"], root / "params.yaml")
        options = dict(zip(words[3::2], words[4::2], strict=True))
        paths = {
            key: root / re.sub(r"\$\{raw\.(\w+)\}", lambda m: raw[m[1]], path)
            for key, path in options.items()
        }
        observe = Observer.quiet(root.parent / "scratch" / stage)
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        written = {"--history"} if stage.endswith("-train") else set()
        inputs = {
            key[2:].replace("-", "_"): path
            for key, path in paths.items()
            if key not in {"--metrics"} | written
        }
        told[stage.partition("-")[2]] = run(params=params, observe=observe, **inputs)
        for key in written:
            steps = sorted(observe.history)
            columns = list(observe.history[steps[0]])
            rows = [",".join(["step", *columns])]
            rows += [",".join([str(s), *(str(observe.history[s][c]) for c in columns)]) for s in steps]
            paths[key].write_text("\n".join(rows) + "\n")
    return told
