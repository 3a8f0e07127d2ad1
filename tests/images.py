"""Folders of images made for a test."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_folder(folder: Path, train: int, test: int, size: int) -> None:
    """``train`` and ``test`` color images per class; dark ones and light ones."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name, low in (("dark", 0), ("light", 128)):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(low, low + 128, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
