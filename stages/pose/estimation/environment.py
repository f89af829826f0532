"""An environment of its own for MediaPipe, whose pinned packages would not go with the project's.

    python -m stages.pose.estimation.environment            makes .venv-mediapipe, once, from a package index

The worker is run by this environment's interpreter; only Parquet files pass between the two.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from stages.core.errors import StageError

DEFAULT = Path(".venv-mediapipe")
"""Where the environment lies, at the root of a checkout."""

PYTHONS = ("3.11", "3.12")
"""Versions of Python that every package of requirements.txt has a wheel for."""

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_COMPLETE = ".complete"
_TRIAL = "import cv2, pyarrow.parquet, mediapipe.python.solutions.pose"


def interpreter(folder: Path) -> Path:
    """The interpreter of a complete environment.

    Raises:
        StageError: there is none, or it was made for other requirements.
    """
    python, mark = folder / "bin" / "python", folder / _COMPLETE
    how = f"run `python -m stages.pose.estimation.environment --path {folder}`"
    if not python.is_file():
        raise StageError(
            f"there is no environment for MediaPipe in {folder}: {how} (it needs a package index)"
        )
    if not mark.is_file() or mark.read_text(encoding="utf-8") != _requirements_digest():
        raise StageError(f"{folder} does not hold what {REQUIREMENTS.name} asks for: {how}")
    return python


def create(folder: Path, python: str = sys.executable) -> Path:
    """Make the environment, unless it is complete, and return its interpreter.

    Args:
        folder: what is there is removed if it is an environment, and left alone with an error otherwise.
        python: an interpreter of one of PYTHONS.
    Raises:
        StageError: another Python, something else in `folder`, or packages that cannot be had.
    """
    try:
        return interpreter(folder)
    except StageError:
        pass
    version = _run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], "asking its version")
    if version.strip() not in PYTHONS:
        raise StageError(
            f"{python} is Python {version.strip()}; MediaPipe 0.10.21 has wheels for {' and '.join(PYTHONS)}: "
            "name such an interpreter with --python"
        )
    if folder.exists():
        if not (folder / "pyvenv.cfg").is_file():
            raise StageError(f"{folder} exists and is no environment: move it away, or name another --path")
        shutil.rmtree(folder)
    _run([python, "-m", "venv", str(folder)], "making a virtual environment")
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "-r", str(REQUIREMENTS)], "installing its packages")
    _run([inside, "-c", _TRIAL], "loading MediaPipe")
    (folder / _COMPLETE).write_text(_requirements_digest(), encoding="utf-8")
    return interpreter(folder)


def _requirements_digest() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise StageError(f"{what}: {command[0]} cannot be run: {error}") from None
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise StageError(f"{what} failed with status {done.returncode}:\n{said}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--path", type=Path, default=DEFAULT, help="of the environment")
    parser.add_argument("--python", default=sys.executable, help=f"Python {' or '.join(PYTHONS)}")
    arguments = parser.parse_args()
    try:
        print(create(arguments.path, arguments.python))
    except StageError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
