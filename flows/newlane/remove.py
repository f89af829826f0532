"""Taking a described lane away: what `make` and the build wrote goes, what people made stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from flows.newlane import text
from stages.core.errors import StageError
from stages.custom.description import FOLDER, description_file


def removed(root: Path, name: str) -> list[str]:
    """`remove`, in lines for a person to read."""
    touched = ", ".join(path.relative_to(root).as_posix() for path in remove(root, name))
    return [
        f"lane {name} is gone: {touched}",
        "Films, labels, reviews and registered models are left as they are.",
    ]


def remove(root: Path, name: str) -> list[Path]:
    """Take a lane's description, parameters, stages and outputs out of the checkout.

    params.yaml, dvc.yaml, dvc.lock and reports/.gitignore are as before, byte for byte. Films, labels, reviews,
    registered models, MLflow's runs and DVC's cache are left.

    Returns:
        What was changed or removed.
    Raises:
        StageError: there is no such lane, or it is none of the described ones.
    """
    description = description_file(root, name)
    if not description.is_file():
        raise StageError(f"there is no described lane '{name}': no {FOLDER / description.name}")
    changes: dict[str, Callable[[str], str]] = {
        "dvc.yaml": lambda t: text.without_block(
            t, f"  # ------------ {name}: ", ("  # ------------ ", "  index:")
        ),
        "dvc.lock": lambda t: text.without_entries(t, f"{name}-"),
        "params.yaml": lambda t: text.without_section(
            text.without_keys(t, "raw", (name, f"{name}_labels")), name
        ),
        "reports/.gitignore": lambda t: text.without_lines(t, f"/{name}.html\n"),
    }
    touched = []
    for file, change in changes.items():
        path = root / file
        if path.is_file() and (before := path.read_text(encoding="utf-8")) != (after := change(before)):
            text.replace(path, after)
            touched.append(path)
    outputs = [root / part / name for part in ("data", "models", "reports")]
    outputs += [root / "reports" / f"{name}.html", description]
    outputs += sorted((root / "data" / "raw" / "names").glob(f"{name}-*.csv"))
    for path in outputs:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
        else:
            continue
        touched.append(path)
    if not any(description.parent.iterdir()):
        description.parent.rmdir()
    return touched
