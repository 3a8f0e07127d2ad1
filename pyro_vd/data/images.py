"""Reads image files as tensors of 8-bit colors. Files that cannot be converted without a choice are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pyro_vd.errors import DataError
from pyro_vd.files import read_file

__all__ = ["decode_image", "read_image"]

READ_LIMIT = 256 << 20  # bytes of one file
WIDE_MODES = {"I": "32-bit integer", "F": "floating point"}


def read_image(path: Path) -> Tensor:
    """The image in a regular file; see :func:`decode_image`.

    Raises:
        DataError: as decode_image, and for a file that cannot be read, is a pipe or a device, or is larger than 256
            MiB.
    """
    try:
        content = read_file(path, READ_LIMIT)
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error.strerror})") from None
    return decode_image(content, str(path))


def decode_image(content: bytes, where: str, formats: tuple[str, ...] | None = None) -> Tensor:
    """An image's colors, (3, height, width), uint8. Only the first frame of a file with several frames is read.

    Gray, 1-bit, palette and CMYK images are converted to RGB. 16-bit gray values 0..65535 are scaled to 0..255.

    Args:
        content: the bytes of the file.
        where: the image's name in messages.
        formats: Pillow's names of the formats to accept; all by default.

    Raises:
        DataError: if the image cannot be decoded, has more pixels than Pillow's limit, has pixels of 32 bits (modes I
            and F), whose range is not known, or has transparent pixels, whose color is not defined.
    """
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            pixels = _to_rgb(image, where)
    except UnidentifiedImageError:
        raise DataError(f"{where}: not a readable image (of no known format)") from None
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable image ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_rgb(image: Image.Image, where: str) -> np.ndarray:
    """Colors, (height, width, 3), uint8."""
    if image.mode in WIDE_MODES:
        raise DataError(
            f"{where}: {WIDE_MODES[image.mode]} pixels (mode {image.mode}), whose range is not known; scale them to "
            "0..255 and save the image with 8 bits"
        )
    if image.mode.startswith("I;16"):  # convert("RGB") would clip values above 255 to white
        gray = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[:, :, 3].min() < 255:
            raise DataError(
                f"{where}: has transparent pixels, whose color is not defined; put the image on a background first, "
                "for example with Pillow's Image.alpha_composite"
            )
    return np.array(image.convert("RGB"))
