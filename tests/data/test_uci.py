"""The UCI benchmark: tables and splits are read as they stand in the files, or refused by name."""

import io
import os
import tarfile
from pathlib import Path

import pytest
import torch

from pyro_vd.data import UCI_SETS, load_uci
from pyro_vd.errors import DataError, UserError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = {
    "data.txt": "1 10 5\n2 20 6\n3 30 7\n4 40 8\n\n",
    "index_features.txt": "2.000e+00\n0\n",
    "index_target.txt": "1\n",
    "index_test_0.txt": "1\n3\n",
    "index_test_1.txt": "0\n2\n",
    "mc_dropout_test_ll.txt": "-1.5\n-2.5\n",
}


def write(root, name="yacht", **changes):
    folder = root / "uci" / name
    folder.mkdir(parents=True)
    for file, text in (FILES | {f"{key}.txt": text for key, text in changes.items()}).items():
        if text is not None:
            (folder / file).write_text(text)
    return root


def test_columns_and_splits_are_those_of_the_index_files(tmp_path):
    table = load_uci("yacht", write(tmp_path))
    assert table.x.tolist() == [[5, 1], [6, 2], [7, 3], [8, 4]]
    assert table.y.tolist() == [[10], [20], [30], [40]]
    assert table.x.dtype == table.y.dtype == torch.float64
    assert [rows.tolist() for rows in table.test_rows] == [[1, 3], [0, 2]]
    assert table.train_rows(0).tolist() == [0, 2]
    assert table.mc_dropout["log_likelihood"].tolist() == [-1.5, -2.5]


def test_the_archive_holds_the_same(tmp_path):
    folder = write(tmp_path / "folder")
    with tarfile.open(tmp_path / "uci.tar.xz", "w:xz") as archive:
        for name in ("wine", "yacht"):
            for file, text in FILES.items():
                content = text.replace("10", "99").encode() if name == "wine" else text.encode()
                member = tarfile.TarInfo(f"uci/{name}/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    assert load_uci("yacht", tmp_path).sha256 == load_uci("yacht", folder).sha256
    assert load_uci("wine", tmp_path).y[0].item() == 99


def test_the_digest_is_of_numbers_and_splits(tmp_path):
    first = load_uci("yacht", write(tmp_path / "a")).sha256
    assert load_uci("yacht", write(tmp_path / "b", data=FILES["data.txt"].replace("40", "41"))).sha256 != first
    assert load_uci("yacht", write(tmp_path / "c", index_test_1="2\n0\n")).sha256 != first
    assert load_uci("yacht", write(tmp_path / "d", mc_dropout_test_ll=None)).sha256 == first


def test_a_set_without_published_results_has_none(tmp_path):
    assert load_uci("yacht", write(tmp_path, mc_dropout_test_ll=None)).mc_dropout == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "1 2 3\n4 5\n"}, r"data\.txt: not a table of numbers"),
        ({"data": "1 2 x\n"}, r"data\.txt: not a table of numbers"),
        ({"data": "1 2 nan\n"}, r"data\.txt: a table of finite numbers"),
        ({"data": ""}, r"data\.txt: a table of finite numbers"),
        ({"data": None}, r"there is no data\.txt"),
        ({"index_features": "0\n3\n"}, r"index_features\.txt: columns 0 to 2 are expected"),
        ({"index_features": "0\n0\n"}, r"index_features\.txt: holds one of the columns twice"),
        ({"index_features": "0.5\n"}, r"index_features\.txt: columns 0 to 2"),
        ({"index_target": "0\n"}, r"index_target\.txt: one column that is not an input"),
        ({"index_target": "0\n1\n"}, r"index_target\.txt: one column"),
        ({"index_test_1": "4\n"}, r"index_test_1\.txt: rows 0 to 3 are expected"),
        ({"index_test_1": "-1\n"}, r"index_test_1\.txt: rows 0 to 3"),
        ({"index_test_1": "2\n2\n"}, r"index_test_1\.txt: holds one of the rows twice"),
        ({"index_test_0": None}, r"there is no index_test_0\.txt"),
        ({"index_test_0": None, "index_test_1": None}, "so no split"),
        ({"mc_dropout_test_ll": "1\n"}, "not of 2 splits"),
    ],
)
def test_wrong_files_are_refused_by_name(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_uci("yacht", write(tmp_path, **changes))


def test_an_unknown_set_or_split_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"unknown set 'yaht'; did you mean 'yacht'\? \(known: concrete, "):
        load_uci("yaht", tmp_path)
    table = load_uci("yacht", write(tmp_path))
    for split in (2, -1):
        with pytest.raises(UserError, match=rf"no split {split}; the splits are 0 to 1"):
            table.train_rows(split)


def test_a_missing_set_says_where_it_was_looked_for_and_where_it_is(tmp_path):
    with pytest.raises(DataError) as refusal:
        load_uci("naval", tmp_path)
    for part in (str(tmp_path / "uci" / "naval"), str(tmp_path / "uci.tar.xz"), "naval-propulsion-plant"):
        assert part in str(refusal.value)


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "uci.tar.xz").write_bytes(os.urandom(100))
    with pytest.raises(DataError, match="not a readable archive"):
        load_uci("yacht", tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the benchmark's files")
@pytest.mark.parametrize(("name", "shape"), [("yacht", (308, 6)), ("energy", (768, 8))])
def test_the_real_sets(name, shape):
    table = load_uci(name, REAL)
    assert tuple(table.x.shape) == shape
    assert len(table.test_rows) == 20
    assert {len(rows) for rows in table.test_rows} == {round(0.1 * shape[0])}
    assert set(UCI_SETS) >= {name}
