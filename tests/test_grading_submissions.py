"""Hand-ins are found whatever the platform, and whatever somebody called or packed them."""

import os
import time
import warnings
import zipfile
from datetime import UTC, datetime

import pytest

from vitcourse.grading.submissions import MOST_BYTES, collect, slug

NOTEBOOK = b'{"cells": [], "nbformat": 4}'


def folder(place, *paths):
    for path in paths:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(NOTEBOOK if path.endswith(".ipynb") else b"x")
    return place


def zipped(place, *names, content=NOTEBOOK):
    with zipfile.ZipFile(place / "all.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name in names:
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 2, 10, 30, 0)), content)
    return place / "all.zip"


def lines(place):
    return [(one.name, one.identifier, one.file, one.problem) for one in collect(place)]


def test_a_folder_for_each_student(tmp_path):
    found = lines(folder(tmp_path, "Bo/a.ipynb", "Ana/x/b.ipynb", "Ana/.ipynb_checkpoints/b.ipynb", "Chi/notes.txt"))
    assert found == [
        ("Ana", "", "Ana/x/b.ipynb", ""),
        ("Bo", "", "Bo/a.ipynb", ""),
        ("Chi", "", "Chi", "no notebook was handed in, but notes.txt"),
    ]


def test_flat_files_by_their_names(tmp_path):
    place = folder(
        tmp_path, "ana.ipynb", "bo_sheet-2-attention.ipynb", "sheet-1-embeddings_chi.ipynb", "dan.pdf", ".DS_Store"
    )
    assert [(one.name, one.student, bool(one.problem)) for one in collect(place)] == [
        ("ana", "ana", False),
        ("bo", "bo", False),
        ("chi", "chi", False),
        ("dan.pdf", slug("dan.pdf"), True),
    ]


def test_a_zip_among_hand_ins_is_one_students(tmp_path):
    place = folder(tmp_path, "ana.ipynb")
    zipped(place, "work/a.ipynb", "work/notes.txt").rename(place / "Bo.zip")
    assert [(one.name, one.file, one.problem) for one in collect(place)] == [
        ("ana", "ana.ipynb", ""),
        ("Bo", "Bo/work/a.ipynb", ""),
    ]


def test_a_zip_of_a_class_among_hand_ins_is_nobodys_and_refused(tmp_path):
    place = folder(tmp_path, "ana.ipynb")
    zipped(place, "Bo_1_assignsubmission_file_/a.ipynb", "Chi_2_assignsubmission_file_/a.ipynb")
    with pytest.raises(
        ValueError, match=r"'all\.zip', a zip of several notebooks: give that zip in place of the folder"
    ):
        collect(place)


def test_two_sheets_in_flat_files_are_one_student(tmp_path):
    place = folder(tmp_path, "ana_sheet-1-embeddings.ipynb", "ana_sheet-2-attention.ipynb")
    assert [one.student for one in collect(place)] == ["ana", "ana"]


@pytest.mark.parametrize(
    "names",
    [
        ("Ana García_123_assignsubmission_file_/sheet-2.ipynb", "Bo_7_assignsubmission_file_/note.pdf"),
        ("Ana García_123_assignsubmission_file/sheet-2.ipynb", "Bo_7_assignsubmission_file/"),
        ("Ana García_123_assignsubmission_file_sheet-2.ipynb", "Bo_7_assignsubmission_file_note.pdf"),
    ],
)
def test_both_forms_of_moodles_zip(tmp_path, names):
    ana, bo = collect(zipped(tmp_path, *names))
    assert (ana.name, ana.identifier, ana.problem) == ("Ana García", "123", "")
    assert (bo.name, bo.identifier) == ("Bo", "7")
    assert bo.problem.startswith("no notebook was handed in")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone is the system's")
def test_a_zip_holds_the_local_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    try:
        (one,) = collect(zipped(tmp_path, "Ana/a.ipynb"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert one.handed_in == datetime(2026, 11, 2, 15, 30, tzinfo=UTC)


def test_canvas_zip(tmp_path):
    (one,) = collect(zipped(tmp_path, "garciaana_LATE_123_4567_sheet-2.ipynb"))
    assert (one.name, one.identifier) == ("garciaana", "123")


def test_a_path_in_a_zip_leads_nowhere(tmp_path):
    place = zipped(tmp_path, "../../etc/ana.ipynb", "/abs/bo.ipynb", "C:\\x\\chi.ipynb", "..")
    found = collect(place)
    assert [one.file for one in found] == ["abs/bo.ipynb", "C:/x/chi.ipynb", "etc/ana.ipynb", "nameless"]
    assert all("/" not in one.student and ".." not in one.student for one in found)
    assert os.listdir(tmp_path) == ["all.zip"]


def test_the_same_place_twice_in_a_zip(tmp_path):
    assert [one.file for one in collect(zipped(tmp_path, "Ana/a.ipynb", "Ana/a.ipynb"))] == [
        "Ana/a.ipynb",
        "Ana/a.ipynb #2",
    ]


def test_what_is_too_large_is_not_read(tmp_path):
    huge = zipped(tmp_path, "Ana/a.ipynb", content=b" " * (MOST_BYTES + 1))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(huge, "Ana/a.ipynb")
    for place in (huge, tmp_path / "packed.zip"):
        (one,) = collect(place)
        assert (one.problem, one.content) == ("larger than 32 MiB", b"")


def test_a_damaged_or_locked_part_costs_that_part_alone(tmp_path):
    place = zipped(tmp_path, "Ana/a.ipynb", "Bo/b.ipynb")
    content = bytearray(place.read_bytes())
    content[content.index(b'"cells"')] = 0
    place.write_bytes(content)
    assert [one.problem for one in collect(place)] == ["it can't be unpacked (BadZipFile)", ""]


@pytest.mark.skipif(os.name != "posix", reason="links as Linux and macOS make them")
def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("{}")
    place = folder(tmp_path / "class", "Ana/x.txt")
    (place / "Ana/a.ipynb").symlink_to(tmp_path / "secret.txt")
    (place / "bo.ipynb").symlink_to(tmp_path / "secret.txt")
    (place / "Chi").symlink_to(tmp_path)
    os.mkfifo(place / "dan.ipynb")
    assert [(one.file, one.problem, one.content) for one in collect(place)] == [
        ("Ana/a.ipynb", "a link, not a file", b""),
        ("bo.ipynb", "a link, not a file", b""),
        ("Chi", "no notebook was handed in, but Chi", b""),
        ("dan.ipynb", "a link, not a file", b""),
    ]


def test_names_that_look_alike_stay_apart():
    names = ["Ana García", "Ana Garcia", "ana-garcia", "ANA GARCÍA", "李", "雷", "con", "a" * 300]
    slugs = [slug(name) for name in names]
    assert slugs[2] == "ana-garcia"
    assert len(set(slugs)) == len(names)
    assert all(len(one) < 80 and one.isascii() for one in slugs)
    assert slug("con") != "con"


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        collect(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no notebook"):
        collect(tmp_path)
    (tmp_path / "x.zip").write_text("no")
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        collect(tmp_path / "x.zip")
