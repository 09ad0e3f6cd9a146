"""A file is whole or not there: what a reader finds while it is written, after, and after a failure."""

import os
from pathlib import Path

import pytest

from vitcourse.files import remove_leftovers, written_whole


def test_the_new_content_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "marks.csv"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_finds_the_old_content_until_then(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("old")
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def write_half(path, error):
    with written_whole(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "marks.csv"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(KeyError):
        write_half(tmp_path / "marks.csv", KeyError)
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_lies_beside_the_final_one(tmp_path):
    """A rename is only whole within one file system."""
    with written_whole(tmp_path / "marks.csv") as temporary:
        assert temporary.parent == tmp_path
        assert "marks.csv" in temporary.name


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    for name in (".marks[1].csv.x7.part", ".marks1.csv.x7.part", "marks[1].csv.part", "marks[1].csv"):
        (tmp_path / name).write_text("half of it")
    remove_leftovers(tmp_path / "marks[1].csv")
    assert {path.name for path in tmp_path.iterdir()} == {".marks1.csv.x7.part", "marks[1].csv.part", "marks[1].csv"}
    remove_leftovers(tmp_path / "nowhere" / "marks.csv")


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "runs" / "first" / "log.csv"
    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["marks.csv", "runs/marks.csv"])
def test_a_relative_path_starts_from_the_current_folder(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    with written_whole(kind(name)) as temporary:
        temporary.write_text("new")
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX")
@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_has_the_rights_of_any_new_file(tmp_path, umask, rights):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "marks.csv") as temporary:
            temporary.write_text("new")
        assert os.umask(umask) == umask  # and the umask is as it was
    finally:
        os.umask(before)
    assert (tmp_path / "marks.csv").stat().st_mode & 0o777 == rights


def test_a_full_disk_says_where(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*marks.csv'"), written_whole(tmp_path / "marks.csv"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
