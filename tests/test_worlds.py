"""The generated worlds: the same bytes everywhere, honest annotations, labels that nothing gives away."""

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import worlds as benchmark
from vitcourse import data
from vitcourse.data import pose_tree, poses, scene_pictures, scene_shapes, scenes, worlds

BOTH = [("poses", {}), ("scenes", {}), ("scenes", {"task": "far"})]
# What version 1 of each world is. If one of these changes, results that the course quotes don't hold any more: undo
# the change, or raise the version, measure MEAN and STD again and run what the course quotes again.
FROZEN = [
    ("poses", "train", {"count": 200}, "d8f821731e13fb659a7a546256feaacfdd9df8585232a287a550d0ffb910f521"),
    (
        "poses",
        "test",
        {"count": 70, "size": 64, "level": 6, "seed": 3},
        "54c0b4bd88ad1bcf4a2e7c0a602566a95555bd873f60030506ed14c1e3cb1619",
    ),
    (
        "poses",
        "validation",
        {"count": 70, "size": 40, "level": 20},
        "f281bd51afd42c363f3d58cb53b233b969d78c594f384dc76bea8af6dfe9bc23",
    ),
    ("scenes", "train", {"count": 200}, "b799d505782134f4679b2b55dcc3ca48dc00041d3b2c4632092de85364d02a9c"),
    (
        "scenes",
        "test",
        {"count": 70, "size": 64, "task": "local", "seed": 3},
        "f6ed7fc88b158213e1a706e0c02cbf8ebe022f9d246f8188ba9bc7fd9a6a0750",
    ),
    (
        "scenes",
        "train",
        {"count": 200, "task": "far"},
        "2d41c6beb74eaef4af5645978fbac6c01a1d3d7b811bd33f9ecee4d322f1e58b",
    ),
    (
        "scenes",
        "validation",
        {"count": 70, "size": 56, "task": "far", "seed": 1},
        "900dbbb8c84f83fc18a495f7e6147875dce0215103c48ce53c76f9902527a989",
    ),
]


def digest(images):
    """The sha256 of everything in a set that was generated: images, labels, annotations by name."""
    total = hashlib.sha256()
    for name, values in {"": images.images, " ": images.labels, **images.annotations}.items():
        array = values.numpy() if isinstance(values, torch.Tensor) else np.array(values, dtype="S")
        total.update(name.encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()


def contents(images):
    return {image.numpy().tobytes() for image in images.images}


@pytest.fixture(scope="module")
def objects():
    return data.load("scenes", "train", count=6000)


@pytest.fixture(scope="module")
def marks():
    return data.load("scenes", "train", task="far", count=6000)


# ---- the same for the same seed


@pytest.mark.parametrize(("name", "split", "options", "expected"), FROZEN)
def test_the_worlds_are_frozen(name, split, options, expected):
    assert digest(data.load(name, split, **options)) == expected


def test_another_process_makes_the_same_bytes():
    code = (
        "from test_worlds import data, digest\n"
        "print(digest(data.load('poses', 'test', count=70, seed=5)))\n"
        "print(digest(data.load('scenes', 'test', count=70, seed=5)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), *sys.path)))}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    here = [digest(data.load(name, "test", count=70, seed=5)) for name in ("poses", "scenes")]
    assert done.stdout.split() == here


def test_numpys_numbers_make_the_same_bytes():
    for name in ("poses", "scenes"):
        numbers = {"count": 65, "size": 40, "seed": 5}
        theirs = {key: np.int64(value) for key, value in numbers.items()}
        assert digest(data.load(name, "test", **theirs)) == digest(data.load(name, "test", **numbers))


def test_the_digest_sees_everything():
    images = data.load("scenes", "test", count=3)
    seen = {digest(images), digest(images.subset([0, 2, 1]))}
    for name in images.annotations:
        left = {other: values for other, values in images.annotations.items() if other != name}
        seen.add(digest(type(images)(**{**vars(images), "annotations": left})))
    assert len(seen) == 2 + len(images.annotations)


@pytest.mark.parametrize(("name", "options"), BOTH)
def test_an_image_does_not_depend_on_how_many_are_asked_for(name, options):
    few = data.load(name, "train", count=100, **options)
    many = data.load(name, "train", count=300, **options)
    assert len(few) == 100
    assert digest(few) == digest(many.subset(slice(0, 100)))


@pytest.mark.parametrize(("name", "options"), BOTH)
def test_splits_and_seeds_share_no_image(name, options):
    parts = [data.load(name, split, count=130, seed=seed, **options) for split in data.SPLITS for seed in (0, 1)]
    assert len(set().union(*map(contents, parts))) == 130 * len(parts)


@pytest.mark.parametrize("name", ["poses", "scenes"])
def test_the_size_changes_no_annotation_but_lengths(name):
    small, large = (data.load(name, "test", count=70, size=size) for size in (32, 64))
    assert torch.equal(small.labels, large.labels)
    place = {"poses": "joints", "scenes": "position"}[name]
    torch.testing.assert_close(2 * small.annotations[place], large.annotations[place], rtol=0, atol=0)


@pytest.mark.parametrize(("name", "counts"), [("poses", poses.COUNTS), ("scenes", scenes.COUNTS)])
def test_counts_and_kinds(name, counts):
    images = data.load(name, "validation", size=40)
    assert images.images.shape == (counts["validation"], 3, 40, 40)
    assert images.images.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert all(len(values) == len(images) for values in images.annotations.values())
    assert "version 1" in images.source


@pytest.mark.parametrize(("name", "options"), BOTH)
def test_mean_and_deviation_are_those_of_the_training_split(name, options):
    images = data.load(name, "train", **options)
    pixels = images.images.float() / 255
    torch.testing.assert_close(pixels.mean(dim=(0, 2, 3)), torch.tensor(images.mean), rtol=0, atol=1e-2)
    torch.testing.assert_close(pixels.std(dim=(0, 2, 3)), torch.tensor(images.std), rtol=0, atol=1e-2)


def test_the_benchmark_runs():
    assert benchmark.images_per_second("scenes, two marks", 32, 64, 1, task="far") > 0


# ---- what is refused


@pytest.mark.parametrize("name", ["poses", "scenes"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "size must be a multiple of 8 from 32 to 128, got 30"),
        ({"size": 0}, "size must be a multiple of 8 from 32 to 128, got 0"),
        ({"size": 136}, "size must be a multiple of 8 from 32 to 128, got 136"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"count": 0}, "count must be at least 1, got 0"),
    ],
)
def test_values_that_cannot_be_drawn_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, "train", **options)


@pytest.mark.parametrize("options", [{"size": 32.0}, {"seed": 0.5}, {"seed": True}, {"count": "7"}, {"level": 6.0}])
def test_what_is_no_whole_number_is_refused(options):
    with pytest.raises(TypeError, match=rf"{next(iter(options))} must be a whole number, got"):
        data.load("poses", "train", **options)


def test_unknown_levels_and_tasks_are_refused():
    with pytest.raises(ValueError, match="level must be one of 6, 20, 82, got 7"):
        data.load("poses", "train", level=7)
    with pytest.raises(ValueError, match="task must be one of 'class', 'colour', 'local', 'far', got 'x'"):
        data.load("scenes", "train", task="x")


# ---- arithmetic that both share


def test_no_sine_is_near_a_tie():
    # Rounded to the unit, a sine that is off in its last bits gives the same whole number on every machine.
    exact = [16384 * math.sin(math.radians(degree)) for degree in range(91)]
    assert min(abs(sine % 1 - 0.5) for sine in exact) > 1e-4
    assert worlds._SINES[[0, 30, 90, 180, 210, 270]].tolist() == [0, 8192, 16384, 0, -8192, -16384]
    assert np.array_equal(worlds._SINES, np.round(16384 * np.sin(np.radians(np.arange(360)))))


def test_draws_fill_their_range():
    values = worlds.Draws("test").integers(-2, 3, 500)
    assert values.shape == (64, 500)
    assert np.bincount(values.ravel() + 2) == pytest.approx(np.full(6, 32_000 / 6), rel=0.05)
    noise = worlds.Draws("test").noise(32, 4)
    assert noise.shape == (64, 3, 32, 32)
    assert (noise.min(), noise.max()) == (-4, 4)
    assert abs(noise.mean()) < 0.05


def test_distances_to_a_line_in_closed_form():
    # From the middle of the image, a quarter of its side to the right.
    x = y = np.full(1, 2048)
    squared = worlds.squared_distance(x, y, np.full(1, 90), np.full(1, 1024), 32)[0]
    centre = (np.arange(32) + 0.5) * 128
    ahead = (centre - 2048) - np.clip(centre - 2048, 0, 1024)
    assert np.array_equal(squared, ahead[None] ** 2 + (centre - 2048)[:, None] ** 2)


def test_coverage_is_the_share_of_the_pixel_at_a_straight_edge():
    distance = np.array([[[0, 1000 - 64, 1000 - 32, 1000, 1000 + 32, 1000 + 64, 3000]]], dtype=np.int32)
    cover = worlds.coverage(distance**2, np.full(1, 1000, dtype=np.int32), 32)  # a pixel is 128 wide
    assert cover[0, 0].tolist() == pytest.approx([64, 64, 48, 32, 16, 0, 0], abs=2)


# ---- poses


def test_the_tree_has_the_shape_of_yoga_82():
    assert [len(pose_tree.NAMES[level]) for level in (6, 20, 82)] == [6, 20, 82]
    assert [len(set(pose_tree.NAMES[level])) for level in (6, 20, 82)] == [6, 20, 82]
    per_family = np.bincount(pose_tree.FAMILY_OF_GROUP[pose_tree.GROUP_OF_POSE])
    assert per_family.tolist() == [20, 20, 11, 9, 16, 6]


def test_finer_labels_imply_coarser_ones():
    images = data.load("poses", "test", count=1000)
    six, twenty, finest = (images.annotations[f"level_{level}"].tolist() for level in (6, 20, 82))
    for family, group, pose in zip(six, twenty, finest, strict=True):
        assert pose_tree.POSES[pose].startswith(pose_tree.GROUPS[group] + " / ")
        assert pose_tree.GROUPS[group].startswith(pose_tree.FAMILIES[family] + " / ")


@pytest.mark.parametrize("level", [6, 20, 82])
def test_the_level_picks_labels_and_names_of_the_same_images(level):
    images = data.load("poses", "test", count=100, level=level)
    assert torch.equal(images.labels, images.annotations[f"level_{level}"])
    assert images.class_names == pose_tree.NAMES[level]
    assert torch.equal(images.images, data.load("poses", "test", count=100).images)


def test_every_pose_is_about_as_frequent():
    counts = data.load("poses", "train").labels.bincount(minlength=82)
    assert counts.min() >= 45
    assert counts.max() <= 115


def test_any_two_poses_differ_by_a_visible_amount():
    joints = poses.skeleton(pose_tree.ANGLES, np.full(82, 50)) / 50  # lengths as in LENGTHS
    same = list(range(12))
    arms, legs = [*same[:4], 6, 7, 4, 5, *same[8:]], [*same[:8], 10, 11, 8, 9]
    least = np.full((82, 82), np.inf)
    for mirror in (1, -1):
        for order in (same, arms, legs, [*arms[:8], *legs[8:]]):
            other = joints[:, order] * [mirror, 1]
            farthest = np.linalg.norm(joints[:, None] - other[None], axis=-1).max(axis=-1)
            least = np.minimum(least, farthest)
    np.fill_diagonal(least, np.inf)
    # At least a joint moves by the length of a forearm, or by half a leg's width of a turn: a hand by 29 degrees.
    assert least.min() >= 9


@pytest.mark.parametrize("size", [32, 64])
def test_joints_lie_on_the_figure_and_inside_the_image(size):
    images = data.load("poses", "train", count=500, size=size)
    joints = images.annotations["joints"]
    assert joints.shape == (500, 12, 2)
    assert joints.min() >= 0
    assert joints.max() < size
    # The figure is lighter than its ground. Hands and feet are left out: a pixel at a line's end is covered in part.
    inner = [index for index, name in enumerate(pose_tree.JOINTS) if name.split()[0] not in ("hand", "foot")]
    columns, rows = joints[:, inner].long().unbind(-1)
    lightness = images.images.float().mean(dim=1)
    ground = lightness.flatten(1).median(dim=1).values
    least = lightness[torch.arange(500)[:, None], rows, columns].amin(dim=1)
    assert (least > ground + 30).float().mean() > 0.99


def test_left_and_right_are_as_frequent():
    # Facing right, a kneeling figure has its feet to the left of its knees.
    images = data.load("poses", "train")
    kneeling = images.annotations["level_20"] == pose_tree.GROUPS.index("sitting / legs behind")
    joints = images.annotations["joints"][kneeling]
    right = (joints[:, 9, 0] < joints[:, 8, 0]).float().mean()
    assert right == pytest.approx(0.5, abs=0.1)


# ---- scenes


def test_boxes_are_those_of_the_masks(objects, marks):
    for mask, (x0, y0, x1, y1) in zip(objects.annotations["mask"], objects.annotations["box"].tolist(), strict=True):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    for mask, boxes in zip(marks.annotations["mask"], marks.annotations["box"].tolist(), strict=True):
        rest = mask.clone()
        for x0, y0, x1, y1 in boxes:
            assert rest[y0:y1, x0:x1].any()
            rest[y0:y1, x0:x1] = False
        assert not rest.any()


@pytest.mark.parametrize("size", [32, 64])
def test_masks_are_exactly_the_pixels_of_the_object(size, monkeypatch):
    before = data.load("scenes", "test", count=64, size=size)
    monkeypatch.setattr(scene_pictures, "fill", lambda *_: None)
    bare = data.load("scenes", "test", count=64, size=size)
    changed = (before.images != bare.images).any(dim=1)
    mask = before.annotations["mask"]
    assert not changed[~mask].any()
    assert changed[mask].float().mean() > 0.99  # a speck behind the object may have its colour


def test_the_centre_is_inside_the_box(objects):
    x, y = objects.annotations["position"].T
    x0, y0, x1, y1 = objects.annotations["box"].T
    assert ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).all()


def test_an_object_has_its_colour(objects):
    mask = objects.annotations["mask"][:, None]
    colours = (objects.images * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3))
    distances = torch.cdist(colours, torch.from_numpy(scene_shapes.PALETTE).float())
    assert torch.equal(distances.argmin(dim=1), objects.annotations["colour"])


def test_any_window_of_an_object_tells_its_texture(objects):
    # The lightness of the 4 x 4 pixels at the centre, against the patterns of all textures at all shifts.
    shapes = objects.annotations["shape"]
    squares = [scene_shapes.SHAPES.index(name) for name in ("circle", "square", "cross")]
    chosen = torch.isin(shapes, torch.tensor(squares)).nonzero()[:300, 0]
    kinds, shifts = np.divmod(np.arange(64), 16)
    patterns = scene_shapes.texture(kinds, np.stack(np.divmod(shifts, 4), axis=1), 32)[:, :4, :4].reshape(64, 16)
    patterns = torch.from_numpy(2.0 * patterns - 1)
    patterns = patterns - patterns.mean(dim=1, keepdim=True)
    patterns = patterns / patterns.norm(dim=1, keepdim=True)
    hits = 0
    for index in chosen.tolist():
        x, y = objects.annotations["position"][index].long().tolist()
        window = objects.images[index, :, y - 2 : y + 2, x - 2 : x + 2].double().mean(dim=0).flatten()
        best = (patterns @ (window - window.mean())).abs().argmax()
        hits += kinds[best] == objects.annotations["texture"][index]
    assert hits / len(chosen) > 0.97


@pytest.mark.parametrize(("task", "classes"), [("class", 8), ("colour", 8), ("local", 4), ("far", 2)])
def test_labels_are_balanced(task, classes):
    images = data.load("scenes", "train", task=task, count=6000)
    shares = images.labels.bincount(minlength=classes) / len(images)
    assert len(images.class_names) == classes
    torch.testing.assert_close(shares, torch.full((classes,), 1 / classes), rtol=0.12, atol=0)


def chi_squared(first, second):
    """Pearson's statistic of a table of counts, over its degrees of freedom: about 1 if the two are independent."""
    (_, first), (_, second) = (values.unique(return_inverse=True) for values in (first, second))
    table = torch.zeros(int(first.max()) + 1, int(second.max()) + 1, dtype=torch.float64)
    table.index_put_((first, second), torch.ones(len(first), dtype=torch.float64), accumulate=True)
    expected = table.sum(dim=1, keepdim=True) * table.sum(dim=0) / table.sum()
    return ((table - expected) ** 2 / expected).sum() / ((table.shape[0] - 1) * (table.shape[1] - 1))


def test_attributes_of_an_object_do_not_tell_each_other(objects):
    names = ("shape", "colour", "texture", "ground")
    for first in names:
        for second in names:
            dependent = chi_squared(objects.annotations[first], objects.annotations[second])
            assert (dependent > 100) if first == second else (dependent < 2.5), (first, second)


def test_no_mark_alone_tells_whether_the_two_are_alike(marks):
    shapes, colours = marks.annotations["shape"], marks.annotations["colour"]
    for mark in range(2):
        assert chi_squared(shapes[:, mark], marks.labels) < 2.5
        assert chi_squared(colours[:, mark], marks.labels) < 2.5
        assert (
            chi_squared((marks.annotations["position"][:, mark] // 8).long() @ torch.tensor([4, 1]), marks.labels) < 2.5
        )
    assert chi_squared((shapes[:, 0] == shapes[:, 1]).long(), marks.labels) < 8  # one degree of freedom
    assert chi_squared(marks.annotations["ground"], marks.labels) < 4


def test_alike_means_the_same_colour(marks):
    colours = marks.annotations["colour"]
    assert torch.equal(marks.labels, (colours[:, 0] == colours[:, 1]).long())
    assert marks.class_names == ("different", "alike")


def test_marks_are_half_an_image_apart(marks):
    first, second = marks.annotations["position"].unbind(1)
    assert (first - second).norm(dim=1).min() >= 16


def test_tasks_about_one_object_share_their_pictures():
    shared = [data.load("scenes", "test", task=task, count=64) for task in ("class", "colour", "local")]
    assert len({images.images.numpy().tobytes() for images in shared}) == 1
    for images, name in zip(shared, ("shape", "colour", "texture"), strict=True):
        assert torch.equal(images.labels, images.annotations[name])


def test_captions_say_what_the_annotations_say(objects, marks):
    for index in range(300):
        caption, values = objects.annotations["caption"][index], objects.annotations
        assert f" {scenes.COLOURS[values['colour'][index]]} {scenes.SHAPES[values['shape'][index]]} on " in caption
        assert f" {scenes.GROUNDS[values['ground'][index]]} ground, " in caption
        x, y = values["position"][index].tolist()
        place = caption.rpartition(", ")[2]
        assert ("left" in place, "right" in place) == (x < 32 / 3, x >= 64 / 3)
        assert ("top" in place, "bottom" in place) == (y < 32 / 3, y >= 64 / 3)
    assert not any(" a orange" in f" {caption}" for caption in objects.annotations["caption"])
    for caption, shapes in zip(marks.annotations["caption"], marks.annotations["shape"].tolist(), strict=True):
        assert [word for word in caption.split() if word in scenes.SHAPES] == [scenes.SHAPES[s] for s in shapes]
