"""Runs and data are kept where they outlive a session."""

from pathlib import Path

import pytest

from vitcourse import places


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("VITCOURSE_RUNS", raising=False)
    monkeypatch.delenv("VITCOURSE_DATA", raising=False)
    monkeypatch.setattr(places, "DRIVE", tmp_path / "MyDrive")


def test_without_a_drive_they_are_here():
    assert places.runs("cifar-10") == Path("runs/cifar-10")
    assert places.runs() == Path("runs")
    assert places.data_home() == Path.home() / ".cache" / "vitcourse"


def test_a_mounted_drive_keeps_them():
    places.DRIVE.mkdir()
    assert places.runs("cifar-10") == places.DRIVE / "vitcourse" / "runs" / "cifar-10"
    assert places.data_home() == places.DRIVE / "vitcourse" / "data"


def test_the_user_has_the_last_word(monkeypatch):
    places.DRIVE.mkdir()
    monkeypatch.setenv("VITCOURSE_RUNS", "~/mine")
    monkeypatch.setenv("VITCOURSE_DATA", "/somewhere")
    assert places.runs("a") == Path.home() / "mine" / "a"
    assert places.data_home() == Path("/somewhere")
