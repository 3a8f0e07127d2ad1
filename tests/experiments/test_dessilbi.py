"""The study of DessiLBI: its rows, what it measures of a network, and its tables and pictures."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyro_vd import Categorical, Posterior, Training, compress, fit, guides, lift, optim
from pyro_vd.experiments import dessilbi
from pyro_vd.experiments.common import path_measures, path_tables
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.path_measures import LAYERS, SHARES, make_rankings
from pyro_vd.experiments.common.path_pictures import PICTURES, draw
from pyro_vd.experiments.common.path_tables import LINES, find_original, make_tables
from pyro_vd.experiments.common.phases import measure_error
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.spec import Data, decode, encode, key_of
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.dessilbi import EPOCHS, Args, main, make_columns
from pyro_vd.experiments.plans import PLAN
from pyro_vd.experiments.studies import PATH, find_measurement
from pyro_vd.models import LeNet1998
from pyro_vd.optim import unit_masks

ROWS = ("SGD", "DessiLBI", "DessiLBI, Adam", "sparse")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every row of the LeNet on digits for one epoch."""
    args = Args(dataset="digits", epochs=1, seeds=1, engine="eager", out=tmp_path_factory.mktemp("dessilbi"))
    main(args)
    columns = make_columns(Data(name="digits"), "lenet1998", 1)
    store = Store(args.out)
    return columns, store, {name: store.load(spec) for name, spec in columns["lenet1998"].items()}


def test_the_rows_follow_the_protocol():
    specs = make_columns(Data(name="mnist"), "lenet1998")["lenet1998"]
    assert tuple(specs) == ROWS
    trainings = {name: spec.main.training for name, spec in specs.items()}
    assert {training.epochs for training in trainings.values()} == {60}
    assert {training.batch_size for training in trainings.values()} == {128}
    for training in trainings.values():
        assert [training.lr_schedule(epoch) for epoch in (0, 19, 20, 40, 59)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    assert [trainings[name].lr for name in ROWS] == [0.1, 0.1, 0.1, 1e-3]
    assert trainings["SGD"].optimizer == optim.SGD(momentum=0.9)
    assert trainings["DessiLBI"].optimizer == optim.DessiLBI(kappa=1.0, nu=20.0, momentum=0.9, weight_decay=0.0)
    adam = trainings["DessiLBI, Adam"]
    assert adam.lr * adam.optimizer.kappa == pytest.approx(1e-3)
    assert adam.optimizer.nu == 20.0
    assert [trainings[name].clip_norm for name in ROWS] == [1.0, 1.0, None, None]
    assert len({key_of(spec) for spec in specs.values()}) == len(ROWS)
    assert all(decode(encode(spec)) == spec for spec in specs.values())


def test_the_vgg_has_its_own_protocol():
    specs = make_columns(Data(name="cifar10"), "vgg")["vgg"]
    assert tuple(specs) == ROWS[:3]
    assert {spec.main.training.epochs for spec in specs.values()} == {EPOCHS["vgg"]}
    assert specs["DessiLBI"].main.training.optimizer.nu == 500.0
    assert "vgg" not in LAYERS


def test_the_plan_has_its_runs_and_measures_them_so():
    cells = [cell for cell in PLAN if cell.study == dessilbi.STUDY]
    counts = {name: sum(cell.spec.network == name for cell in cells) for name in ("lenet1998", "vgg")}
    assert counts == {"lenet1998": 12, "vgg": 3}
    assert all(find_measurement(cell, None) is PATH for cell in cells)


def test_a_record_holds_every_ranking(done):
    *_, runs = done
    rankings = {name: set(run["pruned"]) for name, run in runs.items()}
    assert rankings == {
        "SGD": {"magnitude"},
        "DessiLBI": {"magnitude", "path"},
        "DessiLBI, Adam": {"magnitude", "path"},
        "sparse": {"magnitude", "log_alpha"},
    }
    for run in runs.values():
        for curves in run["pruned"].values():
            assert list(curves) == list(LAYERS["lenet1998"])
            assert all(len(errors) == len(SHARES) for errors in curves.values())
            assert all(errors[0] == run["test_error"] for errors in curves.values())
        assert (run["support"] is None) == ("path" not in run["pruned"])
        assert torch.tensor(run["filters"]["weight"]).shape == (6, 5, 5)
        assert ("gamma" in run["filters"]) == ("path" in run["pruned"])


def test_an_error_is_that_of_the_pruned_network(done):
    """Trained again outside the study."""
    *_, runs = done
    spec = runs["SGD"].spec
    split = load_images(spec.data, LeNet1998(), None)
    torch.manual_seed(0)
    model = lift(LeNet1998(), guides.none.prior, Categorical, num_data=len(split.train))
    pair = fit(model, guides.none.Guide(model), split.train, spec.main.training, engine="eager", seed=0, progress=False)
    net = pair.mean()
    assert measure_error(net, split.test) == runs["SGD"]["test_error"]
    norms = net.conv3.weight.detach().flatten(1).norm(dim=1)
    least = norms.argsort()[:72]
    net.conv3.weight.data[least] = 0.0
    net.conv3.bias.data[least] = 0.0
    assert measure_error(net, split.test) == runs["SGD"]["pruned"]["magnitude"]["conv3"][-1]
    rest = net.fc1.weight.detach().abs().flatten().argsort()[: round(0.6 * 120 * 84)]
    net.fc1.weight.data.view(-1)[rest] = 0.0
    assert measure_error(net, split.test) == runs["SGD"]["pruned"]["magnitude"]["conv3 and fc1"][-1]


def make_posterior(scheme, optimizer=None):
    torch.manual_seed(0)
    module = guides.SCHEMES[scheme]
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 2))
    model = lift(net, module.prior, Categorical, num_data=8)
    pair = Posterior(model, module.Guide(model))
    if optimizer is None:
        return pair
    data = torch.randn(8, 1, 3, 3), torch.arange(8) % 2
    training = Training(epochs=12, batch_size=4, lr=0.5, optimizer=optimizer)
    return fit(model, pair.guide, data, training, engine="eager", seed=0, progress=False)


def test_a_filters_log_alpha_is_that_of_its_sums():
    posterior = make_posterior("sparse")
    with torch.no_grad():
        for parameter in posterior.guide.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    scores = make_rankings(posterior, 2)["log_alpha"]
    theta, variance = posterior.guide.theta["0.weight"], posterior.guide.q("0.weight").variance
    log_alpha = (variance.sum((1, 2, 3)) / theta.square().sum((1, 2, 3))).log()
    torch.testing.assert_close(scores["0.weight"].flatten(), -log_alpha / 2)
    torch.testing.assert_close(scores["2.weight"], -posterior.log_alpha()["2.weight"] / 2)


def test_the_path_ranks_by_epochs():
    """Of two steps each; by steps, the order would be another."""
    posterior = make_posterior("none", optim.DessiLBI(kappa=0.3, nu=1.0))
    weight = posterior.guide.theta["2.weight"]
    entry = posterior.optimizer.state[weight]["entry"].flatten()
    epoch = torch.where(entry > 0, ((entry - 1) // 2), math.inf)
    order = sorted(range(24), key=lambda i: (-epoch[i].item(), weight.flatten()[i].abs().item()))
    by_epoch, by_step = (make_rankings(posterior, steps)["path"]["2.weight"].flatten() for steps in (2, 1))
    assert by_epoch.argsort().tolist() == order
    assert not torch.equal(by_epoch, by_step)


def test_a_record_ranks_by_the_epochs_of_its_data(monkeypatch):
    spec = make_columns(Data(name="digits"), "lenet1998")["lenet1998"]["DessiLBI"]
    posterior = make_posterior("none")
    found = []
    monkeypatch.setattr(path_measures, "measure_accuracy", lambda _: {})
    monkeypatch.setattr(path_measures, "make_rankings", lambda _, steps: found.append(steps) or {})
    state, split = SimpleNamespace(posterior=posterior, net=posterior.mean()), SimpleNamespace(train=range(300))
    path_measures.measure_path(SimpleNamespace(state=state, split=split, spec=spec))
    assert found == [3]  # 300 examples in batches of 128


def test_the_support_is_measured(done):
    *_, runs = done
    support = runs["DessiLBI"]["support"]
    assert support["per_layer"].keys() == {f"{name}.weight" for name in ("conv1", "conv2", "conv3", "fc1", "fc2")}
    assert 0 <= support["share"] <= 1


def make_run(seed=0, **numbers):
    """A run of DessiLBI on MNIST with these numbers."""
    specs = make_columns(Data(name="mnist"), "lenet1998")["lenet1998"]
    curve = [0.02, 0.02, 0.02, 0.021, 0.03, 0.05, 0.10]
    record = {
        "dataset": "mnist", "device": "cpu", "diverged": False, "test_error": 0.02, "test_error_best": 0.02,
        "support": None, "pruned": {name: {"conv3": curve, "conv3 and fc1": curve} for name in ("path", "magnitude")},
    }  # fmt: skip
    return Run(specs["DessiLBI"], {**record, **numbers}, None)


def test_tables_stand_beside_the_originals(done):
    columns, store, runs = done
    accuracy, conv3, both, *_ = make_tables(columns, store)
    assert [row[0] for row in accuracy.rows] == list(ROWS)
    assert [row[1] for row in accuracy.rows] == [f"{100 * (1 - run['test_error']):.2f}" for run in runs.values()]
    assert {row[2] for row in accuracy.rows} == {"-"}  # digits are not the original's data
    assert conv3.header == both.header == ("pruned %", "original", *LINES)
    assert [row[0] for row in conv3.rows] == ["0", "10", "20", "30", "40", "50", "60"]
    assert find_original({"DessiLBI": [make_run()]}, "SGD") == pytest.approx(1 - 0.9824)
    originals = [row[1] for row in path_tables._pruning_table("conv3 and fc1", {"DessiLBI": [make_run()]}).rows]
    assert originals == ["97.06", "97.06", "97.07", "97.14", "96.59", "93.47", "88.37"]


def test_every_original_number_has_a_place():
    settings = {cell.setting for cell in find(source=path_tables.SOURCE, network="lenet1998", method="DessiLBI")}
    shares = {f"{layers}, {100 * share:g} %" for layers in LAYERS["lenet1998"] for share in SHARES}
    assert settings == {"", *shares}
    methods = {cell.method for cell in find(source=path_tables.SOURCE)}
    assert methods == {"SGD", "DessiLBI", "DessiLBI, Adam"}


def test_what_pruning_costs():
    run = make_run()
    assert path_tables._loss("path", "conv3", 0.3)(run) == pytest.approx(0.1)
    assert path_tables._loss("path", "conv3", 0.6)(run) == pytest.approx(8.0)
    assert path_tables._loss("path", "conv3 and fc1", 0.6, less=("path", "conv3"))(run) == 0.0


def test_both_pictures_are_drawn(done):
    columns, store, _ = done
    assert draw(columns, store) == tuple(PICTURES)
    assert all((store.folder / name).stat().st_size > 5_000 for name in PICTURES)
    assert draw({}, store) == ()


def test_masks_are_those_that_compress_takes():
    net = LeNet1998()
    parameters = dict(net.named_parameters())
    masks = unit_masks(parameters, {"conv3.weight": torch.arange(120.0).view(120, 1, 1, 1)}, 0.5)
    pruned = compress.prune(net, masks)
    assert not pruned.conv3.weight[:60].any()
    assert not pruned.conv3.bias[:60].any()
    assert torch.equal(pruned.conv3.weight[60:], net.conv3.weight[60:])
