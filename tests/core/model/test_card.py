"""Model folders: the same bytes for the same model, and nothing in them that runs."""

import json
import os
import pickle
import time

import pytest
import torch

from stages.core.errors import StageError
from stages.core.model.card import InputSize, ModelCard, folder_digest, load_card, load_weights, save_model


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        lane="spine",
        dataset="phantom",
        architecture="small",
        key="untracked",
        params={"epochs": 3, "rates": [0.1, 0.2]},
        input=InputSize(height=64, width=32),
        landmarks=("T1 TL", "T1 TR"),
        n_train=12,
        split_sha256="0" * 64,
    )


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


def test_a_model_comes_back_as_it_was(tmp_path, card) -> None:
    net = network()
    save_model(tmp_path, net, card)
    assert load_card(tmp_path) == card
    assert card.registry_name == "spine-phantom"
    assert card.is_phantom
    again = network(seed=1)
    again.load_state_dict(load_weights(tmp_path))
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=0, rtol=0)


def test_the_same_model_is_the_same_bytes(tmp_path, card) -> None:
    save_model(tmp_path / "first", network(), card)
    time.sleep(1.1)  # an archive with times in it would differ by now
    state = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    state["0.weight"] = torch.cat([state["0.weight"], state["0.weight"]])[:2]  # a view of a larger storage
    state["0.bias"].requires_grad_()
    save_model(tmp_path / "other" / "folder", state, card)
    save_model(tmp_path / "other" / "folder", state, card)
    assert folder_digest(tmp_path / "first") == folder_digest(tmp_path / "other" / "folder")
    save_model(tmp_path / "third", network(seed=1), card)
    assert folder_digest(tmp_path / "third") != folder_digest(tmp_path / "first")
    assert not list(tmp_path.rglob("*.partial"))


def test_strides_leave_no_trace_in_the_bytes(tmp_path, card) -> None:
    weight = torch.arange(72.0).view(8, 1, 3, 3)
    last = weight.to(memory_format=torch.channels_last)
    odd = last.as_strided(last.shape, (9, 1, 3, 1))  # contiguous in torch's eyes, whatever its second stride
    for name, tensor in (("plain", weight), ("last", last), ("odd", odd)):
        save_model(tmp_path / name, {"w": tensor}, card)
    assert (
        folder_digest(tmp_path / "plain")
        == folder_digest(tmp_path / "last")
        == folder_digest(tmp_path / "odd")
    )


def test_the_card_file_says_schema_and_research_use_only(tmp_path, card) -> None:
    save_model(tmp_path, network(), card)
    written = json.loads((tmp_path / "card.json").read_text())
    assert written["schema"] == ["T1 TL", "T1 TR"]
    assert written["research_use_only"] is True
    assert written["input"] == {"height": 64, "width": 32}


def test_every_wrong_field_of_a_card_is_named(tmp_path, card) -> None:
    save_model(tmp_path, network(), card)
    written = json.loads((tmp_path / "card.json").read_text())
    del written["lane"]
    (tmp_path / "card.json").write_text(json.dumps({**written, "research_use_only": False, "author": "x"}))
    with pytest.raises(StageError, match=r"(?s)lane.*research_use_only.*author"):
        load_card(tmp_path)
    with pytest.raises(StageError, match="not a model folder"):
        load_card(tmp_path / "absent")
    with pytest.raises(StageError, match="not a model folder"):
        load_weights(tmp_path / "absent")


class RunsCode:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("container", ["archive", "pickle"])
def test_weights_that_would_run_code_are_refused_and_do_not_run(tmp_path, card, container) -> None:
    save_model(tmp_path, network(), card)
    marker = tmp_path / "ran"
    if container == "archive":
        torch.save({"weight": RunsCode(str(marker))}, tmp_path / "weights.pt")
    else:
        (tmp_path / "weights.pt").write_bytes(pickle.dumps(RunsCode(str(marker)), protocol=2))
    with pytest.raises(StageError, match="refused.*run code"):
        load_weights(tmp_path)
    assert not marker.exists()


def test_damaged_or_foreign_weights_are_refused(tmp_path, card) -> None:
    save_model(tmp_path, network(), card)
    whole = (tmp_path / "weights.pt").read_bytes()
    (tmp_path / "weights.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StageError, match="damaged"):
        load_weights(tmp_path)
    torch.save({"epoch": 3, "weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(StageError, match="epoch are none"):
        load_weights(tmp_path)
    torch.save([torch.zeros(1)], tmp_path / "weights.pt")
    with pytest.raises(StageError, match="found list"):
        load_weights(tmp_path)


def test_a_digest_covers_names_and_contents(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = folder_digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, folder_digest(tmp_path)}) == 3
    (tmp_path / "b").unlink()
    with pytest.raises(StageError, match="no files"):
        folder_digest(tmp_path)
