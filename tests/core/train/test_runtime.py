"""Seeds, devices and threads."""

import random

import numpy as np
import pytest
import torch

from stages.core.errors import StageError
from stages.core.train import runtime


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_equal_seeds_give_equal_numbers_in_all_libraries_and_other_streams_others() -> None:
    runtime.seed_everything(1, 4)
    first = draws()
    runtime.seed_everything(1, 4)
    assert draws() == first
    for other in ((1, 5), (2, 4), (1,)):
        runtime.seed_everything(*other)
        assert not set(draws()) & set(first)


def test_named_generators_do_not_depend_on_the_global_ones() -> None:
    first = runtime.generator(7, 1).random()
    np.random.seed(0)
    assert runtime.generator(7, 1).random() == first
    assert runtime.generator(7, 2).random() != first


def test_a_missing_device_is_an_error_that_names_those_that_exist() -> None:
    with pytest.raises(StageError, match=r"device 'cuda:99' does not exist here; there is cpu"):
        runtime.find_device("cuda:99")
    assert runtime.find_device("cpu") == torch.device("cpu")


def test_prepare_sets_threads_and_deterministic_kernels() -> None:
    before = torch.get_num_threads()
    assert runtime.prepare("cpu", 1, 0) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(before)
    with pytest.raises(StageError, match="threads must be at least 1"):
        runtime.prepare("cpu", 0, 0)
