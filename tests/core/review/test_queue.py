"""The review queue: what may stand in it, and that it comes back as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stages.core.errors import StageError
from stages.core.review.queue import QUEUE_SCHEMA, UNKNOWN_MODEL, broken_rules, read_queue, write_queue


def queue(n_points: int = 3) -> pd.DataFrame:
    """Four rows, the last a blinded repeat of the first."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "rank": [1, 2, 3, 4],
            "id": ["a", "b", "c", "a"],
            "kind": ["uncertain", "random_audit", "uncertain", "repeat"],
            "blinded": [False, False, False, True],
            "score": [3.0, 0.5, 2.0, 3.0],
            "reason": ["low_peak at sella", "random_audit", "multi_peak at nasion", "repeat"],
            "landmarks": [rng.uniform(0, 900, (n_points, 2)).astype(np.float32) for _ in range(4)],
            "expected_error": [rng.uniform(1, 9, n_points).astype(np.float32) for _ in range(4)],
            "spacing_x_mm": [0.1, 0.1, np.nan, 0.1],
            "spacing_y_mm": [0.1, 0.2, np.nan, 0.1],
        }
    )


@pytest.mark.parametrize("n_points", [3, 19])
def test_a_queue_comes_back_as_written_whatever_the_lanes_number_of_points(
    tmp_path: Path, n_points: int
) -> None:
    written = queue(n_points)
    write_queue(tmp_path / "queue.parquet", written.sample(frac=1, random_state=1))
    read = read_queue(tmp_path / "queue.parquet")
    assert list(read.columns) == QUEUE_SCHEMA.names
    assert read["rank"].tolist() == [1, 2, 3, 4]
    assert set(read["model_key"]) == {UNKNOWN_MODEL}
    for name in ("landmarks", "expected_error"):
        np.testing.assert_array_equal(np.stack(read[name].tolist()), np.stack(written[name].tolist()))
    assert np.isnan(read["spacing_x_mm"][2])
    pd.testing.assert_frame_equal(
        read[["id", "kind", "blinded", "reason"]], written[["id", "kind", "blinded", "reason"]]
    )


def test_the_order_of_the_rows_does_not_change_a_byte(tmp_path: Path) -> None:
    write_queue(tmp_path / "a.parquet", queue())
    write_queue(tmp_path / "b.parquet", queue().iloc[::-1])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_units_stand_in_the_file(tmp_path: Path) -> None:
    write_queue(tmp_path / "queue.parquet", queue())
    schema = pq.read_schema(tmp_path / "queue.parquet")
    assert schema.field("landmarks").metadata == {b"unit": b"raw px"}
    assert schema.field("spacing_x_mm").metadata == {b"unit": b"mm per raw px"}


BREAKS: dict[str, dict[str, Any]] = {
    "each once": {"rank": [1, 2, 2, 4]},
    "unknown kinds .'certain'.": {"kind": ["certain", "random_audit", "uncertain", "repeat"]},
    "do not come before them: c": {"kind": ["uncertain", "random_audit", "repeat", "repeat"]},
    "without being repeats: a": {"kind": ["uncertain", "random_audit", "uncertain", "uncertain"]},
    "than the first film: b": {"expected_error": [np.ones(3), np.ones(2), np.ones(3), np.ones(3)]},
    "not a number: c": {"expected_error": [np.ones(3), np.ones(3), np.full(3, np.nan), np.ones(3)]},
}


@pytest.mark.parametrize("message", BREAKS)
def test_what_breaks_a_rule_is_refused_by_name(tmp_path: Path, message: str) -> None:
    assert not broken_rules(queue())
    with pytest.raises(StageError, match=message):
        write_queue(tmp_path / "queue.parquet", queue().assign(**BREAKS[message]))
    assert not (tmp_path / "queue.parquet").exists()


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    queue()[["rank", "id"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(StageError, match="is no review queue"):
        read_queue(tmp_path / "other.parquet")
    with pytest.raises(StageError, match="does not exist"):
        read_queue(tmp_path / "none.parquet")
