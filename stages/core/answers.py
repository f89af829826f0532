"""What every film lane does with the films that it is asked about, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stages.core.data.decode import Film, FilmError
from stages.core.model.prediction import overlay_names


def answer_films(
    films: Mapping[Path, Film | FilmError], out: Path, answer: Callable[[Film, Path], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One answer a file, in their order, ready for JSON; or `error` with a reason where a file is no film.

    Args:
        films: as `read_films` gives them.
        out: folder for the overlays; created.
        answer: gives the lane's answer for a film and writes its overlay to the path.
    """
    names = overlay_names(list(films))
    out.mkdir(parents=True, exist_ok=True)
    answers: list[dict[str, Any]] = []
    for file, film in films.items():
        if isinstance(film, FilmError):
            answers.append({"file": str(file), "error": {"reason": film.reason, "detail": film.detail}})
            continue
        told = answer(film, out / names[file])
        answers.append({"file": str(file), "overlay": names[file], **told})
    return answers
