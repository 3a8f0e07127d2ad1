"""Each factor changes what it names and nothing else, and the table finds its runs."""

from dataclasses import replace

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import ablation, mnist_compress, pruning_baselines
from pyro_vd.experiments.ablation import BASE, FACTORS, Args, main, make_specs, make_table
from pyro_vd.experiments.common import compression
from pyro_vd.experiments.common.compression_tables import compression_tables, group_runs
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.spec import Data, Dense, key_of
from pyro_vd.experiments.common.store import Store, committed
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.models import NETWORKS
from tests.tiny import Tiny

NETWORK_EPOCHS = {"lenet300": 60, "lenet5": 30}
USUAL = "all as they are"


@pytest.mark.parametrize("network", NETWORK_EPOCHS)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_changes_what_it_says_and_no_other(factor, network):
    protocol = mnist_compress.NETWORK_PROTOCOLS[network]
    base = {**BASE, "epochs": 20}
    found = make_specs("mnist", network, 20)
    if factor in found:
        spec = compression_spec(
            protocol, "sparse", Data(name="mnist"), network, changes=base | FACTORS[factor], num_samples=1
        )
        assert found[factor] == spec
        assert (spec != found[USUAL]) == (factor != USUAL)
    else:
        own = {**base, **protocol.differences("sparse", {}), **FACTORS[factor]}
        assert protocol.differences("sparse", FACTORS[factor]) == {} or own == base
    compression.check(mnist_compress.Args(**base | FACTORS[factor]))


def test_factors_written_out():
    specs = make_specs("mnist", "lenet300", 60)
    usual = specs[USUAL]
    dense, fit = usual.phases
    assert isinstance(dense, Dense)
    assert (dense.training.epochs, fit.training.lr_schedule) == (10, HoldThenDecay(30, 60))
    assert specs["no train-time masking"].main == replace(fit, training=replace(fit.training, threshold=None))
    assert specs["no pretraining"].phases == (fit,)
    warm = specs["KL warm-up over half of the run"].main.training
    assert warm == replace(fit.training, kl_schedule=WarmUp(0, 30))
    assert specs["KL warm-up of one epoch"].main.training.kl_schedule == WarmUp(0, 1)
    assert specs["log_sigma2 starts at -5"].main.options == {"init": -5}
    assert specs["training images moved by up to a pixel"] == replace(usual, data=Data(name="mnist", shift=1))
    assert specs["20 epochs of fine-tuning after pruning"].phases[:2] == usual.phases


def test_every_factor_is_another_run():
    for network, without in (
        ("lenet300", "training images as they are"),
        ("lenet5", "training images moved by up to a pixel"),
    ):
        specs = make_specs("mnist", network, 20)
        assert len({key_of(spec) for spec in specs.values()}) == len(specs) == len(FACTORS) - 3
        assert without not in specs
        assert "learning rate held for half of the run" not in specs


def test_all_of_it_on_digits(tmp_path, monkeypatch, capsys):
    some = (USUAL, "no train-time masking", "KL warm-up over half of the run", "no pretraining")
    monkeypatch.setattr(ablation, "FACTORS", {factor: FACTORS[factor] for factor in some})
    monkeypatch.setitem(NETWORKS, "lenet300", Tiny)
    monkeypatch.setattr("pyro_vd.experiments.common.measures.draw_run", lambda *_: None)
    args = Args(epochs=4, dataset="digits", engine="eager", device="cpu", out=tmp_path)
    main(args)
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("lenet300, digits, 4 epochs:")
    assert all(table.count(f"| {factor} ") == 1 for factor in some)
    runs = {str(run["changes"]): run for run in Store(tmp_path).runs()}
    assert set(runs) == {
        "{'epochs': 4, 'pretrain': 10}",
        "{'epochs': 4, 'pretrain': 10, 'train_masking': False}",
        "{'epochs': 4, 'pretrain': 10, 'ramp': 0.5, 'wait': 0.0}",
        "{'epochs': 4}",
    }
    assert {(run["experiment"], run["protocol"]) for run in runs.values()} == {("ablation", "molchanov2017")}
    assert len(list((tmp_path / "checkpoints").glob("1-phases-*.json"))) == 2  # the dense training is shared
    capsys.readouterr()
    main(args)
    assert capsys.readouterr().out.count("already finished") == len(some)


def test_the_table_averages_seeds_and_leaves_out_what_did_not_run(tmp_path):
    specs, store = make_specs("mnist", "lenet300", 60), Store(tmp_path)
    other, none_left = "KL warm-up of one epoch", "alpha as the parameter"

    def save(factor, seed, error, compression, diverged=False):
        numbers = {"test_error": error, "compression": compression, "diverged": diverged}
        store.save(replace(specs[factor], seed=seed), numbers)

    save(USUAL, 0, 0.01, 40.0)
    save(USUAL, 1, 0.03, 60.0)
    save(other, 0, 0.9, None)
    save(other, 1, None, None, "loss is nan")
    save(none_left, 0, None, None, "loss is nan")
    table = make_table(specs, store, "lenet300", 60)
    assert table.title == "lenet300, mnist, 60 epochs"
    assert table.rows == (
        (USUAL, "2.00 ± 1.41", "50.0 ± 14.1x", "2"),
        (other, "90.00", "empty network", "1 (+1 diverged)"),
        (none_left, "-", "-", "0 (+1 diverged)"),
    )


def test_every_committed_record_is_a_factor():
    """All factors have run, and nothing else is there."""
    keys = {
        key_of(spec) for network, epochs in NETWORK_EPOCHS.items()
        for spec in make_specs("mnist", network, epochs).values()
    }  # fmt: skip
    runs = committed(ablation.STUDY).runs()
    assert {key_of(run.spec) for run in runs} <= keys
    assert len(runs) == 20
    rows = sum(
        len(make_table(make_specs("mnist", network, epochs), committed(ablation.STUDY), network, epochs).rows)
        for network, epochs in NETWORK_EPOCHS.items()
    )
    assert rows == 20


@pytest.mark.parametrize("study", [mnist_compress.STUDY, pruning_baselines.STUDY])
def test_every_committed_record_is_in_a_table(study):
    """Those in ``superseded`` are not."""
    runs = committed(study).runs()
    groups = group_runs(runs)
    assert sum(map(len, groups)) == len(runs)
    tables = compression_tables(runs)
    counted = [row[-1] for table in tables if table.header[-1] == "n" for row in table.rows if row[0]]
    assert sum(int(count.split()[0]) for count in counted) == len(runs)
    assert len(counted) == len(groups)


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="--epochs"):
        main(Args(epochs=0, out=tmp_path))
