"""On the real chest films the floors reach what was measured independently of this code."""

import pytest

from stages.chest import convert, floors, split
from stages.core.params import load_params
from stages.core.stage import Observer

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_the_reference_split_gives_the_known_floors(realdata, tmp_path) -> None:
    """Trained on the train films of split.csv that fall to train here, judged on its 144 val films."""
    raw, data = realdata / "chest_covid15", tmp_path / "data" / "chest"
    data.mkdir(parents=True)
    observe = Observer.quiet(tmp_path / "scratch")
    convert.run(load_params(convert.Params), raw, data / "films", observe)
    split.run(load_params(split.Params), data / "films", raw, data / "split.parquet", observe)
    params = load_params(floors.Params)
    metrics = floors.run(params, data / "films", data / "split.parquet", data / "floors", observe)

    assert metrics["mean_shape_test_px224"] == pytest.approx(16.37, abs=0.05)
    assert metrics["pca_bound_test_px224"] == pytest.approx(1.6, abs=0.1)
    assert metrics["hog_kernel_ridge_test_px224"] < 8.2
    assert metrics["pca_shape_test_px224"] < 8.6
    assert metrics["aligned_ridge_test_px224"] < 6.7
