"""The compression report counts what is in the tensors, weights only."""

import pytest
import torch
from torch import nn

from pyro_vd.compress import CompressionReport, compression_report


@pytest.fixture
def net():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Conv1d(1, 2, 5))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].weight[0] = 0.0  # 4 of 12
        net[2].weight.fill_(-1.0)
        net[2].weight[0, 0, 0] = -0.0  # 1 of 10; a negative zero is a zero
        net[0].bias.zero_()  # not counted
    return net


SITES = ["0.weight", "2.weight"]


def test_counts(net):
    report = compression_report(net, SITES)
    assert (report.weights, report.nonzero) == (22, 17)
    assert report.compression == pytest.approx(22 / 17)
    assert report.sparsity == pytest.approx(5 / 22)
    assert report.sparsity_per_layer == {"0.weight": pytest.approx(4 / 12), "2.weight": pytest.approx(1 / 10)}


def test_only_the_named_sites_are_counted(net):
    assert compression_report(net, ["2.weight"]) == CompressionReport(10, 9, {"2.weight": pytest.approx(0.1)})
    assert compression_report(net, iter(SITES)).weights == 22  # kills a generator that is consumed twice


def test_tiny_numbers_are_not_zero(net):
    """Kills a tolerance: pruned means exactly 0, also for denormal numbers."""
    with torch.no_grad():
        net[0].weight.fill_(1e-40)
    assert compression_report(net, ["0.weight"]).nonzero == 12


def test_the_network_is_not_changed(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    compression_report(net, SITES)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_an_empty_network_has_infinite_compression():
    report = CompressionReport(weights=10, nonzero=0, sparsity_per_layer={"w": 1.0})
    assert report.compression == float("inf")
    assert report.sparsity == 1.0


def test_a_full_network_is_not_compressed():
    report = CompressionReport(weights=10, nonzero=10, sparsity_per_layer={"w": 0.0})
    assert (report.compression, report.sparsity) == (1.0, 0.0)


def test_an_unknown_site_is_refused_by_name(net):
    with pytest.raises(AttributeError, match="wieght"):
        compression_report(net, ["0.wieght"])
