"""Hand-ins are found whatever the platform, and whatever somebody called or packed them."""

import os
import time
import warnings
import zipfile
from datetime import UTC, datetime

import pytest

from vitcourse.grading.submissions import MOST_BYTES, MOST_NOTEBOOKS, collect, slug

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
        ("Bo", "Bo.zip/work/a.ipynb", ""),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("Bo_1_assignsubmission_file_/a.ipynb", "Chi_2_assignsubmission_file_/a.ipynb"),
        ("Bo_1_assignsubmission_file_a.ipynb", "Chi_2_assignsubmission_file_a.ipynb"),
        ("Bo/a.ipynb", "Chi/a.ipynb"),
        ("Bo_sheet-2.ipynb", "Chi_sheet-2.ipynb"),
    ],
)
def test_a_zip_of_a_class_among_hand_ins_is_nobodys_and_stops_nobody_else(tmp_path, names):
    zipped(folder(tmp_path, "ana.ipynb"), *names)
    all_, ana = collect(tmp_path)
    assert (all_.name, all_.content) == ("all", b"")
    assert "all.zip: a zip of several people's notebooks (Bo, Chi): unpack it" in all_.problem
    assert ana.problem == ""


@pytest.mark.parametrize(
    "names",
    [
        ("sheet-3.ipynb", "__MACOSX/._sheet-3.ipynb", ".ipynb_checkpoints/sheet-3-checkpoint.ipynb"),
        ("work/__MACOSX/._sheet-3.ipynb", "work/sheet-3.ipynb"),
    ],
)
def test_what_a_computer_packs_by_itself_is_nobodys(tmp_path, names):
    zipped(tmp_path, *names)
    (one,) = collect(tmp_path)
    assert (one.name, one.problem) == ("all", "")


@pytest.mark.parametrize(
    "names",
    [
        ("sheet-3.ipynb", "notes.ipynb", "sheet-3-copy.ipynb"),
        ("sheet-2-attention/sheet-2-attention.ipynb", "sheet-3-patches/sheet-3-patches.ipynb"),
        ("answers.ipynb", ".ipynb_checkpoints/answers-checkpoint.ipynb"),
        ("work/a.ipynb", ".git/x.ipynb"),
        ("tarea.ipynb", "borrador.ipynb"),
    ],
)
def test_a_student_may_pack_several_notebooks(tmp_path, names):
    zipped(tmp_path, *names)
    assert {(one.student, one.problem) for one in collect(tmp_path)} == {("all", "")}


def test_a_zip_of_one_student_counts_by_its_own_time_and_has_a_size(tmp_path):
    os.utime(zipped(tmp_path, "sheet-3.ipynb"), (1.7e9, 1.7e9))
    (one,) = collect(tmp_path)
    assert one.handed_in == datetime.fromtimestamp(1.7e9, UTC)
    zipped(tmp_path)
    (one,) = collect(tmp_path)
    assert (one.name, one.problem) == ("all", "no notebook was handed in")
    zipped(tmp_path, *(f"work/{number}.ipynb" for number in range(MOST_NOTEBOOKS + 1)))
    (one,) = collect(tmp_path)
    assert "all.zip: a zip of 21 notebooks; at most 20 are looked at" in one.problem
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"work/{number}.ipynb", b" " * MOST_BYTES)
    (one,) = collect(tmp_path)
    assert "all.zip: a zip of more than 64 MiB of notebooks" in one.problem


def test_a_zip_that_is_damaged_stops_nobody_and_a_class_with_a_sentence(tmp_path):
    whole = zipped(folder(tmp_path / "class", "ana.ipynb"), "sheet-3.ipynb")
    sound = whole.read_bytes()
    for content, kind in (
        (sound.replace(b"PK\x01\x02", b"PK\x09\x09"), "BadZipFile"),
        (sound.replace(b"PK\x01\x02\x14\x03\x14\x00", b"PK\x01\x02\x14\x03\x63\x00"), "NotImplementedError"),
        (b"no zip", "BadZipFile"),
    ):
        assert content != sound
        whole.write_bytes(content)
        all_, ana = collect(tmp_path / "class")
        assert all_.problem == f"no notebook was handed in, but all.zip: it can't be unpacked ({kind})"
        assert ana.problem == ""
        with pytest.raises(ValueError, match=f"can't be unpacked .{kind}.; download|neither a folder nor a zip"):
            collect(whole)


def test_a_flat_zip_is_named_as_a_flat_notebook(tmp_path):
    for name in ("garciaana_123_4568_sheet-2.zip", "bo_sheet-2.zip"):
        zipped(folder(tmp_path, "garciaana_123_4567_sheet-1.ipynb", "bo_sheet-1.ipynb"), "sheet-2.ipynb").rename(
            tmp_path / name
        )
    assert [(one.student, one.identifier) for one in collect(tmp_path)] == [
        ("bo", ""),
        ("bo", ""),
        ("garciaana-123", "123"),
        ("garciaana-123", "123"),
    ]


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
        ("Chi", "no notebook was handed in, but Chi: a link, not a file", b""),
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
