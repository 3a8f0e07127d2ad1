"""Image files: colors of 8 bits, and refusals of files without them."""

import numpy as np
import pytest
from PIL import Image

from pyro_vd.data import load
from pyro_vd.errors import DataError
from tests.data._files import first, irregular, saved


def test_gray_images_become_color_images(pictures):
    """So that a folder that mixes both has one shape."""
    Image.new("L", (6, 5), 77).save(pictures / "train" / "circle" / "0.png")
    assert load(str(pictures)).train.images[0, :, 0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_corrupt_image_is_named(pictures, content):
    (pictures / "test" / "square" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"test.square.1\.png: not a readable image") as caught:
        load(str(pictures))
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_named(pictures):
    path = pictures / "train" / "circle" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train.circle.2\.png: not a readable image"):
        load(str(pictures))


def test_a_16_bit_image_is_scaled_to_8_bits(pictures):
    """All above 255 would be white."""
    values = np.zeros((5, 6), dtype=np.uint16)
    values[0] = [0, 257, 128, 129, 32_896, 65_535]
    saved(pictures, Image.fromarray(values))
    assert first(pictures) == [3 * [value] for value in (0, 1, 0, 1, 128, 255)]


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_16_bits_are_scaled_in_either_byte_order(pictures, dtype):
    saved(pictures, Image.fromarray(np.full((5, 6), 0x1234, dtype=dtype)), "0.tiff")
    assert first(pictures) == 6 * [3 * [round(0x1234 / 257)]]


@pytest.mark.parametrize(
    ("dtype", "message"), [(np.int32, r"32-bit integer pixels \(mode I\)"), (np.float32, r"floating point .*mode F")]
)
def test_pixels_of_an_unknown_range_are_refused_by_name(pictures, dtype, message):
    saved(pictures, Image.fromarray(np.full((5, 6), 1000, dtype=dtype)), "0.tiff")
    with pytest.raises(DataError, match=rf"circle.0\.tiff: {message}.*scale them to 0\.\.255"):
        load(str(pictures))


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("1", (6, 5), 1), "0.png", [255, 255, 255]),
        (Image.new("1", (6, 5), 0), "0.png", [0, 0, 0]),
        (Image.new("LA", (6, 5), (77, 255)), "0.png", [77, 77, 77]),
        (Image.new("RGBA", (6, 5), (1, 2, 3, 255)), "0.png", [1, 2, 3]),
        (Image.new("RGB", (6, 5), (10, 20, 30)).quantize(2), "0.png", [10, 20, 30]),
        (Image.new("RGB", (6, 5), (10, 20, 30)).quantize(2), "0.bmp", [10, 20, 30]),
        (Image.new("CMYK", (6, 5), (255, 0, 0, 0)), "0.tiff", [0, 255, 255]),
    ],
    ids=["white bit", "black bit", "gray, opaque", "color, opaque", "palette", "palette, BMP", "CMYK"],
)
def test_every_kind_of_8_bits_becomes_rgb(pictures, image, name, expected):
    saved(pictures, image, name)
    assert first(pictures) == 6 * [expected]


def test_transparent_pixels_are_refused_for_they_have_no_color(pictures):
    """A black drawing on a transparent background would be all black."""
    palette = Image.new("P", (6, 5), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    images = [
        (Image.new("RGBA", (6, 5), (0, 0, 0, 0)), {}),
        (Image.new("LA", (6, 5), (0, 254)), {}),
        (palette, {"transparency": 1}),
        (palette, {"transparency": bytes([255, 100])}),
        (Image.new("L", (6, 5), 3), {"transparency": 3}),
        (Image.new("RGB", (6, 5), (1, 2, 3)), {"transparency": (1, 2, 3)}),
    ]
    for image, options in images:
        saved(pictures, image, **options)
        with pytest.raises(DataError, match=r"circle.0\.png: has transparent pixels.*background first"):
            load(str(pictures))
    saved(pictures, palette, transparency=0)  # a color that no pixel has
    assert first(pictures) == 6 * [[9, 9, 9]]


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "dangling"])
def test_an_image_that_is_no_regular_file_is_refused_at_once(pictures, kind):
    path = pictures / "test" / "square" / "1.png"
    path.unlink()
    irregular(path, kind)
    if kind == "folder":  # which is no image to ImageFolder
        assert len(load(str(pictures)).test) == 3
        return
    with pytest.raises(DataError, match=r"square.1\.png: not a readable image \((not a regular file|No such file)"):
        load(str(pictures))


def test_an_image_of_more_pixels_than_pillow_allows_is_refused(pictures, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"not a readable image .*decompression bomb"):
        load(str(pictures))
