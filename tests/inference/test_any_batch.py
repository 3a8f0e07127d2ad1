"""Inputs and targets of several tensors: every way of giving them is the same training, or is refused in one line."""

from collections import UserDict
from dataclasses import dataclass

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pyro_vd import Categorical, Gaussian, Posterior, fit_seeds, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import EagerStep
from pyro_vd.inference.examples import describe_examples, read_examples
from tests._asserts import same, untimed, values
from tests._pairs import BATCH, CLASSES, FEATURES, N, examples, interrupt_at, network, pair, train

LEFT = 2  # features of the left tower


class Joined(nn.Module):
    """A network of the features of all its arguments together."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, left, right=None):
        return self.inner(left if right is None else torch.cat([left, right], -1))


def towers():
    x, y = examples()
    return (x[:, :LEFT], x[:, LEFT:]), y


def trained(data=None, net=Joined, **arguments):
    likelihood, scheme = arguments.pop("likelihood", Categorical), arguments.pop("scheme", "sparse")
    n = arguments.pop("n", N)
    return train(*pair(scheme, net, n=n, likelihood=likelihood), data, **{"seed": 3, **arguments})


def equal(one, other):
    return same(values(one), values(other)) and untimed(one.history) == untimed(other.history)


@pytest.fixture
def steps(monkeypatch):
    """The batches of all eager steps."""
    seen = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (seen.append((x, y)), step(self, x, y, beta))[1])
    return seen


# --- one tensor in a container, and two towers, are the tensor


@pytest.mark.parametrize("estimator", ["local", "flipout", "weights"])
@pytest.mark.parametrize("pack", [
    lambda x: (x,),
    lambda x: [x],
    lambda x: {"left": x},
    lambda x: UserDict(left=x),
    lambda x: (x[:, :LEFT], x[:, LEFT:]),
    lambda x: {"right": x[:, LEFT:], "left": x[:, :LEFT]},
], ids=["tuple", "list", "dict", "mapping", "towers", "towers by name"])  # fmt: skip
def test_inputs_in_a_container_are_the_tensor(pack, estimator):
    x, y = examples()
    one, other = (trained((inputs, y), estimator=estimator) for inputs in (x, pack(x)))
    assert equal(one, other)
    for name in ("predict", "predict_mean", "predictive"):
        drawn = []
        for inputs in (x, pack(x)):
            torch.manual_seed(0)
            drawn.append(getattr(one, name)(inputs, 3, batch_size=7))
        torch.testing.assert_close(*drawn)  # a slice is aligned in another way, so a product may round differently


def test_arrays_in_a_container_are_tensors():
    x, y = examples()
    assert equal(trained(examples()), trained(({"left": x.numpy()}, y.numpy())))


def test_a_compiled_step_takes_them(quick_compiler):
    (left, right), y = towers()
    data = {"right": right, "left": left}, {"digit": y}
    how = {"engine": "compiled", "likelihood": lambda logits: {"digit": Categorical(logits)}}
    found = trained(data, **how)
    assert found.engine == "compiled"
    assert len(quick_compiler) == 1
    assert equal(found, trained(examples(), engine="compiled"))


def test_a_compiled_step_divides_them(quick_compiler):
    data = towers()
    one, other = (trained(data, scheme="none", engine=engine, micro_batch_size=5) for engine in ("eager", "compiled"))
    for name, value in values(one).items():
        torch.testing.assert_close(values(other)[name], value, rtol=2e-5, atol=2e-6)


def test_a_batch_of_another_structure_does_not_enter_the_graph(quick_compiler):
    """Its tensors have the shapes of those that the graph was made for, under other names."""

    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, a=None, b=None):
            return -self.inner(b) if a is None else self.inner(a)

    x, y = examples(48)
    loader = list(DataLoader(TensorDataset(x, y), BATCH))
    loader = DataLoader([({"ab"[number % 2]: x}, y) for number, (x, y) in enumerate(loader)], batch_size=None)
    how = {"net": Either, "n": 48, "scheme": "none"}
    one, other = (trained(loader, engine=engine, **how) for engine in ("eager", "compiled"))
    for name, value in values(one).items():
        torch.testing.assert_close(values(other)[name], value, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("engine", ["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def test_seeds_take_them(engine, quick_compiler):
    def make():
        return pair(net=Joined, seed=torch.initial_seed())

    how = {"epochs": 2, "batch_size": BATCH, "lr": 0.01, "progress": False, "engine": engine}
    ones, others = (fit_seeds(make, data, seeds=[0, 1], **how) for data in (examples(), towers()))
    assert all(map(equal, ones, others))
    (alone,) = fit_seeds(make, towers(), seeds=[5], **how)
    assert equal(alone, train(*pair(net=Joined, seed=5), towers(), seed=5, **how))


@pytest.mark.parametrize("micro", [1, 5])
def test_parts_of_a_batch_are_the_batch(micro):
    one, other = (trained(towers(), scheme="none", micro_batch_size=size) for size in (None, micro))
    for name, value in values(one).items():
        torch.testing.assert_close(values(other)[name], value, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    (left, right), y = towers()
    data = {"left": left, "right": right}, (y,)
    how = {"likelihood": lambda logits: (Categorical(logits),), "epochs": 3}
    whole = trained(data, **how)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            trained(data, checkpoint=tmp_path / "run", **how)
    other = {"left": left + 1, "right": right}, (y,)
    with pytest.raises(UserError, match="data was"):
        trained(other, checkpoint=tmp_path / "run", **how)
    assert equal(whole, trained(data, checkpoint=tmp_path / "run", **how))


def test_the_description_of_tensors_is_that_of_older_checkpoints():
    x, y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0])
    found = describe_examples(read_examples((x, y), torch.float32))
    digest = "d406a834aa0f0f273e9f081f3112a08230a97f6f1fe66a3149291383c1324f49"
    assert found == f"LabeledImages of 3 with SHA-256 {digest}"


def test_the_description_of_a_tree_knows_names_and_values():
    x, y = examples()
    trees = [({"a": x, "b": x + 1}, y), ({"b": x, "a": x + 1}, y), ({"a": x, "b": x}, y), ((x, x + 1), y), (x, (y,))]
    assert len({describe_examples(read_examples(data, torch.float32)) for data in trees}) == len(trees)


def test_a_share_is_held_out():
    (left, right), y = towers()
    data = {"left": left, "right": right}, y
    one, other = (trained(given, n=40, validation=0.2) for given in (data, examples()))
    assert equal(one, other)
    assert len(one.history[0]) == len(trained(data).history[0]) + 1


# --- several targets


class Heads(nn.Module):
    def __init__(self, kind=dict):
        super().__init__()
        self.kind = kind
        self.trunk, self.label, self.size = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES), nn.Linear(6, 1)

    def forward(self, x):
        hidden = self.trunk(x).relu()
        return self.kind(label=self.label(hidden), size=self.size(hidden))


@dataclass
class Output:
    label: torch.Tensor
    size: torch.Tensor
    loss: torch.Tensor | None = None


def both(output):
    return {"label": Categorical(output["label"]), "size": Gaussian(0.5)(output["size"])}


def by_field(output):
    return Output(Categorical(output.label), Gaussian(0.5)(output.size))


def two_targets():
    x, y = examples()
    return x, {"label": y, "size": x.sum(1, keepdim=True)}


def test_the_log_likelihood_of_heads_is_their_sum():
    x, y = two_targets()
    posterior = trained((x, y), Heads, scheme="none", likelihood=both, lr=0.0, batch_size=N, epochs=1)
    with torch.no_grad():
        output = posterior.mean()(x)
    by_hand = -cross_entropy(output["label"], y["label"]) + dist.Normal(output["size"], 0.5).log_prob(y["size"]).mean()
    assert posterior.history[0]["log_likelihood"] == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_validation_set_of_heads_is_scored_by_their_sum():
    data = two_targets()
    posterior = trained(data, Heads, scheme="none", likelihood=both, lr=0.0, batch_size=N, epochs=1, validation=data)
    (row,) = posterior.history
    assert row["validation_log_likelihood"] == pytest.approx(row["log_likelihood"], rel=1e-5)


def test_every_head_learns_and_one_alone_is_y():
    x, y = two_targets()
    posterior = trained((x, y), Heads, likelihood=both)
    start = Posterior(*pair(net=Heads, likelihood=both))
    for site in ("label.weight", "size.weight"):
        assert not torch.equal(posterior.guide.theta[site], start.guide.theta[site])

    def sites(model, *data):
        found = poutine.trace(model).get_trace(*data)
        return found.observation_nodes, list(found.nodes)

    model = lift(Heads(), dist.Normal(0.0, 1.0), both, num_data=N)
    assert sites(model, x, y)[0] == ["y.label", "y.size"]
    assert {"y.label", "y.size"} <= set(sites(model, x)[1])
    assert sites(lift(network(), dist.Normal(0.0, 1.0), Categorical, num_data=N), x, y["label"])[0] == ["y"]


@pytest.mark.parametrize(("kind", "likelihood"), [(dict, both), (Output, by_field)])
def test_predictions_have_the_containers_of_the_network_and_of_the_likelihood(kind, likelihood):
    x, y = two_targets()
    y = y if kind is dict else Output(y["label"], y["size"])
    posterior = trained((x, y), lambda: Heads(kind), likelihood=likelihood)
    get = (lambda tree, name: tree[name]) if kind is dict else getattr
    drawn, mean, targets = posterior.predict(x, 4, 7), posterior.predict_mean(x, 4), posterior.predictive(x, 4, 7)
    assert type(drawn) is type(mean) is type(targets) is kind
    assert [get(drawn, name).shape for name in ("label", "size")] == [(4, N, CLASSES), (4, N, 1)]
    assert [get(targets, name).shape for name in ("label", "size")] == [(4, N), (4, N, 1)]
    assert get(targets, "label").dtype == torch.int64
    sizes = posterior.predict_mean(x, 4, transform=lambda output: get(output, "size") * 2)
    assert sizes.shape == (N, 1)
    torch.manual_seed(0)
    drawn = posterior.predict(x, 4)
    torch.manual_seed(0)
    torch.testing.assert_close(get(posterior.predict_mean(x, 4), "size"), get(drawn, "size").mean(0))


def test_quantiles_of_several_targets():
    x, _ = two_targets()
    posterior = Posterior(*pair(net=Heads, likelihood=lambda output: (
        Gaussian(1.0)(output["size"]), Gaussian(2.0)(output["size"])
    )))  # fmt: skip
    narrow, wide = posterior.quantiles(x, 50, [0.1, 0.5, 0.9], batch_size=20)
    assert narrow.shape == wide.shape == (3, N, 1)
    low, high = posterior.interval(x, 400, batch_size=20)
    assert ((high[1] - low[1]).mean() / (high[0] - low[0]).mean()).item() == pytest.approx(2, rel=0.2)
    with pytest.raises(UserError, match=r"quantiles: y\.label is torch\.int64, as of classes"):
        Posterior(*pair(net=Heads, likelihood=both)).quantiles(x, 5, 0.5)


# --- masks, sequences and ignored targets


class Tagger(nn.Module):
    """A label for each token; masked tokens are left out of the context."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(12, CLASSES)

    def forward(self, tokens, mask):
        hidden = self.hidden(self.embedding(tokens)).relu()
        context = (hidden * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return self.head(torch.cat([hidden, context.expand_as(hidden)], -1))


def sentences(pad=0):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 9, (N, 7), generator=generator)
    mask = torch.arange(7) < torch.randint(2, 8, (N, 1), generator=generator)
    labels = torch.where(mask, tokens % CLASSES, -100)
    return {"tokens": tokens.where(mask, torch.tensor(pad)), "mask": mask}, labels


def ignoring(logits):
    return Categorical(logits, ignore_index=-100)


def test_padding_counts_nothing():
    """As PyTorch's cross_entropy, and whatever the tokens there are."""
    x, y = sentences()
    how = {"net": Tagger, "likelihood": ignoring, "scheme": "none"}
    still = trained((x, y), lr=0.0, batch_size=N, epochs=1, **how)
    with torch.no_grad():
        total = cross_entropy(still.mean()(**x).flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")
    assert still.history[0]["log_likelihood"] == pytest.approx(-total.item() / N, rel=1e-5)
    one, other = (trained(sentences(pad), **how) for pad in (0, 3))
    assert equal(one, other)


def test_padding_is_scored_and_drawn():
    x, y = sentences()
    posterior = trained((x, y), Tagger, likelihood=ignoring, validation=(x, y))
    drawn = posterior.predictive(x, 3)
    assert drawn.shape == (3, N, 7)
    assert drawn.min() >= 0


def test_without_ignore_index_the_label_is_refused():
    x, y = sentences()
    with pytest.raises(UserError, match=r"-100, which Categorical cannot give.*ignore_index=-100"):
        trained((x, y), Tagger)
    y[0, 0] = CLASSES
    with pytest.raises(UserError, match=rf"y\[0, 0\] is {CLASSES}, which _Ignoring"):
        trained((x, y), Tagger, likelihood=ignoring)


# --- loaders and datasets of dicts, weights and indices


class Rows(Dataset):
    """Items as Hugging Face's datasets give them."""

    def __init__(self):
        self.x, self.y = examples()

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"left": self.x[index, :LEFT], "right": self.x[index, LEFT:], "labels": self.y[index], "text": "a word"}


def read(batch):
    return {"left": batch["left"], "right": batch["right"]}, batch["labels"]


def test_a_loader_of_dicts_is_one_of_pairs():
    pairs = trained(DataLoader(TensorDataset(*examples()), BATCH, shuffle=True), batch_size=7)
    dicts = trained(DataLoader(Rows(), BATCH, shuffle=True), batch=read)
    assert equal(pairs, dicts)


def test_a_dataset_of_dicts_is_one_of_pairs():
    assert equal(trained(examples()), trained(Rows(), batch=read))
    held = trained(Rows(), batch=read, n=40, validation=0.2)
    assert equal(trained(examples(), n=40, validation=0.2), held)
    ones, others = (
        fit_seeds(lambda: pair(net=Joined), data, seeds=[0, 1], epochs=1, engine="eager", progress=False, **how)
        for data, how in ((examples(), {}), (Rows(), {"batch": read}))
    )
    assert all(map(equal, ones, others))


def test_the_validation_loader_is_read_too():
    loader = DataLoader(Rows(), BATCH)
    read_rows = trained(examples(), validation=loader, batch=read)
    one, other = (posterior.history[-1] for posterior in (read_rows, trained(examples(), validation=examples())))
    assert one["validation_log_likelihood"] == pytest.approx(other["validation_log_likelihood"], rel=1e-5)


def test_a_run_on_dicts_goes_on(tmp_path, monkeypatch):
    def loader():
        return DataLoader(Rows(), BATCH, shuffle=True)

    whole = trained(loader(), batch=read, epochs=3)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            trained(loader(), batch=read, epochs=3, checkpoint=tmp_path / "run")
    with pytest.raises(UserError, match="data was"):
        trained(loader(), batch=lambda batch: read(batch), epochs=3, checkpoint=tmp_path / "run")
    assert equal(whole, trained(loader(), batch=read, epochs=3, checkpoint=tmp_path / "run"))


class WithScale(nn.Module):
    """Passes what the likelihood needs of each example beside the network's output."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(FEATURES, 1)

    def forward(self, x, scale):
        return self.net(x), scale


def test_weights_of_examples():
    """A standard deviation of each example, and its index, which nobody needs, in the batch."""
    x, _ = examples()
    target, scale = x.sum(1, keepdim=True), torch.rand(N, 1) + 0.5
    loader = DataLoader(TensorDataset(x, target, scale, torch.arange(N)), N)
    posterior = trained(
        loader, WithScale, likelihood=lambda output: dist.Normal(*output), scheme="none", lr=0.0, epochs=1,
        batch=lambda batch: ((batch[0], batch[2]), batch[1]),
    )  # fmt: skip
    with torch.no_grad():
        by_hand = dist.Normal(posterior.mean().net(x), scale).log_prob(target).mean()
    assert posterior.history[0]["log_likelihood"] == pytest.approx(by_hand.item(), rel=1e-5)
    assert posterior.predictive((x, scale), 2).shape == (2, N, 1)


# --- graphs, whose first axis counts nodes and edges


class GraphNet(nn.Module):
    """Sums over neighbors, then over the nodes of each graph; ``start[i]`` is the first node of graph i."""

    def __init__(self):
        super().__init__()
        self.lin, self.norm = nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, nodes, edges, graph, start):
        around = torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]])
        hidden = self.norm(self.lin(nodes + around)).relu()
        return self.head(hidden.new_zeros(len(start), 8).index_add(0, graph, hidden))


def collate(graphs):
    sizes = torch.tensor([len(nodes) for nodes, _, _ in graphs])
    start = sizes.cumsum(0) - sizes
    return {
        "nodes": torch.cat([nodes for nodes, _, _ in graphs]),
        "edges": torch.cat([edges + first for (_, edges, _), first in zip(graphs, start, strict=True)], 1),
        "graph": torch.arange(len(graphs)).repeat_interleave(sizes),
        "start": start,
        "y": torch.tensor([label for _, _, label in graphs]),
    }


def graphs(n=20):
    generator = torch.Generator().manual_seed(2)
    found = []
    for number in range(n):
        size = 3 + number % 4
        edges = torch.randint(size, (2, 2 * size), generator=generator)
        nodes = torch.randn(size, 3, generator=generator) + number % CLASSES
        found.append((nodes, edges, number % CLASSES))
    return found


def read_graphs(batch):
    return {name: batch[name] for name in ("nodes", "edges", "graph", "start")}, batch["y"]


def test_graphs_are_counted_by_their_targets(steps):
    loader = DataLoader(graphs(), 8, shuffle=True, collate_fn=collate)
    posterior = trained(loader, GraphNet, n=20, batch=read_graphs, validation=loader, epochs=3)
    assert [len(y) for _, y in steps] == [8, 8, 4] * 3
    assert len({len(x["nodes"]) for x, _ in steps}) > 1
    x, _ = read_graphs(collate(graphs()))
    assert posterior.predict(x, 5, batch_size=None).shape == (5, 20, CLASSES)
    assert posterior.predictive(x, 5, batch_size=None).shape == (5, 20)
    with pytest.raises(UserError, match=r"that of x\.nodes is 90, and .*x\.edges.*batch_size=None gives"):
        posterior.predict(x, 5)


def test_graphs_compile(quick_compiler):
    loader = DataLoader(graphs(), 8, collate_fn=collate)
    one, other = (
        trained(loader, GraphNet, n=20, batch=read_graphs, scheme="none", engine=engine)
        for engine in ("eager", "compiled")
    )
    assert other.engine == "compiled"
    for name, value in values(one).items():
        torch.testing.assert_close(values(other)[name], value, rtol=2e-4, atol=2e-5)


def test_one_graph_is_a_loader_of_one_batch():
    """Labels of its nodes, some of them unknown."""

    class Nodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, CLASSES)

        def forward(self, nodes, edges):
            return self.lin(nodes + torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]]))

    nodes, edges, y = torch.randn(30, 3), torch.randint(30, (2, 70)), torch.arange(30) % CLASSES
    y[10:] = -100
    loader = DataLoader([((nodes, edges), y)], batch_size=None)
    with pytest.raises(UserError, match=r"a batch of the DataLoader: the first axis must count.*x\.0 is 30, and"):
        trained(loader, Nodes, n=30, likelihood=ignoring)
    posterior = trained(
        loader, Nodes, n=30, likelihood=ignoring, scheme="none", batch=lambda item: item, lr=0.0, epochs=1
    )
    with torch.no_grad():
        total = cross_entropy(posterior.mean()(nodes, edges)[:10], y[:10], reduction="sum")
    assert posterior.history[0]["log_likelihood"] == pytest.approx(-total.item() / 30, rel=1e-5)


def test_graphs_are_not_divided(steps):
    loader = DataLoader(graphs(), 8, collate_fn=collate)
    with pytest.raises(UserError, match="leave out micro_batch_size for other inputs"):
        trained(loader, GraphNet, n=20, batch=read_graphs, micro_batch_size=4)
    assert steps == []


# --- what is refused before the first step

x, y = examples()
(left, right), _ = towers()
BYTES = torch.zeros(N, 2, dtype=torch.uint8)
ROWS = DataLoader(Rows(), BATCH)
TRIPLES = DataLoader(TensorDataset(x, y, y), BATCH)
REFUSED = {
    "unequal leaves": (((left, right[:-1]), y), {}, rf"that of x\.0 is {N}, and the shape of x\.1 is \(49, 3\)"),
    "unequal targets": ((x, (y, y[1:])), {}, r"the training set: the first axis .* the shape of y\.1 is \(49,\)"),
    "no leaves": (((), y), {}, "x of the training set is empty"),
    "no targets": ((x, {}), {}, "y of the training set is empty"),
    "a word": (({"left": x, "right": "word"}, y), {}, r"x\.right of the training set is a str"),
    "none": (((x, None), y), {}, r"x\.1 of the training set is a NoneType"),
    "bytes": (((left, BYTES), y), {}, r"x\.1 of the training set is uint8; give numbers by"),
    "bytes of a loader": (DataLoader(TensorDataset(BYTES, y), 5), {}, "x of a batch of the DataLoader is uint8"),
    "another key": (({"left": left, "wrong": right}, y), {}, r"forward\(left, right=None\) of Joined .*'wrong'"),
    "too many": (((left, right, right), y), {}, r"forward\(left, right=None\).*3 positional.*too many positional"),
    "too few": (({"right": right}, y), {}, r"forward\(left, right=None\).*missing a required argument: 'left'"),
    "a dict for one": ((x, {"y": y}), {}, r"the targets are y\.y, but the likelihood gives distributions of one"),
    "one for a dict": ((x, y), {"net": Heads, "likelihood": both},
                       r"the targets are one tensor y, but the likelihood gives distributions of y\.label, y\.size"),
    "another name": ((x, {"label": y, "width": x[:, :1]}), {"net": Heads, "likelihood": both},
                     r"the targets are y\.label, y\.width, but"),
    "shape of a head": ((x, {"label": y, "size": y.float()}), {"net": Heads, "likelihood": both},
                        r"the targets y\.size have shape \(16,\).*\(16, 1\): give y\.unsqueeze"),
    "value of a head": ((x, {"label": y + 1, "size": x[:, :1]}), {"net": Heads, "likelihood": both},
                        r"y\.label\[2\] is 3, which Categorical cannot give"),
    "no distribution": ((x, y), {"likelihood": lambda logits: logits}, "the likelihood gives a Tensor for y; it must"),
    "nothing": ((x, y), {"likelihood": lambda logits: ()}, "the likelihood gives no distribution"),
    "dtype of a leaf": (((left.double(), right.double()), y), {},
                        r"inputs of torch\.float64 .*give x\.0\.float\(\), x\.1\.float\(\)"),
    "a loader of dicts": (ROWS, {}, r"is a dict with the keys left, right, labels, text, but .*batch=function"),
    "a loader of three": (TRIPLES, {}, r"a list of 3, but .*fit\(\.\.\., batch=function\)"),
    "a hook that gives one": (TRIPLES, {"batch": lambda batch: batch[0]}, "batch= returned a Tensor; it must return"),
    "a hook that gives three": (TRIPLES, {"batch": lambda batch: batch}, "batch= returned a list of 3; it must return"),
    "a hook without y": (TRIPLES, {"batch": lambda batch: (batch[0], None)}, "y of a batch .* is a NoneType"),
    "a hook that turns": (TRIPLES, {"batch": lambda batch: (batch[0], batch[0].T.repeat(9, 1))},
                          "batch= gives 45 targets y for 16 examples"),
    "a hook that drops": (TRIPLES, {"batch": lambda batch: (batch[0][:8], batch[1][:8])},
                          "batch= gives 8 targets y for 16 examples"),
    "numbers for names": (({0: left}, y), {}, r"forward\(left, right=None\) .* a dict with the keys 0"),
    "two of a name": ((x, {"a.b": y, "a": {"b": y}}), {
        "likelihood": lambda logits: {"a.b": Categorical(logits), "a": {"b": Categorical(logits)}}
    }, r"two targets have one name, among y\.a\.b"),
    "nothing to learn": ((x, torch.full_like(y, -100)), {"likelihood": ignoring}, "every target of y is -100"),
    "a sparse leaf": (((left.to_sparse(), right), y), {}, r"x\.0 of the training set is sparse"),
    "a hook for tensors": ((x, y), {"batch": read}, "batch= reads what a DataLoader or a Dataset yields"),
    "no hook": (TRIPLES, {"batch": "labels"}, "batch='labels' must be a function"),
    "a hook for a dataset": (Rows(), {"batch": lambda batch: (batch["left"], batch["labels"][1:])},
                             "batch= gives 15 targets y for 16 items"),
    "validation of dicts": ((x, y), {"validation": ROWS}, "validation set does not fit the model: .*batch=function"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_bad_input_is_refused_in_one_line_before_the_first_step(name, steps):
    data, how, reason = REFUSED[name]
    with pytest.raises(UserError, match=reason) as caught:
        trained(data, **how)
    assert "\n" not in str(caught.value)
    assert steps == []


def test_a_weight_and_a_target_of_one_name_are_refused():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.y = nn.Linear(FEATURES, CLASSES)

        def forward(self, x):
            return self.y(x)

    with pytest.raises(UserError, match=r"'y\.weight' is the site of a weight and of targets"):
        trained((x, {"weight": y}), Named, likelihood=lambda logits: {"weight": Categorical(logits)})
    assert trained((x, y), Named).history


def test_outputs_that_cannot_be_joined_are_refused():
    class Odd(nn.Module):
        def __init__(self, extra):
            super().__init__()
            self.inner, self.more = network(), extra

        def forward(self, x):
            return {"logits": self.inner(x), "extra": self.more(x)}

    def predict(extra, **how):
        model = lift(Odd(extra), guides.sparse.prior, lambda output: Categorical(output["logits"]), num_data=N)
        return Posterior(model, guides.sparse.Guide(model)).predict(x, 2, **how)

    with pytest.raises(UserError, match=r"returns output\.extra of shape \(\) for 50 inputs"):
        predict(torch.sum)
    with pytest.raises(UserError, match=r"returns output\.extra of shape \(5,\) for 50 inputs"):
        predict(lambda x: x.sum(0))
    with pytest.raises(UserError, match=r"returns a function \(output\.extra\), and predictions need tensors"):
        predict(lambda x: read)
    assert predict(torch.sum, batch_size=None)["extra"].shape == (2,)
    assert predict(lambda x: None)["extra"] is None
