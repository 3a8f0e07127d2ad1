"""The digit recognizer: the package's own network, and the command on a small network and few images."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from pyro_vd import compress
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import digit_recognizer
from pyro_vd.experiments.common import deployment
from pyro_vd.experiments.common.recognizer import KINDS, RecognizerSpec, load_network, make_examples
from pyro_vd.experiments.common.records import read_record
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.digit_recognizer import Args, make_specs, make_table

SMALL = 400  # images


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 13 * 13, 10))


@pytest.fixture
def args(tmp_path, monkeypatch):
    """The command on digits in place of MNIST, with a network that runs in a second."""
    digits = load("digits").resize(28)
    few = replace(digits, train=digits.subset(SMALL, 100, 0).train, test=digits.subset(SMALL, 100, 0).test)
    monkeypatch.setattr(digit_recognizer, "load", lambda name, folder: few)
    monkeypatch.setattr(digit_recognizer, "load_network", small_network)
    monkeypatch.setattr(deployment, "NUM_ROUNDED", 50)
    return Args(epochs=2, seeds=2, out=tmp_path / "out", engine="eager")


def test_the_command_compresses_with_every_seed_and_finds_its_records(args, capsys):
    pytest.importorskip("constriction")
    digit_recognizer.main(args)
    store = Store(args.out, KINDS)
    first, second = (store.load(spec) for spec in make_specs(args))
    assert (first.spec.seed, second.spec.seed) == (0, 1)
    assert first["compression"] == first["weights"] / first["nonzero"] >= 1
    loaded = compress.load(first.beside(".pvd"), small_network())
    assert first.beside(".pvd").stat().st_size == first["bytes_compact"]
    _, (x, y) = make_examples(first.spec, digit_recognizer.load("mnist", None))
    error = (loaded(x).argmax(1) != y).double().mean().item()
    assert error == pytest.approx(first["error_compact"])
    digit_recognizer.main(args)
    assert capsys.readouterr().out.count("already finished") == 2
    (row,) = make_table(store).rows
    assert row[0] == "`sparse`, 2 epochs"
    assert row[-1] == "2"


def test_validation_images_are_training_images_that_are_not_trained_on(args):
    spec = RecognizerSpec(scheme="sparse", epochs=1, batch_size=100, lr=1e-3, validation=100)
    data = digit_recognizer.load("mnist", None)
    train, held = make_examples(spec, data)
    everything, test = make_examples(replace(spec, validation=0), data)
    assert (len(train[1]), len(held[1])) == (SMALL - 100, 100)
    together = torch.cat([train[0], held[0]]).flatten(1)
    assert torch.equal(together.sort(0).values, everything[0].flatten(1).sort(0).values)
    assert len(test[1]) == 100


def test_pixels_are_normalized_as_the_package_does(args):
    digits = digit_recognizer.load("mnist", None)
    x, _ = make_examples(make_specs(args)[0], digits)[1]
    assert torch.allclose(x * 0.3081 + 0.1307, digits.test.batch(torch.arange(len(x)))[0], atol=1e-6)


def test_the_network_is_the_packages_and_may_be_trained():
    package = pytest.importorskip("digit_recognizer")
    net = load_network()
    assert sum(parameter.numel() for parameter in net.parameters()) == 390_410
    assert all(parameter.requires_grad for parameter in net.parameters())
    original = package.DigitRecognizer(device="cpu").model
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), original.parameters(), strict=True))


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "digit_recognizer", None)
    with pytest.raises(UserError, match=r"needs digit_recognizer; pip install 'pyro-vd\[recognizer\]'"):
        load_network()


def test_counts_below_one_are_refused(args):
    with pytest.raises(UserError, match="--seeds must be at least 1"):
        digit_recognizer.main(replace(args, seeds=0))
    assert not list(args.out.glob("*.json"))


def test_a_record_holds_what_the_table_needs(args):
    pytest.importorskip("constriction")
    digit_recognizer.main(replace(args, seeds=1))
    (path,) = args.out.glob("*.json")
    assert set(digit_recognizer.KEYS) <= read_record(path).keys()
