"""Runs of a network of a few hundred weights over digits, for the tests of experiments."""

from pathlib import Path

import torch

from pyro_vd import Training
from pyro_vd.experiments.common.runner import Runner
from pyro_vd.experiments.common.spec import Data, Dense, FineTune, Fit, Gradual, Lottery, Spec
from pyro_vd.experiments.common.store import Store

DENSE = Dense(training=Training(epochs=2, batch_size=500), dropout=(0.2, 0.3))
FIT = Fit(scheme="sparse", training=Training(epochs=3, batch_size=500), threshold=-4.0)
TUNE = FineTune(training=Training(epochs=2, batch_size=500))
GRADUAL = Gradual(sparsity=0.75, training=Training(epochs=4, batch_size=500), end=0.75)
LOTTERY = Lottery(sparsity=0.75, training=Training(epochs=2, batch_size=500), rounds=3, extra=1)
PHASES = (DENSE, FIT, TUNE)


def make_spec(*phases, network="tiny", **changes) -> Spec:
    """A spec of the network Tiny on digits, by default of all phases of a scheme."""
    return Spec(**{"network": network, "data": Data(name="digits"), "phases": phases or PHASES, **changes})


def make_runner(folder: Path, measure=lambda trained: {}, **changes) -> Runner:
    """A runner on the CPU, by default without numbers."""
    return Runner(
        **{"store": Store(folder), "measure": measure, "required": (), "device": torch.device("cpu"), **changes},
    )


def without_times(record: dict) -> dict:
    """The entries of a record that must be the same in every run of its spec."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in record["history"]]
    return {**{name: value for name, value in record.items() if name not in ("seconds", "digest")}, "history": rows}
