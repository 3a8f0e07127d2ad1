"""The queue: which cells are missing, and that a budget is kept."""

import json
import time
from pathlib import Path

import pytest

from experiments import gpu_queue, mnist_compress
from experiments.gpu_queue import CELLS, Args, Cell
from guides import SCHEMES
from models import NETWORKS


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The cells that would have been trained, each taking ten minutes of a clock that no one waits for."""
    cells = []

    def run(args, split, scheme, seed, device):
        cells.append((args.network, scheme, seed, args.kl_weight))

    monkeypatch.setattr(mnist_compress, "one_run", run)
    monkeypatch.setattr(gpu_queue, "data_for", lambda *_: Anywhere())
    monkeypatch.setattr(gpu_queue, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(time, "monotonic", lambda: 600.0 * len(cells))
    return cells


class Anywhere:
    def to(self, device):
        return self


def record_of(cell, folder, **changes):
    """A finished run of the cell, as mnist_compress settles it."""
    args = cell.args(Args())
    settings = {name: getattr(args, name) for name in mnist_compress.PROTOCOL_FIELDS}
    epochs = args.epochs or mnist_compress.HEADLINE.epochs
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.json"
    record = dict.fromkeys(gpu_queue.read_records.__globals__["REQUIRED"])
    record |= {**settings, "network": cell.network, "scheme": cell.scheme, "seed": cell.seed, "dataset": "mnist"}
    path.write_text(json.dumps({**record, "epochs": epochs, **changes}))


def missing(capsys, out):
    gpu_queue.main(Args(list=True, out=out))
    return capsys.readouterr().out.splitlines()


def test_cells_are_runs_that_exist_and_none_is_there_twice():
    assert len({str(cell) for cell in CELLS}) == len(CELLS) > 10
    assert all(cell.network in NETWORKS and cell.scheme in SCHEMES for cell in CELLS)
    for cell in CELLS:
        mnist_compress._check(cell.args(Args()))


def test_list_names_every_cell_and_runs_nothing(tmp_path, capsys, ran):
    assert missing(capsys, tmp_path) == [str(cell) for cell in CELLS]
    assert ran == []


def test_a_cell_with_a_record_is_done_wherever_the_record_is(tmp_path, capsys, ran):
    record_of(CELLS[0], tmp_path / "committed")
    record_of(CELLS[1], tmp_path / "out")
    assert missing(capsys, tmp_path / "out") == [str(cell) for cell in CELLS[2:]]


@pytest.mark.parametrize("change", [{"seed": 9}, {"kl_weight": 0.123}, {"epochs": 3}, {"dataset": "digits"}])
def test_a_record_of_another_run_does_not_count(tmp_path, capsys, ran, change):
    record_of(CELLS[0], tmp_path / "committed", **change)
    assert missing(capsys, tmp_path)[0] == str(CELLS[0])


def test_every_missing_cell_runs_in_order(tmp_path, ran):
    gpu_queue.main(Args(minutes=1e4, out=tmp_path))
    kl_weights = [cell.changes.get("kl_weight", 1.0) for cell in CELLS]
    assert ran == [(c.network, c.scheme, c.seed, kl) for c, kl in zip(CELLS, kl_weights, strict=True)]


def test_a_cell_that_would_not_fit_is_not_begun(tmp_path, ran, capsys):
    gpu_queue.main(Args(minutes=45, out=tmp_path))
    assert len(ran) == 4
    assert capsys.readouterr().out.count("would not fit into the 5.0 minutes left") == len(CELLS) - 4


def test_an_untried_network_is_given_a_try(tmp_path, ran, monkeypatch):
    """What it takes is not known before, so it is begun while any time is left."""
    monkeypatch.setattr(gpu_queue, "CELLS", (Cell("lenet5", "none", 0), Cell("lenet300", "none", 0)))
    gpu_queue.main(Args(minutes=11, out=tmp_path))
    assert [network for network, *_ in ran] == ["lenet5", "lenet300"]


def test_committed_records_are_where_the_readme_reads_them():
    assert list(Path(gpu_queue.COMMITTED).glob("*.json"))
