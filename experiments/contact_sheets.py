"""Draw one sheet of each generated world: `images/poses.png` and `images/scenes.png`.

python -m experiments.contact_sheets
"""

import io
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from vitcourse import data
from vitcourse.data import ImageSet, pose_tree, scenes
from vitcourse.files import written_whole

FOLDER = Path(__file__).parent / "images"


def poses_sheet() -> plt.Figure:
    """The first image of each pose in the test split, a group in half a row."""
    images = data.load("poses", "test", size=64)
    figure, axes = plt.subplots(10, 12, figsize=(15, 14.5), layout="constrained")
    for group, name in enumerate(pose_tree.GROUPS):
        places = axes[group % 10, 6 * (group // 10) :]
        for place in places:
            place.axis("off")
        members = [pose for pose, parent in enumerate(pose_tree.GROUP_OF_POSE) if parent == group]
        for place, pose in zip(places, members, strict=False):
            index = int((images.labels == pose).nonzero()[0])
            show(place, images, index, pose_tree.POSES[pose].rpartition(" / ")[2])
        places[0].set_title(f"{name}\n", loc="left", fontsize=9, fontweight="bold")
    return figure


def scenes_sheet() -> plt.Figure:
    """Test images of both kinds. A title says what the tasks ask for."""
    rows = [("class", 64), ("class", 64), ("class", 32), ("far", 64), ("far", 32)]
    figure, axes = plt.subplots(len(rows), 10, figsize=(15, 9.2), layout="constrained")
    for row, ((task, size), places) in enumerate(zip(rows, axes, strict=True)):
        images = data.load("scenes", "test", size=size, task=task, count=20)
        kind = "two marks: far" if task == "far" else "one object: class, colour, local"
        for place, index in zip(places, range(10) if row != 1 else range(10, 20), strict=True):
            place.axis("off")
            title = images.class_names[images.labels[index]]
            if task != "far":
                colour, texture = (int(images.annotations[name][index]) for name in ("colour", "texture"))
                title = f"{title}, {scenes.COLOURS[colour]},\n{scenes.TEXTURES[texture]}"
            show(place, images, index, title)
        places[0].set_title(f"{kind}; {size} px\n\n", loc="left", fontsize=9, fontweight="bold")
    return figure


def show(place: plt.Axes, images: ImageSet, index: int, title: str) -> None:
    """One image, its pixels as squares."""
    place.imshow(images.images[index].permute(1, 2, 0), interpolation="nearest")
    place.set_title(title, fontsize=7)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a PNG with 16 levels a channel: all 256 would keep the noise, and a file several times as large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=75)
    plt.close(figure)
    picture = Image.open(buffer).convert("RGB").point(lambda value: value // 16 * 17)
    with written_whole(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    save(poses_sheet(), FOLDER / "poses.png")
    save(scenes_sheet(), FOLDER / "scenes.png")
