"""Which protocol a run has and what it is called, and what the scheme says of how it is trained."""

import math

import pytest
import torch

from pyro_vd import guides
from pyro_vd.data import DATASETS, DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import compression
from pyro_vd.experiments.common.pruning import SCHEME_SETTINGS
from pyro_vd.experiments.mnist_compress import DIGITS, FINE_TUNED, HEADLINE, Args


def split_named(name, origin=None):
    examples = LabeledImages(torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64))
    origin = origin or name.split(" (")[0]
    return DataSplits(name, origin if origin in DATASETS else "folder", examples, examples, 10, "0")


def described(scheme, dataset="mnist", **changes):
    table = mnist_compress.table(Args(**changes), split_named(dataset), torch.device("cpu"))
    return compression.settings_of(table, scheme, 0)


def protocol(dataset, **changes):
    return described("sparse", dataset, **changes)["protocol"]


@pytest.mark.parametrize("scheme", guides.SCHEMES)
@pytest.mark.parametrize("network", ["lenet300", "lenet5"])
def test_a_scheme_is_trained_and_pruned_in_its_own_way(scheme, network):
    """Unless something else is asked for."""
    usual = {"threshold": 3.0, "train_masking": True, "noise_lr": mnist_compress.NETWORK_PROTOCOLS[network].noise_lr}
    plain = described(scheme, network=network)
    assert {name: plain[name] for name in usual} == usual | SCHEME_SETTINGS.get(scheme, {})
    asked = {"threshold": 1.5, "train_masking": not plain["train_masking"], "noise_lr": 0.7}
    other = described(scheme, network=network, **asked)
    assert {name: other[name] for name in asked} == asked


def test_a_protocol_that_is_asked_for_is_the_one():
    """Also the one of another network, or of other data: then its name says so."""
    asked = {"network": "lenet5", "protocol": "headline"}
    assert protocol("mnist", **asked) == "headline"
    assert protocol("mnist", network="lenet5", protocol="shifted") == "shifted"
    assert protocol("mnist", hold=0.5, noise_lr=0.3, **asked) == "variant of headline: hold=0.5, noise_lr=0.3"
    assert protocol("digits", **asked) == "variant of headline: dataset=digits"
    with pytest.raises(UserError, match="did you mean 'headline'"):
        mnist_compress.main(Args(protocol="haedline"))


def test_only_the_protocol_itself_has_its_name():
    assert protocol("mnist") == protocol("mnist", epochs=HEADLINE.epochs) == "headline"
    own = {name: getattr(FINE_TUNED, name) for name in compression.PROTOCOL_DEFAULTS}
    assert protocol("mnist", network="lenet5") == protocol("mnist", network="lenet5", **own) == "fine-tuned"
    assert protocol("mnist", network="lenet5", shift=0, noise_lr=1.0) == "variant of fine-tuned: noise_lr=1.0, shift=0"
    assert protocol("digits (28x28)") == protocol("digits", epochs=DIGITS.epochs) == "digits-short"


@pytest.mark.parametrize("dataset", ["mnist", "digits (28x28)"])
@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 2},
        {"batch_size": 64},
        {"lr": 0.01},
        {"kl_weight": 0.1},
        {"noise_lr": 0.3},
        {"parametrization": "log_alpha"},
        {"init": -8.0},
        {"threshold": 2.0},
        {"train_masking": False},
        {"pretrain": 3},
        {"shift": 2},
        {"fine_tune": 4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_protocol_says_what_it_changes(dataset, changed):
    """A run of two epochs must never stand in a table as the headline."""
    ((name, value),) = changed.items()
    found = protocol(dataset, **changed)
    assert found.startswith("variant of ")
    assert f"{name}={value}" in found


@pytest.mark.parametrize(("dataset", "origin"), [("fashion_mnist", "fashion_mnist"), ("my pictures (28x28)", "folder")])
def test_another_dataset_is_a_variant(dataset, origin):
    assert f"dataset={origin}" in protocol(dataset)


def test_a_folder_called_digits_is_not_the_digits():
    assert protocol("digits of mine") == "variant of headline: dataset=folder"


@pytest.mark.parametrize("dataset", ["mnist", "digits"])
def test_a_validation_run_is_a_variant(dataset):
    assert "validation=200" in protocol(dataset, validation=200)


def test_runs_of_different_protocols_have_different_files():
    slugs = {compression._slug(protocol("mnist", **changed)) for changed in ({}, {"lr": 0.1}, {"lr": 0.01})}
    assert len(slugs) == 3
    assert not any(set(slug) & set(' /\\:*?"<>|') for slug in slugs)


@pytest.mark.parametrize(("own", "epochs"), [(HEADLINE, 200), (HEADLINE, 20), (DIGITS, 100), (DIGITS, 2)])
def test_the_warm_up_keeps_its_proportions(own, epochs):
    schedule = own.kl_schedule(epochs)
    assert schedule(0) == 0
    assert schedule(epochs) == 1
    full = (own.wait + own.ramp) / own.epochs * epochs
    assert schedule(math.ceil(full) + 1) == 1
    if epochs == own.epochs:
        assert schedule(own.wait) == 0 < schedule(own.wait + 1)
        assert schedule(own.wait + own.ramp - 1) < 1 == schedule(own.wait + own.ramp)
