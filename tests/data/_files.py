"""Files of small datasets, and checks of what is read from them."""

import gzip
import os
import struct

import torch
from PIL import Image

from pyro_vd.data import load, mnist


def idx(shape, seed):
    pixels = torch.randint(0, 10, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + pixels.numpy().tobytes()


def put(root, files):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def no_files(root):
    return [path for path in root.rglob("*") if path.is_file()] == []


def served_everywhere(files):
    return {mnist.IDX_SETS["mnist"][1] + name + ".gz": gzip.compress(content) for name, content in files.items()}


def check_small(split, files):
    names = list(files)
    assert (split.name, split.classes) == ("mnist", 10)
    assert split.train.images.shape == (6, 1, 28, 28)
    assert split.test.images.shape == (4, 1, 28, 28)
    assert split.train.images.dtype == torch.uint8
    assert split.test.labels.dtype == torch.int64
    assert split.train.images.numpy().tobytes() == files[names[0]][16:]
    assert bytes(split.train.labels.tolist()) == files[names[1]][8:]
    assert split.test.images.numpy().tobytes() == files[names[2]][16:]
    assert bytes(split.test.labels.tolist()) == files[names[3]][8:]


def irregular(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else "/nowhere")


def draw(path, shade, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 2 * shade, 255)).save(path)


def saved(pictures, image, name="0.png", **options):
    path = pictures / "train" / "circle" / name
    (pictures / "train" / "circle" / "0.png").unlink()
    image.save(path, **options)
    return path


def first(pictures):
    """The first image's first row of pixels, color by color."""
    return load(str(pictures)).train.images[0, :, 0].T.tolist()
