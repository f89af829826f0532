"""The shelf: a copy of every registered model and its candidate, from which MLflow can be rebuilt."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import StageError
from stages.core.model.card import folder_digest, load_card
from stages.core.promotion.candidate import Candidate, read_candidate

SHELF = Path(".plumbline") / "registry"
_CANDIDATE = "candidate.json"


@dataclass(frozen=True)
class Shelved:
    """One registered model as it lies on the shelf."""

    folder: Path

    @property
    def candidate(self) -> Candidate:
        return read_candidate(self.folder / _CANDIDATE)

    @property
    def model(self) -> Path:
        """The model folder, whole; a StageError if it is damaged."""
        candidate = self.candidate
        model = next(path for path in sorted(self.folder.iterdir()) if path.is_dir())
        if folder_digest(model) != candidate.model_sha256:
            raise StageError(
                f"{model} was changed after it was registered: it does not match {_CANDIDATE} beside it. "
                "Remove that folder, restore the model (`dvc checkout`) and promote it again."
            )
        return model


def shelved(root: Path, name: str, key: str) -> Shelved | None:
    """The model of this name and DVC key, or None."""
    folder = root / SHELF / name / key
    return Shelved(folder) if folder.is_dir() else None


def shelve(root: Path, candidate: Candidate, model: Path) -> Shelved:
    """Put a candidate and its model on the shelf, all or nothing; what lies there already stays.

    Raises:
        StageError: if another model lies there under the same key.
    """
    target = root / SHELF / candidate.registry_name / candidate.key
    if target.is_dir():
        present = Shelved(target)
        if present.candidate.model_sha256 != candidate.model_sha256:
            raise StageError(
                f"{candidate.registry_name} holds another model under the key {candidate.key[:12]}: the "
                "training stage gave other bytes when it ran again (another kind of CPU or GPU?). Restore "
                "the first one with `dvc checkout`, or train under another seed."
            )
        return present
    partial = target.with_name(f"{candidate.key}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copytree(model, partial / model.name, copy_function=shutil.copyfile)
    (partial / _CANDIDATE).write_text(candidate.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.rename(target)
    return Shelved(target)


def candidate_and_model(root: Path, lane: str, file: str = _CANDIDATE) -> tuple[Candidate, Path]:
    """A lane's candidate as the last build left it in `file`, and the model folder that it speaks of.

    Raises:
        StageError: if there is none, or the folder is not the one that was judged.
    """
    candidate = read_candidate(root / "models" / lane / file)
    folders = sorted(card.parent for card in (root / "models" / lane).glob("*/card.json"))
    same_key = [folder for folder in folders if load_card(folder).key == candidate.key]
    for folder in same_key:
        if folder_digest(folder) == candidate.model_sha256:
            return candidate, folder
    looked = ", ".join(f.relative_to(root).as_posix() for f in same_key or folders) or "no model folder"
    raise StageError(
        f"models/{lane}/{file} speaks of a model (key {candidate.key[:12]}) that is not there any "
        f"more; found {looked}. Run `dvc repro` (or `dvc checkout`), then promote."
    )
