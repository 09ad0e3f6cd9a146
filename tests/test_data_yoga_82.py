"""Yoga-82 in a made-up folder of the real layout: nothing in it may crash, everything lost is counted."""

import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vitcourse import data
from vitcourse.data import notes, splits, yoga_82, yoga_lists, yoga_survey
from vitcourse.data.yoga_survey import survey

POSES = {  # folder: labels of level 6, 20 and 82
    "Boat_Pose_or_Paripurna_Navasana_": (5, 19, 2),
    "Bharadvaja's_Twist_pose_or_Bharadvajasana_I_": (1, 5, 1),
    "Crane_(Crow)_Pose_or_Bakasana_": (2, 9, 14),
    'pose "with spaces", ñ and 日本': (0, 0, 8),
}
TRAIN, TEST = 10, 4  # images a pose


def picture(number, kind):
    """A small picture that no other number has, of the kind that the number gives."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return {
        0: image,
        1: image.convert("L"),
        2: image.convert("RGBA"),
        3: image.quantize(16),
        4: Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16)),
        5: image.convert("CMYK"),
    }[kind]


def write_set(folder):
    number, lines = 0, {"train": [], "test": []}
    for pose, labels in POSES.items():
        (folder / pose).mkdir(parents=True)
        for part, count in (("train", TRAIN), ("test", TEST)):
            for place in range(count):
                kind = number % 6
                name = f"{place}, {part} it's (1){'.jpg' if kind == 5 else '.png'}"
                picture(number, kind).save(folder / pose / name)
                lines[part].append(f"{pose}/{name},{','.join(map(str, labels))}")
                number += 1
    lines["train"][0] = " " + lines["train"][0]  # as the authors' own file begins
    for part, file in yoga_lists.LISTS.items():
        (folder / file).write_text("\n".join(lines[part]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("yoga"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "yoga")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def load(folder, split="train", **options):
    return data.load("yoga-82", split, folder=folder, size=28, **options)


def paths(folder, split="train", **options):
    return load(folder, split, **options).annotations["path"]


def lines_of(folder, part="train"):
    return (folder / yoga_lists.LISTS[part]).read_text(encoding="utf-8").splitlines()


def rewrite(folder, lines, part="train"):
    (folder / yoga_lists.LISTS[part]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def listed(folder, place, part="train"):
    """The file of a line."""
    return folder / lines_of(folder, part)[place].strip().rsplit(",", 3)[0]


# ---- a whole set


def test_splits_counts_and_labels(made, caplog):
    sets = {split: load(made, split) for split in data.SPLITS}
    assert [len(sets[split]) for split in data.SPLITS] == [32, 8, 16]
    for split, each in zip(data.SPLITS, (8, 2, 4), strict=True):
        images = sets[split]
        assert images.labels.bincount(minlength=82).tolist() == [each * (n in (1, 2, 8, 14)) for n in range(82)]
        assert torch.equal(images.labels, images.annotations["level_82"])
        for path, *labels in zip(
            images.annotations["path"], *(images.annotations[f"level_{n}"].tolist() for n in (6, 20, 82)), strict=True
        ):
            assert POSES[path.partition("/")[0]] == tuple(labels)
    assert not set(paths(made)) & set(paths(made, "validation"))
    assert caplog.records == []


def test_images_are_stored_larger_than_the_model_sees_them(made):
    images = load(made)
    assert images.images.shape == (32, 3, 32, 32)
    assert images.size == (28, 28)
    assert images.inputs([0, 5]).shape == (2, 3, 28, 28)
    large = data.load("yoga-82", folder=made)
    assert large.images.shape[-2:] == (256, 256)
    assert large.size == (224, 224)
    assert large.mean == (0.485, 0.456, 0.406)


def test_an_image_is_the_one_its_path_says(made):
    images = load(made, "test")
    for place, path in enumerate(images.annotations["path"]):
        expected = data.image_files.read_image(made / path, 32)
        assert torch.equal(images.images[place], expected)


def test_levels_and_names(made):
    names = {level: load(made, level=level).class_names for level in (6, 20, 82)}
    assert [len(names[level]) for level in (6, 20, 82)] == [6, 20, 82]
    assert names[6][5] == "wheel"
    assert names[82][1] == "Bharadvaja's Twist pose or Bharadvajasana I"
    assert names[82][8] == 'pose "with spaces", ñ and 日本'
    assert names[82][14] == "Crane (Crow) Pose or Bakasana"
    assert names[82][0] == "pose 0"
    assert all(name.split(":")[0] in yoga_82.FAMILIES for name in names[20])
    assert load(made, level=6).labels.unique().tolist() == [0, 1, 2, 5]
    with pytest.raises(ValueError, match="level must be one of 6, 20, 82, got 7"):
        load(made, level=7)


# ---- the validation split


def test_the_split_is_the_same_for_every_level_and_order_and_another_for_another_seed(made, folder):
    validation = set(paths(made, "validation"))
    assert set(paths(made, "validation", level=6)) == validation
    assert set(paths(made, "validation", seed=1)) != validation
    assert set(paths(made, "train", seed=1)) | set(paths(made, "validation", seed=1)) == set(paths(made)) | validation
    rewrite(folder, lines_of(folder)[::-1])
    assert set(paths(folder, "validation")) == validation


def test_a_lost_image_moves_at_most_one_other(made, folder):
    gone = paths(made)[0]
    (folder / gone).unlink()
    before, after = set(paths(made, "validation")), set(paths(folder, "validation"))
    assert len(before ^ after) <= 1


def test_stratified_in_closed_form():
    labels = np.repeat([0, 1, 2, 3], [10, 5, 1, 2])
    names = [str(n) for n in range(18)]
    for share, expected in ((0.2, [2, 1, 0, 0]), (0.25, [3, 1, 0, 1]), (0.99, [9, 4, 0, 1]), (0.0, [0, 0, 0, 0])):
        chosen = splits.stratified(names, labels, share, seed=0)
        assert np.bincount(labels[chosen], minlength=4).tolist() == expected
    assert splits.stratified([], [], 0.2, seed=0).tolist() == []


def test_the_split_of_a_seed_never_changes():
    chosen = splits.stratified([f"a/{n}.jpg" for n in range(20)], [0] * 20, 0.2, seed=0)
    assert np.flatnonzero(chosen).tolist() == [1, 4, 5, 12]


def test_share_zero_leaves_no_validation(made):
    assert len(load(made, validation_share=0.0)) == 40
    with pytest.raises(ValueError, match="split 'validation' of Yoga-82 has no images left"):
        load(made, "validation", validation_share=0.0)
    with pytest.raises(ValueError, match="validation_share must be at least 0 and below 1, got 1"):
        load(made, validation_share=1)


# ---- what is lost


def test_missing_and_unreadable_images_are_counted_and_left_out(folder, caplog):
    listed(folder, 0).unlink()
    listed(folder, 11).unlink()
    listed(folder, 2).write_bytes(b"")
    listed(folder, 3).write_bytes(b"<html>gone</html>")
    truncated = listed(folder, 12)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    with caplog.at_level(logging.WARNING, logger="vitcourse.data"):
        images = load(folder)
    assert [record.message for record in caplog.records] == [
        "Yoga-82, train: 35 of 40 listed images can be used (2 missing, 3 unreadable)."
    ]
    assert len(images) + len(load(folder, "validation")) == 35
    images.images[:]
    part = survey(folder).parts["train"]
    assert len(part.missing) == 2
    assert sorted(Path(path).name[0] for path, _ in part.unreadable) == ["2", "2", "3"]
    assert any("the file is empty" in reason for _, reason in part.unreadable)
    assert part.class_counts() == {1: (10, 8), 2: (10, 7), 8: (10, 10), 14: (10, 10)}
    assert part.class_counts(6) == {0: (10, 10), 1: (10, 8), 2: (10, 10), 5: (10, 7)}


def test_a_directory_in_the_place_of_an_image_is_no_crash(folder):
    listed(folder, 4).unlink()
    listed(folder, 4).mkdir()
    assert len(survey(folder).parts["train"].usable) == 39


def test_everything_lost(folder):
    for path in folder.glob("*/*test*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="split 'test' of Yoga-82 has no images left"):
        load(folder, "test")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("just text", "'just text' is not path,l6,l20,l82"),
        ("a/b.jpg,1,2", "'a/b.jpg,1,2' is not path,l6,l20,l82"),
        ("a/b.jpg,1,2,x", "label 'x' of level 82 is not a number from 0 to 81"),
        ("a/b.jpg,1,2,82", "label '82' of level 82"),
        ("a/b.jpg,-1,2,3", "label '-1' of level 6"),
        ("a/b.jpg,1,²,3", "label '²' of level 20"),
        (",1,2,3", "is not path,l6,l20,l82"),
        ("../b.jpg,1,2,3", "path '../b.jpg' leads out of the folder"),
        ("a/../../b.jpg,1,2,3", "leads out of the folder"),
        ("..\\b.jpg,1,2,3", "leads out of the folder"),
        ("/etc/b.jpg,1,2,3", "leads out of the folder"),
        ("C:\\b.jpg,1,2,3", "leads out of the folder"),
    ],
)
def test_broken_lines_are_numbered(folder, line, fault):
    lines = lines_of(folder)
    rewrite(folder, [*lines[:5], "", line, *lines[5:]])
    part = survey(folder).parts["train"]
    assert [number for number, _ in part.list.broken] == [7]
    assert fault in part.list.broken[0][1]
    assert len(part.usable) == 40
    assert part.summary() == "40 of 40 listed images can be used (1 broken lines)"


def test_bytes_that_are_no_text_and_a_byte_order_mark(folder):
    path = folder / yoga_lists.LISTS["train"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\xe9\xe8/1.jpg,0,0,0\r\n")
    part = survey(folder).parts["train"]
    assert part.list.broken == ((41, "not UTF-8"),)
    assert len(part.usable) == 40


@pytest.mark.parametrize(("text", "fault"), [("", "the file is empty"), ("<html>\nlost", "line 1: '<html>' is not")])
def test_a_list_without_a_valid_line(folder, text, fault):
    (folder / "yoga_test.txt").write_text(text)
    with pytest.raises(ValueError, match=f"yoga_test.txt' has no line of the form path,l6,l20,l82 .{fault}"):
        load(folder)


def test_missing_lists(folder, tmp_path):
    (folder / "yoga_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"yoga_train\.txt and yoga_test\.txt; .* holds only yoga_train\.txt"):
        load(folder)
    with pytest.raises(FileNotFoundError, match=r"nowhere' doesn't exist.*data fetch yoga-82"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"home.*yoga-82' doesn't exist"):
        data.load("yoga-82")


def test_lists_without_images(folder):
    for pose in POSES:
        shutil.rmtree(folder / pose)
    with pytest.raises(FileNotFoundError, match=r"but none of the 4 folders of images they name, such as \"Bharad"):
        load(folder)


# ---- listed twice


def test_a_path_listed_twice_counts_once(folder):
    lines = lines_of(folder)
    rewrite(folder, [*lines, lines[3], lines[3].replace("/", "//./")])
    part = survey(folder).parts["train"]
    assert len(part.list.duplicates) == 2
    assert len(part.usable) == 40
    assert "2 listed twice" in part.summary()


def test_listed_twice_with_different_labels(folder):
    lines = lines_of(folder)
    rewrite(folder, [*lines, lines[3].rsplit(",", 3)[0] + ",0,0,8"])
    found = survey(folder)
    assert any("is listed with different labels" in fault for fault in found.disagreements)


def test_an_image_of_the_test_part_is_kept_out_of_training_by_path_and_by_content(folder):
    test = lines_of(folder, "test")
    shutil.copy(listed(folder, 6, "test"), listed(folder, 30))
    rewrite(folder, [*lines_of(folder), test[1]])
    found = survey(folder)
    shared = {test[1].rsplit(",", 3)[0], lines_of(folder)[30].rsplit(",", 3)[0]}
    assert set(found.parts["train"].shared) == shared
    assert not shared & {*paths(folder), *paths(folder, "validation")}
    assert len(paths(folder, "test")) == 16
    assert "2 also in the test part" in found.parts["train"].summary()


def test_copies_within_a_part_are_told_and_kept(folder):
    shutil.copy(listed(folder, 6), listed(folder, 7))
    part = survey(folder).parts["train"]
    assert len(part.copies) == 1
    assert len(part.usable) == 40


# ---- the tree


def test_labels_that_are_no_tree_are_told(folder):
    assert survey(folder).disagreements == ()
    lines = lines_of(folder)
    head = lines[0].rsplit(",", 3)[0]
    rewrite(folder, [head + ",5,18,2", lines[10].rsplit(",", 3)[0] + ",2,5,1", *lines[1:10], *lines[11:]])
    faults = survey(folder).disagreements
    assert "class 2 of level 82 lies below several classes of level 20: 19 (13 images), 18 (1 images)" in faults
    assert "class 5 of level 20 lies below several classes of level 6: 1 (13 images), 2 (1 images)" in faults


def test_a_folder_of_two_classes_and_a_class_of_two_folders_are_told(folder):
    lines = lines_of(folder)
    rewrite(folder, [*lines[1:], lines[0].rsplit(",", 3)[0] + ",1,5,1"])
    faults = " ".join(survey(folder).disagreements)
    assert "folder 'Boat_Pose_or_Paripurna_Navasana_' holds several classes of level 82: 1, 2" in faults
    assert "class 1 of level 82 has several folders" in faults


# ---- where things lie


def test_each_folder_is_listed_once(folder, monkeypatch):
    listed = []
    monkeypatch.setattr(
        yoga_survey, "os", SimpleNamespace(listdir=lambda path: listed.append(path) or os.listdir(path))
    )
    survey(folder)
    assert sorted(listed) == sorted([folder, *(folder / pose for pose in POSES)])


def move(folder, target, what):
    (folder / target).mkdir()
    for name in what:
        (folder / name).rename(folder / target / name)


@pytest.mark.parametrize("layout", ["lists below", "images below", "each below", "both in one below"])
def test_layouts(folder, layout):
    lists, poses = list(yoga_lists.LISTS.values()), list(POSES)
    if layout in ("lists below", "each below"):
        move(folder, "Yoga-82", lists)
    if layout in ("images below", "each below"):
        move(folder, "yoga_dataset_images", poses)
    if layout == "both in one below":
        move(folder, "Yoga-82", lists + poses)
    (folder / "aaa").mkdir()
    assert len(load(folder)) == 32


# ---- notes of what was looked at


def count_decoding(monkeypatch):
    decoded = []
    real = notes.read_pixels
    monkeypatch.setattr(notes, "read_pixels", lambda path, size: decoded.append(path) or real(path, size))
    return decoded


def test_only_what_changed_is_looked_at_again_and_what_had_a_fault(folder, monkeypatch):
    decoded = count_decoding(monkeypatch)
    listed(folder, 2).write_bytes(b"")
    first = survey(folder)
    assert len(decoded) == 56
    decoded.clear()
    assert survey(folder) == first
    assert decoded == [listed(folder, 2)]
    decoded.clear()
    picture(99, 0).save(listed(folder, 2))
    assert len(survey(folder).parts["train"].usable) == 40
    assert decoded == [listed(folder, 2)]
    decoded.clear()
    listed(folder, 5).write_bytes(b"no image any more")
    assert len(survey(folder).parts["train"].usable) == 39
    assert decoded == [listed(folder, 5)]


def test_a_fault_that_passes_is_forgotten(folder, monkeypatch):
    real = notes.read_pixels

    def read_pixels(path, size):
        if path == listed(folder, 2):
            raise OSError("the disk didn't answer")
        return real(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(notes, "read_pixels", read_pixels)
        assert len(survey(folder).parts["train"].unreadable) == 1
    assert survey(folder).parts["train"].unreadable == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[1, 2]",
        lambda text: "",
        lambda text: json.dumps({name: [size, time, "", ""] for name, (size, time, *_) in json.loads(text).items()}),
        lambda text: json.dumps({name: [size, time] for name, (size, time, *_) in json.loads(text).items()}),
        lambda text: json.dumps(dict.fromkeys(json.loads(text), 7)),
    ],
)
def test_damaged_notes_are_ignored(folder, home, monkeypatch, damage):
    listed(folder, 2).write_bytes(b"")
    first = survey(folder)
    (file,) = (home / "checked").iterdir()
    file.write_text(damage(file.read_text(encoding="utf-8")), encoding="utf-8")
    decoded = count_decoding(monkeypatch)
    assert survey(folder) == first
    assert len(decoded) == 56


def test_notes_that_can_t_be_written_are_no_crash(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path / "file"))
    assert len(load(folder)) == 32


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a file that its reader may not open")
def test_a_file_without_permission_is_unreadable(folder):
    listed(folder, 2).chmod(0)
    assert len(survey(folder).parts["train"].unreadable) == 1
