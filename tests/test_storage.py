"""Tensors and notes in one file, read back or refused in one sentence."""

import re

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.testing import assert_close

from vitcourse import storage
from vitcourse.storage import read_weights, write_weights


def some_weights():
    return {"matrix": torch.randn(3, 5), "bias": torch.randn(5)}


def test_weights_and_notes_come_back(tmp_path):
    weights, notes = some_weights(), {"config": "{}", "data": "näher"}
    path = write_weights(tmp_path / "model.safetensors", weights, notes)
    assert path == tmp_path / "model.safetensors"
    read, read_notes = read_weights(path)
    assert_close(read, weights, rtol=0, atol=0)
    assert read_notes == notes


def test_half_precision_comes_back_as_float32(tmp_path):
    weights = {name: tensor.half() for name, tensor in some_weights().items()}
    read, _ = read_weights(write_weights(tmp_path / "half", weights, {}))
    assert_close(read, {name: tensor.float() for name, tensor in weights.items()}, rtol=0, atol=0)


def test_transposed_views_and_parameters_are_taken(tmp_path):
    matrix = torch.nn.Parameter(torch.randn(3, 5))
    read, _ = read_weights(write_weights(tmp_path / "views", {"transposed": matrix.T}, {}))
    assert_close(read["transposed"], matrix.detach().T, rtol=0, atol=0)


def test_a_file_without_notes_is_read(tmp_path):
    save_file(some_weights(), tmp_path / "plain")
    assert read_weights(tmp_path / "plain")[1] == {}


def test_a_write_that_fails_half_way_leaves_the_old_file_whole(tmp_path, monkeypatch):
    weights = some_weights()
    path = write_weights(tmp_path / "model", weights, {})

    def full_disk(tensors, filename, metadata=None):
        filename.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(storage, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_weights(path, some_weights(), {})
    assert list(tmp_path.iterdir()) == [path]
    assert_close(read_weights(path)[0], weights, rtol=0, atol=0)


def test_a_full_disk_is_said_with_the_path_and_leaves_the_old_file_whole(tmp_path, monkeypatch):
    weights = some_weights()
    path = write_weights(tmp_path / "model", weights, {})

    def full_disk(tensors, filename, metadata=None):
        filename.write_bytes(b"half of it")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", full_disk)
    with pytest.raises(OSError, match=f"^path {re.escape(repr(str(path)))} can't be written .*No space left on device"):
        write_weights(path, some_weights(), {})
    assert list(tmp_path.iterdir()) == [path]
    assert_close(read_weights(path)[0], weights, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_path_that_is_no_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(tmp_path / name)))):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
def test_a_truncated_file_is_refused_with_its_path(tmp_path, kept):
    path = write_weights(tmp_path / "model", some_weights(), {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{re.escape(repr(str(path)))} is damaged"):
        read_weights(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model"
    torch.save(some_weights(), path)
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        read_weights(path)
