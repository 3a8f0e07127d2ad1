"""An architecture of torchvision: gray images, one training, one call of sparsify, and a record of both networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pyro_vd import compress
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import torchvision_network
from pyro_vd.experiments.common.phases import measure_error
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.torchvision_network import KEYS, KINDS, Args, main, make_network, make_spec, make_table


@pytest.fixture
def args(tmp_path, monkeypatch):
    """The command on digits in place of Fashion-MNIST, with a network that runs in a second."""
    digits = load("digits").resize(28)
    few = replace(digits, train=digits.subset(200, 60, 0).train, test=digits.subset(200, 60, 0).test)
    monkeypatch.setattr(torchvision_network, "load_images", lambda data, net, folder: few)
    monkeypatch.setattr(torchvision_network, "make_network", make_small)
    return Args(dense_epochs=2, epochs=2, seeds=2, out=tmp_path / "out", engine="eager")


def make_small(spec):
    torch.manual_seed(spec.seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 13 * 13, 10))


def test_the_command_compresses_with_every_seed_and_finds_its_records(args, capsys):
    pytest.importorskip("constriction")
    main(args)
    store = Store(args.out, KINDS)
    spec = make_spec(args)
    first, second = (store.load(replace(spec, seed=seed), KEYS) for seed in (0, 1))
    assert first["dense_error"] != second["dense_error"]
    assert first["compression"] == first["weights"] / first["nonzero"] >= 1
    assert first["weights"] == 8 * 9 + 8 * 13 * 13 * 10
    assert first["multiplications"] >= 1
    loaded = compress.load(first.beside(".pvd"), make_small(spec)).eval()
    assert first.beside(".pvd").stat().st_size == first["bytes_compact"]
    test = torchvision_network.load_images(spec.data, None, None).test
    assert measure_error(loaded, test) == pytest.approx(first["error_compact"])
    main(args)
    assert capsys.readouterr().out.count("already finished") == 2
    table = make_table(store)
    ((name, *_, number),) = table.rows
    assert (name, number) == ("1", "2")
    assert max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH


def test_the_network_is_torchvisions_for_gray_images_and_ten_classes():
    spec = make_spec(Args())
    net, same, other = (make_network(one).eval() for one in (spec, spec, replace(spec, seed=1)))
    assert type(net).__name__ == "ShuffleNetV2"
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert torch.equal(net.conv1[0].weight, same.conv1[0].weight)
    assert not torch.equal(net.conv1[0].weight, other.conv1[0].weight)


def test_numbers_out_of_range_are_refused(args):
    with pytest.raises(UserError, match="--dense-epochs must be at least 1"):
        main(replace(args, dense_epochs=0))
