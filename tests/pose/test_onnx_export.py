from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.errors import StageError
from stages.core.export.onnx_file import session
from stages.core.model.card import ModelCard, save_model
from stages.pose import onnx_export
from stages.pose.body.skeleton import JOINTS
from stages.pose.model.architecture import FORMS, Form
from stages.pose.model.forms import INPUTS, build
from stages.pose.model.inference import Refiner
from stages.pose.onnx_export import OUTPUTS, export, one_pass, sample_inputs
from tests.pose.test_forms import SMALL, moved

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
every_form = pytest.mark.parametrize("form", list(FORMS))


def random_model(form: Form, folder: Path) -> Path:
    """A model folder with no layer at zero."""
    torch.manual_seed(0)
    params: dict[str, Any] = {"architecture": SMALL.model_dump(), "window_s": [0.0]}
    if form == "window":
        params["window_s"] = [-0.1, 0.0, 0.1]
    if form == "main":
        params["branches"] = {"depth": SMALL.model_dump(), "joint": SMALL.model_dump()}
    card = ModelCard(
        lane="pose", dataset="phantom", architecture=FORMS[form].architecture, key="k", params=params,
        input=None, schema=JOINTS, n_train=1, split_sha256="s",
    )  # fmt: skip
    save_model(folder, moved(build(form, params)), card)
    return folder


@every_form
def test_the_file_answers_as_torch_does_whatever_the_batch(form: Form, tmp_path: Path) -> None:
    model, file = random_model(form, tmp_path / "model"), tmp_path / "out" / "model.onnx"
    found = export(model, file)
    assert (found.form, found.inputs) == (form, INPUTS[form])
    assert found.max_difference_m <= 1e-4
    assert f"{1000 * found.max_difference_m:.2g} mm" in found.lines()["largest difference to torch"]
    refiner, runtime = Refiner.load(model, 1), session(file)
    for n in (1, 3, 50):
        inputs = sample_inputs(refiner, n)
        pose, expected = runtime.run(list(OUTPUTS), dict(zip(INPUTS[form], inputs, strict=True)))
        assert (pose.shape, expected.shape) == ((n, 17, 3), (n, 17))
        with torch.inference_mode():
            ours = one_pass(refiner.network)(*map(torch.from_numpy, inputs))
        np.testing.assert_allclose(pose, ours[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(expected, ours[1].numpy(), rtol=1e-3, atol=1e-4)


def test_exporting_twice_gives_equal_bytes_that_name_their_model(tmp_path: Path) -> None:
    import onnx

    model = random_model("depth", tmp_path / "model")
    for name in "ab":
        export(model, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    facts = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert "pose-aware-depth-refiner" in facts["architecture"]
    assert str(tmp_path) not in str(facts)


def test_a_file_that_answers_otherwise_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_difference", lambda *_: 0.02)
    with pytest.raises(StageError, match=r"differs from torch by 0\.02 m"):
        export(random_model("depth", tmp_path / "model"), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
