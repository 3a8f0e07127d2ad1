"""Each factor changes what it names and nothing else, and the table finds its runs."""

import dataclasses

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.ablation import FACTORS, Args, ablation_table, factors_of, main, with_factor
from pyro_vd.experiments.common import compression
from tests.tiny import Tiny


@pytest.mark.parametrize("factor", FACTORS)
def test_a_lever_moves_what_it_says_and_no_other(factor, tmp_path):
    for network in ("lenet300", "lenet5"):
        args = Args(network=network, epochs=20, out=tmp_path)
        base, changed = (with_factor(args, name) for name in ("all as they are", factor))
        differing = {f.name for f in dataclasses.fields(base) if getattr(base, f.name) != getattr(changed, f.name)}
        assert differing == {name for name, value in FACTORS[factor].items() if getattr(base, name) != value}
    compression.check(changed)


def test_every_lever_is_another_run():
    for network in ("lenet300", "lenet5"):
        factors = factors_of(network)
        args = [with_factor(Args(network=network), factor) for factor in factors]
        own = mnist_compress.NETWORK_PROTOCOLS[network].hold
        holds = [own if one.hold is None else one.hold for one in args]
        fields = [name for name in mnist_compress.Args.protocol_fields if name != "hold"]
        runs = {(hold, *(getattr(one, name) for name in fields)) for hold, one in zip(holds, args, strict=True)}
        assert len(runs) == len(factors) == len(FACTORS) - 3  # held for half, and the network's own noise_lr and shift
    left_out = [set(FACTORS) - set(factors_of(network)) for network in ("lenet300", "lenet5")]
    assert "training images as they are" in left_out[0]
    assert "training images moved by up to a pixel" in left_out[1]
    assert with_factor(Args(epochs=60), "KL warm-up over half of the run").ramp == 30


def test_all_of_it_on_digits(tmp_path, monkeypatch, capsys):
    some = ("all as they are", "no train-time masking", "KL warm-up over half of the run", "no pretraining")
    monkeypatch.setattr("pyro_vd.experiments.ablation.FACTORS", {factor: FACTORS[factor] for factor in some})
    monkeypatch.setitem(mnist_compress.NETWORKS, "lenet300", Tiny)
    monkeypatch.setattr("pyro_vd.experiments.ablation.NETWORKS", mnist_compress.NETWORKS)
    monkeypatch.setattr("pyro_vd.experiments.common.compression.pictures.draw_run", lambda *_: None)
    args = Args(epochs=4, dataset="digits", engine="eager", device="cpu", out=tmp_path)
    main(args)
    printed = capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert table in printed
    assert table.startswith("lenet300, digits, 4 epochs:")
    assert all(table.count(f"| {factor} ") == 1 for factor in some)
    assert len(list(tmp_path.glob("*.json"))) == len(some)
    main(args)
    assert capsys.readouterr().out.count("already finished") == len(some)


def record(factor, seed, **numbers):
    args = with_factor(Args(epochs=60), factor)
    settings = {name: getattr(args, name) for name in args.protocol_fields}
    made = {"network": "lenet300", "epochs": 60, "dataset": "mnist", "scheme": "sparse", "diverged": False}
    return {**settings, **made, "seed": seed, **numbers}


def test_the_table_averages_seeds_and_leaves_out_what_did_not_run():
    base, other, none_left = "all as they are", "KL warm-up of one epoch", "alpha as the parameter"
    table = ablation_table(
        [
            record(base, 0, test_error=0.01, compression=40.0),
            record(base, 1, test_error=0.03, compression=60.0),
            record(other, 0, test_error=0.9, compression=None),
            record(other, 1, test_error=None, compression=None, diverged=True),
            record(none_left, 0, test_error=None, compression=None, diverged=True),
        ]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[4:]]
    assert rows == [
        [base, "2.00 ± 1.41", "50.0 ± 14.1x", "2"],
        [other, "90.00", "empty network", "1 (+1 diverged)"],
        [none_left, "-", "-", "0 (+1 diverged)"],
    ]


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="--epochs"):
        main(Args(epochs=0, out=tmp_path))
    with pytest.raises(UserError, match="did you mean"):
        main(Args(network="lenet4", out=tmp_path))
