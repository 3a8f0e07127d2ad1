"""Which protocol a run has, what the scheme says of how it is trained, and the spec of both."""

import math
from dataclasses import fields, replace

import pytest

from pyro_vd import Training, guides
from pyro_vd.experiments import cifar_compress, mnist_compress
from pyro_vd.experiments.common import compression
from pyro_vd.experiments.common.protocols import (
    CHANGES,
    Protocol,
    accuracy_fit,
    compression_spec,
    has_parametrization,
)
from pyro_vd.experiments.common.spec import Data, Dense, FineTune, Fit, Options, Spec, key_of
from pyro_vd.experiments.mnist_compress import AUGMENTED, DIGITS, FINE_TUNED, MOLCHANOV, Args
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp

MNIST = Data(name="mnist")
UNITS = {  # what a scheme changes in every protocol
    "group_normal_jeffreys": {"threshold": 0.0, "train_masking": False, "noise_lr": 3.0},
    "group_horseshoe": {"threshold": 3.0, "train_masking": False, "noise_lr": 3.0},
    "structured_log_normal": {"threshold": 0.0, "train_masking": False, "noise_lr": 3.0},
    "l0": {"noise_lr": 10.0},
}


def spec_of(protocol, scheme="sparse", data=MNIST, network="lenet300", **changes):
    return compression_spec(protocol, scheme, data, network, changes=changes)


def test_a_spec_is_the_protocols():
    """Written out: Molchanov et al. 2017 for a plain run, and every phase for the fine-tuned one."""
    training = Training(
        epochs=200, batch_size=100, lr=1e-3, lr_schedule=HoldThenDecay(100, 200), kl_schedule=WarmUp(5, 15), threshold=3
    )
    assert spec_of(MOLCHANOV) == Spec(
        network="lenet300", data=MNIST, phases=(Fit(scheme="sparse", training=training, threshold=3.0),), num_samples=20
    )
    training = Training(epochs=80, lr_schedule=HoldThenDecay(40, 80), kl_schedule=WarmUp(0, 10, 1.25), threshold=3.0)
    assert spec_of(FINE_TUNED, network="lenet5") == Spec(
        network="lenet5",
        data=Data(name="mnist", shift=1),
        phases=(
            Dense(training=Training(epochs=20, lr_schedule=HoldThenDecay(0, 20)), dropout=(0.15, 0.3)),
            Fit(scheme="sparse", training=training, noise_lr=0.3, threshold=3.0),
            FineTune(training=Training(epochs=40, lr_schedule=HoldThenDecay(0, 40))),
        ),
        num_samples=20,
    )


@pytest.mark.parametrize("scheme", guides.SCHEMES)
@pytest.mark.parametrize("network", ["lenet300", "lenet5"])
def test_a_scheme_is_trained_and_pruned_in_its_own_way(scheme, network):
    """Unless something else is asked for."""
    protocol = mnist_compress.NETWORK_PROTOCOLS[network]
    wanted = {"threshold": 3.0, "train_masking": True, "noise_lr": protocol.noise_lr} | UNITS.get(scheme, {})

    def own(phase):
        masked = phase.training.threshold is not None
        assert phase.training.threshold in (None, phase.threshold)
        return {"threshold": phase.threshold, "train_masking": masked, "noise_lr": phase.noise_lr}

    assert own(spec_of(protocol, scheme).main) == wanted
    asked = {"threshold": 1.5, "train_masking": not wanted["train_masking"], "noise_lr": 0.7}
    assert own(spec_of(protocol, scheme, **asked).main) == asked


@pytest.mark.parametrize("protocol", [MOLCHANOV, AUGMENTED, FINE_TUNED, DIGITS, *cifar_compress.PROTOCOLS.values()])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 7), ("batch_size", 64), ("lr", 0.01), ("kl_weight", 0.1), ("noise_lr", 0.7), ("hold", 0.1),
        ("wait", 0.3), ("ramp", 0.9), ("parametrization", "log_alpha"), ("init", -8.0), ("threshold", 2.0),
        ("train_masking", False), ("pretrain", 3), ("shift", 2), ("fine_tune", 4),
    ],
)  # fmt: skip
def test_a_change_changes_the_run_and_is_told(protocol, name, value):
    """A run of two epochs must never stand in a table as the protocol itself."""
    assert key_of(spec_of(protocol, **{name: value})) != key_of(spec_of(protocol))
    assert protocol.differences("sparse", {name: value}) == {name: value}


def test_all_that_can_change_is_tried():
    tried = next(mark.args[1] for mark in test_a_change_changes_the_run_and_is_told.pytestmark if len(mark.args[1]) > 9)
    assert {name for name, _ in tried} == set(CHANGES)


def test_what_the_protocol_has_anyway_is_no_change():
    """Nor what the scheme has."""
    own = {name: getattr(FINE_TUNED, name) for name in CHANGES}
    assert FINE_TUNED.differences("sparse", own) == {}
    assert spec_of(FINE_TUNED, **own) == spec_of(FINE_TUNED)
    units = {"threshold": 0.0, "noise_lr": 3.0, "lr": 0.1}
    assert MOLCHANOV.differences("group_normal_jeffreys", units) == {"lr": 0.1}
    assert MOLCHANOV.differences("sparse", units) == units
    assert list(MOLCHANOV.differences("sparse", {"shift": 1, "epochs": 3})) == ["epochs", "shift"]


def test_arguments_are_changes_by_name():
    args = Args(epochs=3, shift=0, train_masking=False, kl_weight=0.0)
    assert args.changes == {"epochs": 3, "shift": 0, "train_masking": False, "kl_weight": 0.0}
    assert Args().changes == {}
    assert set(CHANGES) <= {entry.name for entry in fields(Args)}


def test_the_protocol_of_a_run():
    """The one that was asked for, else that of the network or of digits."""
    assert mnist_compress.choose_protocol(Args(), "mnist") is MOLCHANOV
    assert mnist_compress.choose_protocol(Args(network="lenet5"), "fashion_mnist") is FINE_TUNED
    assert mnist_compress.choose_protocol(Args(network="lenet5"), "digits") is DIGITS
    for name, protocol in mnist_compress.PROTOCOLS.items():
        assert mnist_compress.choose_protocol(Args(network="lenet5", protocol=name), "digits") is protocol
        assert protocol.name == name


def test_the_command_takes_every_protocol_by_name():
    for study in (mnist_compress, cifar_compress):
        assert all(repr(name)[1:-1] in str(study.Args.__annotations__["protocol"]) for name in study.PROTOCOLS)


@pytest.mark.parametrize(("own", "epochs"), [(MOLCHANOV, 200), (MOLCHANOV, 20), (DIGITS, 100), (DIGITS, 2)])
def test_the_warm_up_keeps_its_proportions(own, epochs):
    schedule = replace(own, epochs=epochs).kl_schedule
    assert schedule(0) == 0
    assert schedule(epochs) == 1
    full = (own.wait + own.ramp) * epochs
    assert schedule(math.ceil(full) + 1) == 1
    assert schedule.ramp >= 1
    if epochs == own.epochs:
        wait, ramp = round(own.wait * epochs), round(own.ramp * epochs)
        assert schedule(wait) == 0 < schedule(wait + 1)
        assert schedule(wait + ramp - 1) < 1 == schedule(wait + ramp)


@pytest.mark.parametrize(("hold", "epochs", "held"), [(1.0, 10, 9), (0.0, 10, 0), (0.5, 1, 0), (0.25, 10, 2)])
def test_the_rate_decays_in_the_last_epoch_at_least(hold, epochs, held):
    schedule = spec_of(MOLCHANOV, hold=hold, epochs=epochs).main.training.lr_schedule
    assert schedule == HoldThenDecay(held, epochs)


def test_seeds_and_schemes_are_specs():
    args = Args(seeds=2, scheme=("none", "l0"), num_samples=3, epochs=4)
    specs = compression.make_specs(args, MOLCHANOV, MNIST, "lenet300", Options(scale=2))
    assert [(spec.seed, spec.method) for spec in specs] == [(0, "none"), (0, "l0"), (1, "none"), (1, "l0")]
    assert {(spec.num_samples, spec.options, spec.main.training.epochs) for spec in specs} == {
        (3, Options(scale=2.0), 4)
    }


def test_options_go_to_guides_that_take_them():
    changes = {"parametrization": "log_alpha", "init": -6.0}
    assert spec_of(MOLCHANOV, "sparse", **changes).main.options == changes
    assert spec_of(MOLCHANOV, "none", **changes).main.options == {}
    assert {scheme for scheme in guides.SCHEMES if has_parametrization(scheme)} >= {"sparse", "hierarchical"}
    assert not has_parametrization("l0")


def test_a_row_of_accuracy_is_not_pruned():
    """Its rate is not 0 in the last epoch: it ends at the epoch after it."""
    own = Protocol(name="own", epochs=10, batch_size=500, lr=2e-3, wait=0.1, ramp=0.4)
    options = {"p": {"fc1.weight": 0.2}}
    fit = accuracy_fit(own, "variational_a", select=("fc1.weight",), options=options, kl_weight=0.5, prior="LogUniform")
    training = Training(
        epochs=10, batch_size=500, lr=2e-3, lr_schedule=HoldThenDecay(5, 11), kl_schedule=WarmUp(1, 4, 0.5)
    )
    assert fit == Fit(
        scheme="variational_a", training=training, select=("fc1.weight",), options=Options(options), prior="LogUniform"
    )
    assert (fit.threshold, fit.training.threshold) == (None, None)
    other = accuracy_fit(own, "none", estimator="weights", matmul_dtype="bfloat16").training
    assert (other.estimator, other.matmul_dtype) == ("weights", "bfloat16")
