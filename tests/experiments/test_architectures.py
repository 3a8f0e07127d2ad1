"""LeNet-5's units: multiplications as its layers count them, ours beside the published ones."""

from dataclasses import replace
from pathlib import Path

import torch

from pyro_vd.compress import architecture, count_multiplications, shrink
from pyro_vd.experiments.common.compression_tables import (
    UNITS_HEADER,
    architecture_table,
    describe_training,
    multiplications,
    published_units,
)
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.mnist_compress import PROTOCOLS
from pyro_vd.models import LeNet5


def shrunk():
    """A LeNet-5 with 3 and 7 filters, and 11 of the 20 units of its hidden layer that see them."""
    torch.manual_seed(0)
    net = LeNet5().eval()
    with torch.no_grad():
        for layer, kept in ((net.conv1, 3), (net.conv2, 7), (net.fc1, 11)):
            layer.weight[kept:] = 0
            layer.bias[kept:] = 0
    images = torch.rand(8, 1, 28, 28)
    return shrink(net, images), images


def test_multiplications_are_those_of_the_layers():
    small, images = shrunk()
    sizes = architecture(small)
    assert list(sizes.values()) == [(1, 3), (3, 7), (7 * 16, 11), (11, 10)]
    assert multiplications(sizes.values()) == count_multiplications(small, images[:1])


SPEC = compression_spec(PROTOCOLS["molchanov2017"], "l0", Data(name="mnist"), "lenet5", seed=4)


def make_run(spec=SPEC, **changes):
    small, _ = shrunk()
    sizes = {name: list(layer) for name, layer in architecture(small).items()}
    made = {"dataset": "mnist", "protocol": "molchanov2017", "changes": {}, "device": "cpu (2 cores)"}
    return Run(spec, {**made, "test_error": 0.0123, "deployment": {"architecture": sizes}, **changes}, Path("run.json"))


def test_ours_stand_before_the_published_ones():
    table = architecture_table([make_run()])
    assert table.header == UNITS_HEADER
    ours, *theirs = table.rows
    assert ours == ("l0", f"{describe_training(make_run())}, seed 4", "3-7-112-11", "29.3x", "1.23")
    assert len(theirs) == len(published_units())
    (horseshoe,) = [row for row in theirs if row[0] == "group horseshoe"]
    assert horseshoe[2:] == ("5-10-76-16", "15.0x", "1")
    (group_lasso,) = [row for row in theirs if row[2] == "3-12-800-500"]
    assert group_lasso[3] == "11.4x"  # 12 filters make 192 inputs


def test_other_networks_and_those_that_were_not_shrunk_have_no_row():
    plain = make_run()
    del plain.record["deployment"]
    others = [make_run(replace(SPEC, network="lenet300")), make_run(dataset="mnist (validation 10000)"), plain]
    assert len(architecture_table(others).rows) == len(published_units())
