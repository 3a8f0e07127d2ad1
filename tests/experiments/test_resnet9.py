"""The study of ResNet9: its rows, its tables, and a run of a tiny one from end to end."""

from dataclasses import replace

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import resnet9
from pyro_vd.experiments.common import resnet9_rows, resnet9_tables
from pyro_vd.experiments.common.spec import Dense, Fit, Gradual, Whiten, decode, encode, key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.inference.schedules import OneCycle
from pyro_vd.models import ResNet9

COLUMNS = resnet9.make_columns(resnet9.DATA)
SPECS = [spec for rows in COLUMNS.values() for spec in rows.values()]


def test_rows_are_different_runs_that_a_record_can_hold():
    assert len({key_of(spec) for spec in SPECS}) == len(SPECS)
    assert all(decode(encode(spec)) == spec for spec in SPECS)


def test_every_run_starts_by_whitening_and_steps_the_rate_of_one_cycle():
    assert all(spec.phases[0] == Whiten() for spec in SPECS)
    cycles = {type(phase.training.lr_schedule) for rows in ("schemes", "pruning") for spec in COLUMNS[rows].values()
              for phase in spec.phases[1:]}  # fmt: skip
    assert cycles == {OneCycle}


def test_selected_weights_are_those_of_the_network():
    names = {name for name, _ in ResNet9(scale=0.125).named_parameters()}
    selected = {name for spec in COLUMNS["schemes"].values() for name in spec.main.select or ()}
    assert selected == {*resnet9_rows.CHANNELS} <= names
    assert "layer1.conv.weight" not in selected  # its inputs are the whitened images


def test_every_step_has_those_before():
    rows = list(COLUMNS["steps"].values())
    first, *augmented = rows
    assert not first.data.augment
    assert all(row.data.augment and not row.data.cutout for row in augmented)
    decays = [row.main.training.optimizer.weight_decay for row in rows]
    momenta = [row.main.training.optimizer.momentum for row in rows]
    kernels = [row.options["kernel"] for row in rows]
    assert [bool(decay) for decay in decays] == [False, False, True, True, True, True]
    assert [bool(momentum) for momentum in momenta] == [False, False, False, True, True, True]
    assert [isinstance(row.main.training.lr_schedule, OneCycle) for row in rows] == [False] * 4 + [True] * 2
    assert kernels == [5] * 5 + [3]
    assert list(COLUMNS["steps"]) == list(resnet9_tables.ORIGINAL)[:-1]


def test_pruning_starts_from_the_same_trained_network():
    prefixes = {spec.prefix(2) for spec in COLUMNS["pruning"].values()}
    (prefix,) = prefixes
    assert isinstance(prefix.phases[1], Dense)
    kinds = {type(spec.main) for spec in COLUMNS["pruning"].values()}
    assert kinds == {Fit, Gradual}


def test_arguments_are_checked(tmp_path):
    with pytest.raises(UserError, match="row"):
        resnet9.main(resnet9.Args(dataset="digits", out=tmp_path, row=("nothing",)))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of a tiny network for a row of every part."""
    folder = tmp_path_factory.mktemp("resnet9")
    chosen = {"schemes": ("none",), "steps": ("3x3 kernels",), "pruning": ("sparse, KL weight 1", "magnitude, 0.9")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet9_rows, "NETWORK", {"scale": 1 / 32, "flip": True})
        patch.setattr(resnet9, "DATA", replace(resnet9.DATA, num_train=60, num_test=20))
        for part, rows in chosen.items():
            resnet9.main(resnet9.Args(dataset="digits", out=folder, part=(part,), row=rows, epochs=1, num_samples=2,
                                      engine="eager"))  # fmt: skip
        columns = resnet9.make_columns(replace(resnet9.DATA, name="digits"), 1, 2)
    return columns, Store(folder)


def test_the_command_makes_tables_and_pictures(finished):
    _, store = finished
    text = (store.folder / "table.md").read_text()
    for title in ("schemes, the recipe", "Steps to the recipe", "Pruning after the recipe"):
        assert title in text
    assert "| 3x3 kernels" in text
    assert "90.80" in text
    assert {"steps.png", "curves.png"} <= {path.name for path in store.folder.iterdir()}
    assert all(len(line) <= 110 for line in text.splitlines() if line.startswith("|"))


def test_magnitude_pruning_prunes_the_share_of_its_row(finished):
    columns, store = finished
    run = store.load(columns["pruning"]["magnitude, 0.9"])
    assert run["nonzero"] == pytest.approx(0.1 * run["weights"], rel=0.01)


def test_a_sentence_counts_the_steps_that_help(monkeypatch):
    class Fake:
        diverged = False

        def __init__(self, error):
            self.error = error

        def __getitem__(self, name):
            return self.error

    errors = dict(zip(resnet9_tables.ORIGINAL, (0.3, 0.2, 0.25, 0.2, 0.15, 0.1, 0.05), strict=True))
    monkeypatch.setattr(resnet9_tables, "find_runs", lambda store, rows: {row: [Fake(errors[row])] for row in rows})
    assert resnet9_tables.describe_steps(COLUMNS, None).endswith("and 5 of 6 do here")
    errors.pop("L2")
    monkeypatch.setattr(resnet9_tables, "find_runs", lambda store, rows: {row: [Fake(errors[row])] for row in errors})
    assert resnet9_tables.describe_steps(COLUMNS, None) == ""


def test_a_page_without_runs_has_no_tables(tmp_path):
    assert resnet9_tables.make_tables(COLUMNS, Store(tmp_path)) == []
    resnet9_tables.draw(COLUMNS, Store(tmp_path))
    assert not list(tmp_path.iterdir())
