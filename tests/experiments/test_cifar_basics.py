"""The study of one change at a time: rows that differ in what their name says, one loss under two names, tables."""

from dataclasses import replace

import pytest
import torch

from pyro_vd import optim
from pyro_vd.data import load
from pyro_vd.experiments import cifar_basics
from pyro_vd.experiments.cifar_basics import BASE, GROUPS, make_columns
from pyro_vd.experiments.common.cifar_basics_tables import draw_rows, make_loss_table, make_table
from pyro_vd.experiments.common.images import adapt
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.runner import Runner, network_maker
from pyro_vd.experiments.common.spec import Data, decode, encode, key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.inference.engine import Objective
from pyro_vd.models import CifarBasic

COLUMNS = make_columns(Data(name="cifar10"))
SPECS = {row: spec for rows in COLUMNS.values() for row, spec in rows.items()}
LOSSES = ("base", "NLL of log-softmax")


def test_every_row_is_one_change_of_the_base():
    base = SPECS[BASE]
    assert len({key_of(spec) for spec in SPECS.values()}) == len(SPECS) == sum(map(len, GROUPS.values())) == 19
    for row, spec in SPECS.items():
        assert decode(encode(spec)) == spec
        assert spec.main.training.epochs == 10
        same_network, same_fit = spec.options == base.options, spec.main == base.main
        assert (same_network and same_fit) is (row == BASE)
        assert (same_network or same_fit) is (", dropout" not in row)  # those with batch norm and dropout have two


def test_rows_train_as_their_names_say():
    training = {row: spec.main.training for row, spec in SPECS.items()}
    assert training["SGD, 0.01, momentum 0.9"].optimizer == optim.SGD(momentum=0.9)
    assert training["SGD, 0.1"].lr == 0.1
    assert training["AdamW, decay 0.01"].optimizer == optim.AdamW(weight_decay=0.01)
    assert training["AdamW, decay 0.01"].lr == training[BASE].lr == 1e-3
    assert SPECS["dropout 0.3"].main.options["p"] == 0.3
    assert [training[BASE].evaluate("lr_schedule", epoch) for epoch in (0, 9)] == [1.0, 1.0]


@pytest.mark.parametrize("row", SPECS)
def test_every_row_has_a_finite_loss(row):
    spec = SPECS[row]
    split = adapt(load("digits"), CifarBasic()).subset(16, 8)
    torch.manual_seed(0)
    pair = make_pair(network_maker(spec)(10), spec.main, 16)
    loss, *_ = Objective(pair.model, pair.guide)(*split.train.batch(torch.arange(16)), torch.tensor(1.0))
    assert loss.isfinite()


def test_nll_of_log_softmax_is_the_objective_of_the_base():
    """Value and gradients, up to rounding."""
    x, y = adapt(load("digits"), CifarBasic()).subset(16, 8).train.batch(torch.arange(16))
    found = []
    for row in LOSSES:
        torch.manual_seed(0)
        pair = make_pair(network_maker(SPECS[row])(10), SPECS[row].main, 16)
        objective = Objective(pair.model, pair.guide)
        loss = objective(x, y, torch.tensor(1.0))[0]
        found.append((loss, *torch.autograd.grad(loss, list(objective.parameters()))))
    torch.testing.assert_close(found[1], found[0])


def test_the_command_leaves_equal_records_of_both_losses(tmp_path, monkeypatch):
    """After one epoch the rounding has no effect on the errors."""
    monkeypatch.setattr(Runner, "load", lambda *_: adapt(load("digits"), CifarBasic()).subset(100, 50))
    args = cifar_basics.Args(
        dataset="digits", row=LOSSES, epochs=1, seeds=1, num_samples=1, engine="eager", out=tmp_path
    )
    cifar_basics.main(args)
    ours, theirs = Store(tmp_path).runs(("test_error", "history"))
    assert ours["test_error"] == theirs["test_error"]
    assert ours["history"][0]["loss"] == pytest.approx(theirs["history"][0]["loss"], rel=1e-5)
    text = (tmp_path / "table.md").read_text()
    assert "| loss    | NLL of log-softmax |" in text
    assert "Cross-entropy and NLL of log-softmax" in text
    assert (tmp_path / "rows.png").stat().st_size > 10_000


@pytest.fixture
def filled(tmp_path):
    """A store of three seeds of every row: row i has an error of 20 + i %, and 1 % more with the last seed; the last
    row has that of the base."""
    store = Store(tmp_path)
    for place, spec in enumerate(SPECS.values()):
        for seed in range(3):
            error = 0.20 + 0.01 * (place % 18) + 0.01 * (1 + (place == 3)) * (seed == 2)
            history = [{"phase": "fit", "loss": 1.5 - 0.1 * epoch} for epoch in range(10)]
            numbers = {"test_error": error, "test_error_best": error - 0.005, "test_error_mc": error}
            facts = {"train_error": 0.1, "diverged": False, "dataset": "cifar10", "device": "cpu", "history": history}
            store.save(replace(spec, seed=seed), {**numbers, **facts})
    return store


def test_the_table_compares_every_row_with_the_base(filled):
    table = make_table(COLUMNS, filled)
    assert table.rows[0] == ("network", "base", "20.33 ± 0.58", "10.00 ± 0.00", "-", "3")
    assert table.rows[3][:2] == ("regularization", "dropout 0.5")
    assert table.rows[3][4].startswith("+3.33 [")
    assert table.rows[18][4] == "+0.00 with every seed"
    assert len(table.rows) == 19
    assert max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH
    assert table.title == "CifarBasic, cifar10, 10 epochs, cpu"


def test_the_losses_are_compared_seed_by_seed(filled):
    (table,) = make_loss_table(COLUMNS, filled)
    assert table.rows[2] == ("2", "1.50000", "0.60000", "21.00", "1.50000", "0.60000", "27.00")
    filled.delete(replace(SPECS[LOSSES[1]], seed=2))
    assert len(make_loss_table(COLUMNS, filled)[0].rows) == 2
    assert make_loss_table(COLUMNS, Store(filled.folder / "empty")) == []


def test_the_picture_is_drawn_if_there_are_runs(filled, tmp_path):
    draw_rows(COLUMNS, filled, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 10_000
    draw_rows(COLUMNS, Store(tmp_path / "empty"), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_protocol_of_other_epochs_is_another_run():
    short = make_columns(Data(name="cifar10"), replace(cifar_basics.PROTOCOL, epochs=2))
    assert short["network"][BASE].main.training.epochs == 2
    assert isinstance(cifar_basics.PROTOCOL, Protocol)
