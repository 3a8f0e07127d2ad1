"""The compression report counts what is in the tensors, weights only."""

import dataclasses

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
    shares, sizes = {"2.weight": pytest.approx(0.1)}, {"2.weight": 10}
    expected = CompressionReport(10, 9, shares, 22, 17, ("0.weight",), weights_per_layer=sizes)
    assert compression_report(net, ["2.weight"]) == expected
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
    report = CompressionReport(10, 0, {"w": 1.0}, 10, 0)
    assert report.total_compression == float("inf")
    assert report.compression == float("inf")
    assert report.sparsity == 1.0


def test_a_full_network_is_not_compressed():
    report = CompressionReport(10, 10, {"w": 0.0}, 10, 10)
    assert (report.compression, report.sparsity) == (1.0, 0.0)


def test_an_unknown_site_is_refused_by_name(net):
    with pytest.raises(AttributeError, match="wieght"):
        compression_report(net, ["0.wieght"])


class Attention(nn.Module):
    """With a weight that lift leaves alone, an embedding, a recurrent layer and a bare parameter; the head is tied."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.gru = nn.GRU(4, 4, batch_first=True)
        self.mix = nn.Bilinear(4, 4, 3)
        self.bare = nn.Parameter(torch.ones(3, 7))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.auxiliary = nn.Linear(4, 5)
        self.never = nn.Linear(3, 2)

    def forward(self, x):
        x = self.embedding(x)
        x, _ = self.attention(x, x, x)
        x, _ = self.gru(x)
        y = {"logits": self.head(x), "bare": self.mix(x, x) @ self.bare}
        return (y, self.auxiliary(x)) if self.training else y


LIFTED = ["attention.out_proj.weight", "auxiliary.weight", "never.weight"]


def test_all_weight_matrices_are_counted_and_the_dense_ones_named():
    net = Attention()
    with torch.no_grad():
        net.attention.out_proj.weight[:3] = 0  # 4 of 16 are left
        net.bare[0] = 0
    report = compression_report(net, LIFTED)
    assert (report.weights, report.nonzero) == (16 + 20 + 6, 4 + 20 + 6)
    assert report.total_weights == 16 + 20 + 6 + 28 + 48 + 2 * 48 + 48 + 21
    assert report.total_nonzero == report.total_weights - 12 - 7
    assert report.total_compression == report.total_weights / report.total_nonzero
    assert report.dense == (
        "bare", "embedding.weight", "attention.in_proj_weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "mix.weight",
    )  # fmt: skip
    assert report.unused == ()


def test_layers_that_are_not_used_are_named_and_not_counted():
    """out_proj is read by attention and never called."""
    net = Attention().train()
    net.attention.eval()
    net.bare.requires_grad_(False)
    with torch.no_grad():
        net.auxiliary.weight.zero_()
    report = compression_report(net, LIFTED, torch.randint(7, (2, 3)))
    assert report.unused == ("auxiliary.weight", "never.weight")
    assert (report.weights, report.nonzero) == (16, 16)
    assert report.total_weights == 16 + 28 + 48 + 2 * 48 + 48 + 21
    assert list(report.sparsity_per_layer) == ["attention.out_proj.weight"]
    assert "bare" in report.dense
    assert net.training
    assert not net.attention.training
    assert not net.bare.requires_grad
    assert net.embedding.weight.grad is None


def test_a_tied_weight_counts_once_by_either_name():
    for site in ("embedding.weight", "head.weight"):
        report = compression_report(Attention(), [site])
        assert report.weights == 28
        assert report.total_weights == 28 + 16 + 20 + 6 + 48 + 2 * 48 + 48 + 21
        assert not {"embedding.weight", "head.weight"} & {*report.dense}


def test_lifted_weights_of_one_dimension_are_among_all():
    net = nn.Sequential(nn.Linear(3, 2))
    report = compression_report(net, ["0.bias"])
    assert (report.weights, report.total_weights) == (2, 8)


def test_it_reads_as_a_line():
    report = CompressionReport(3216, 338, {"a": 0.5}, 5328, 2450, ("encoder.in_proj_weight",))
    assert str(report) == "9.5x of the 3,216 lifted weights, 2.2x of all 5,328; dense: encoder.in_proj_weight"
    assert str(CompressionReport(8, 4, {"a": 0.5}, 8, 4)) == "2.0x of the 8 lifted weights, 2.0x of all 8"
    assert str(CompressionReport(8, 4, {"a": 0.5}, 8, 4, (), ("b",))).endswith("; not used and not counted: b")


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        ([], "nothing is above the threshold: a lower one, more epochs or a higher weight of the KL prunes more"),
        (["0.weight"], "layer 0 is empty: a higher threshold or a lower weight of the KL prunes less"),
        (SITES, "layers 0, 2 are empty: a higher threshold or a lower weight of the KL prunes less"),
    ],
)
def test_it_says_where_nothing_or_everything_is_pruned(net, empty, said):
    with torch.no_grad():
        for site in SITES:
            net.get_parameter(site).fill_(0.0 if site in empty else 1.0)
    report = compression_report(net, SITES)
    assert report.advice == said
    assert str(report).endswith(f"; {said}")
    assert report.empty == [site.removesuffix(".weight") for site in empty]


def test_its_repr_is_a_table(net):
    report = dataclasses.replace(compression_report(net, SITES), threshold=3.0)
    assert repr(report).splitlines() == [
        "threshold 3: 1.3x of the 22 lifted weights, 1.3x of all 22",
        "layer     weights  kept  pruned %",
        "0.weight       12     8      33.3",
        "2.weight       10     9      10.0",
        "lifted         22    17      22.7",
        "all            22    17      22.7",
    ]
    assert "<td>2.weight</td><td>10</td><td>9</td><td>10.0</td>" in report._repr_html_()
    assert "<caption>threshold 3: 1.3x" in report._repr_html_()


def test_its_repr_fits_on_a_page():
    names = [f"encoder.{'layer.' * 20}{number}" for number in range(30)]
    sizes = dict.fromkeys(names, 1_000_000)
    report = CompressionReport(30_000_000, 0, dict.fromkeys(names, 1.0), 30_000_000, 0, weights_per_layer=sizes)
    assert max(map(len, repr(report).splitlines())) <= 88
    assert len(repr(report).splitlines()) > 33  # the advice names all layers


def test_a_report_of_nothing_is_a_table_too():
    assert repr(CompressionReport(0, 0, {}, 0, 0)).endswith("all           0     0       0.0")
