"""Images in files: every kind becomes the same RGB, and what is no image is named."""

import io
import pickle
import time

import numpy as np
import pytest
import torch
from PIL import Image

from vitcourse.data import ImageSet
from vitcourse.data.image_files import ImageFiles, read_image, resized
from vitcourse.data.threads import in_threads

RED = (200, 30, 60)


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def colour_of(path, size=8):
    """The one colour of the image, and that it is one."""
    image = read_image(path, size)
    assert image.shape == (3, size, size)
    assert image.dtype == torch.uint8
    assert torch.equal(image, image[:, :1, :1].expand_as(image))
    return tuple(image[:, 0, 0].tolist())


# ---- kinds of images


def test_rgb_of_the_right_size_comes_back_byte_for_byte(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = read_image(saved(tmp_path, Image.fromarray(pixels)), 9)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def test_grey(tmp_path):
    assert colour_of(saved(tmp_path, Image.new("L", (8, 8), 77))) == (77, 77, 77)


def test_black_and_white(tmp_path):
    assert colour_of(saved(tmp_path, Image.new("1", (8, 8), 1))) == (255, 255, 255)


def test_palette(tmp_path):
    assert colour_of(saved(tmp_path, Image.new("RGB", (8, 8), RED).quantize(4))) == RED


def test_cmyk_jpeg(tmp_path):
    colour = colour_of(saved(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "image.jpg", quality=95))
    assert colour == pytest.approx(RED, abs=4)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65535, 255), (257 * 100, 100), (30000, 117)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, value, expected):
    path = saved(tmp_path, Image.fromarray(np.full((8, 8), value, dtype=np.uint16)))
    assert colour_of(path) == (expected,) * 3


def test_transparent_becomes_white_and_half_transparent_half_of_it(tmp_path):
    assert colour_of(saved(tmp_path, Image.new("RGBA", (8, 8), (10, 20, 30, 0)))) == (255, 255, 255)
    half = colour_of(saved(tmp_path, Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "half.png"))
    assert half == pytest.approx((127,) * 3, abs=1)
    assert colour_of(saved(tmp_path, Image.new("LA", (8, 8), (40, 0)), "grey.png")) == (255, 255, 255)


def test_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("RGB", (8, 8), RED).quantize(4)
    assert colour_of(saved(tmp_path, image, transparency=image.getpixel((0, 0)))) == (255, 255, 255)


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_the_cameras_orientation_is_obeyed(tmp_path, orientation, corner):
    image = Image.new("L", (16, 16), 0)
    image.paste(255, (0, 0, 8, 8))  # upper left, as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = read_image(saved(tmp_path, image, "image.jpg", exif=exif, quality=95), 16)
    assert turned[0][corner] > 200
    assert (turned > 128).float().mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_don_t_matter(tmp_path):
    path = saved(
        tmp_path, Image.new("RGB", (8, 8), RED), "image.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95
    )
    assert colour_of(path) == pytest.approx(RED, abs=4)


# ---- size


def test_the_middle_square_is_cut_and_scaled(tmp_path):
    image = Image.new("RGB", (60, 20), "blue")
    image.paste("red", (20, 0, 40, 20))
    assert colour_of(saved(tmp_path, image), 20) == (255, 0, 0)
    scaled = read_image(saved(tmp_path, image), 10)  # at the seams a little of the neighbours comes in
    assert scaled[0, :, 1:-1].eq(255).all()
    assert scaled[2, :, 1:-1].eq(0).all()
    tall = image.transpose(Image.Transpose.ROTATE_90)
    assert colour_of(saved(tmp_path, tall), 20) == (255, 0, 0)


def test_shrinking_takes_means_and_not_single_pixels(tmp_path):
    checkerboard = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    image = read_image(saved(tmp_path, checkerboard), 8)
    assert ((image > 120) & (image < 135)).all()


def test_a_large_jpeg_is_like_the_same_png(tmp_path):
    rows = np.linspace(0, 255, 512)[:, None] * np.ones((1, 512))
    image = Image.fromarray(np.stack([rows, rows.T, 255 - rows], axis=-1).astype(np.uint8))
    jpeg, png = (read_image(saved(tmp_path, image, f"image.{kind}"), 32) for kind in ("jpg", "png"))
    assert (jpeg.int() - png.int()).abs().max() <= 6


def test_a_jpeg_is_never_decoded_smaller_than_it_is_needed(tmp_path):
    board = Image.fromarray(np.kron(np.indices((32, 32)).sum(0) % 2 * 255, np.ones((4, 4))).astype(np.uint8))
    jpeg, png = (read_image(saved(tmp_path, board, f"image.{kind}"), 32).int() for kind in ("jpg", "png"))
    assert png.max() - png.min() > 50
    assert (jpeg - png).abs().max() < 20


def test_resized_agrees_with_read_image(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(pixels))
    for size in (12, 32, 48):
        ours = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], size)[0]
        assert (ours.int() - read_image(path, size).int()).abs().max() <= 1


# ---- what is no image


def jpeg_bytes():
    buffer = io.BytesIO()
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 Not Found</html>", "no known image format"),
        (jpeg_bytes()[:-600], "truncated"),
        (jpeg_bytes()[:100], "whole image"),
    ],
)
def test_what_is_no_whole_image_is_one_clear_error(tmp_path, content, reason):
    path = tmp_path / "it's (1).jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        read_image(path, 8)
    assert "it's (1).jpg" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png", 8)


def test_floating_point_pixels_are_refused(tmp_path):
    path = saved(tmp_path, Image.new("F", (8, 8), 0.5), "image.tif")
    with pytest.raises(ValueError, match="floating-point"):
        read_image(path, 8)


# ---- many of them


@pytest.fixture
def files(tmp_path):
    return ImageFiles([saved(tmp_path, Image.new("L", (8, 8), value), f"{value}.png") for value in range(20)], 8)


def values(images):
    return images[:, 0, 0, 0].tolist()


def test_indexing_like_a_tensor(files):
    assert files.shape == (20, 3, 8, 8)
    assert len(files) == 20
    assert values(files[[3, 1, 1]]) == [3, 1, 1]
    assert values(files[torch.tensor([19, 0])]) == [19, 0]
    assert values(files[2:5]) == [2, 3, 4]
    assert values(files[-2:]) == [18, 19]
    assert values(files[torch.arange(20) % 7 == 0]) == [0, 7, 14]
    assert files[[]].shape == (0, 3, 8, 8)
    assert files[4].shape == (3, 8, 8)
    assert files[4].unique().tolist() == [4]
    with pytest.raises(IndexError):
        files[20]


def test_subset(files):
    assert values(files.subset([5, 2])[:]) == [5, 2]
    assert values(files.subset(slice(1, 9, 3))[[2, 0]]) == [7, 1]


def test_a_damaged_file_is_named_when_it_is_asked_for(files, tmp_path):
    (tmp_path / "7.png").write_bytes(b"")
    assert values(files[[6, 8]]) == [6, 8]
    with pytest.raises(ValueError, match=r"7\.png' isn't a whole image: the file is empty"):
        files[5:10]


def test_files_go_to_other_processes(files):
    assert values(pickle.loads(pickle.dumps(files))[[3]]) == [3]


def test_an_image_set_of_files_behaves_like_one_in_memory(files):
    common = {"labels": torch.arange(20), "class_names": tuple("abcdefghijklmnopqrst"), "source": "made up"}
    numbers = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    lazy = ImageSet("x", "train", files, size=(4, 4), annotations={"n": torch.arange(20)}, **common, **numbers)
    eager = ImageSet("x", "train", files[:], size=(4, 4), annotations={"n": torch.arange(20)}, **common, **numbers)
    torch.testing.assert_close(lazy.inputs([5, 7]), eager.inputs([5, 7]))
    assert lazy.inputs([5]).shape == (1, 3, 4, 4)
    few = lazy.subset([9, 4])
    torch.testing.assert_close(few.inputs(), eager.inputs([9, 4]))
    assert few.annotations["n"].tolist() == [9, 4]
    assert repr(lazy) == repr(eager)


def test_size_must_be_a_whole_number():
    with pytest.raises(TypeError, match=r"size must be a whole number, got 2\.5"):
        ImageFiles([], 2.5)


def test_threads_keep_the_order_and_pass_errors_on():
    assert list(in_threads(lambda n: n * n, range(1000), chunk=7)) == [n * n for n in range(1000)]

    seen = []

    def fails(number):
        time.sleep(0.001)
        seen.append(number)
        if number == 50:
            raise ValueError("number 50")

    with pytest.raises(ValueError, match="number 50"):
        list(in_threads(fails, range(2000), chunk=7))
    assert len(seen) < 1500  # the rest was not begun
