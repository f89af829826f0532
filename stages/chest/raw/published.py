"""The split that figures of this data set are published on, and how to tell it by the names in it.

Its roles are those of two draws of scikit-learn's train_test_split with random_state=42 over the rows of the
label file: 30 % held out, halved into val and test. Seeded in that way it depends on the number and order of
the rows, which is why only the whole label file gives it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stages.core.errors import StageError

ROWS = 957
"""labelled films of the published data set"""
SEED = 42
SHA256 = {
    "train": "8546b3ca72f608f6",
    "val": "3f85a177858571d4",
    "test": "f8f9f59c1d4fe363",
}
"""role -> what `names_digest` of its names starts with"""


def published_split(names: Sequence[str]) -> dict[str, str]:
    """train, val or test by name of film, from the names of the label file's rows in their order.

    Raises:
        StageError: if these cannot be the published rows: not 957, or a name twice.
    """
    if len(names) != ROWS:
        raise StageError(
            f"the published split is drawn over the {ROWS} rows of the whole label file, this one has "
            f"{len(names)}: set chest.split.reference to false, or name roles in a split.csv"
        )
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise StageError(f"the published split needs every film in one row; repeated: {', '.join(repeated)}")
    return {names[row]: role for role, rows in published_rows(len(names)).items() for row in rows}


def published_rows(n: int) -> dict[str, np.ndarray]:
    """Row numbers of train, val and test, of `n` rows: 70, 15 and 15 %."""
    held_out, train = _draw(np.arange(n), 0.3)
    test, val = _draw(held_out, 0.5)
    return {"train": train, "val": val, "test": test}


def _draw(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The share that scikit-learn's shuffled split would hold out, and the rest."""
    order = np.random.RandomState(SEED).permutation(len(rows))
    count = int(np.ceil(share * len(rows)))
    return rows[order[:count]], rows[order[count:]]


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 of the sorted names, one a line."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def matches_published(roles: Mapping[str, str], role: str) -> bool:
    """Whether the films of a role (train, val or test) are those of the published split."""
    return names_digest(name for name, given in roles.items() if given == role).startswith(SHA256[role])
