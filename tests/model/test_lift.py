"""lift: what it selects, what it shares, what it scales, and what it refuses by name."""

import copy
import gc
import pickle
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import nn

import pyro_vd
from pyro_vd import Bernoulli, Categorical, Gaussian, LogUniform, guides, lift
from pyro_vd.priors import EmpiricalBayes, Flat

NORMAL = dist.Normal(0.0, 1.0)


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


class AllLayers(nn.Module):
    def __init__(self):
        super().__init__()
        for i, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            setattr(self, f"conv{i + 1}", kind(1, 2, 2))
        for i, kind in enumerate((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            setattr(self, f"up{i + 1}", kind(1, 2, 2))
        self.body = nn.ModuleDict({"fc": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2), "emb": nn.Embedding(3, 2)})
        self.own = nn.Parameter(torch.zeros(2))


def sites(model):
    return list(model.priors)


def latent(trace):
    return [n for n, s in trace.nodes.items() if s["type"] == "sample" and not s["is_observed"] and n != "y"]


# Mutants: a convolution kind missing, biases or norms taken, embeddings taken.
def test_default_selection_is_the_weights_of_linear_and_convolution_layers():
    model = lift(AllLayers(), NORMAL, Categorical, 1)
    assert sites(model) == [
        *(f"conv{i}.weight" for i in (1, 2, 3)),
        *(f"up{i}.weight" for i in (1, 2, 3)),
        "body.fc.weight",
    ]


# Mutants: site names of another kind, another order than the network's.
def test_site_names_are_the_networks_parameter_names():
    network = net()
    names = [name for name, _ in network.named_parameters()]
    model = lift(network, NORMAL, Categorical, 1, select=lambda *_: True)
    assert sites(model) == names
    trace = poutine.trace(model).get_trace(torch.randn(6, 4))
    assert latent(trace) == names
    assert [tuple(trace.nodes[n]["value"].shape) for n in names] == [
        tuple(p.shape) for _, p in network.named_parameters()
    ]
    assert not list(model.named_parameters())


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (["3.weight"], ["3.weight"]),
        (("3.bias", "0.weight"), ["0.weight", "3.bias"]),
        ({"1.weight"}, ["1.weight"]),
        (iter(["0.bias"]), ["0.bias"]),
        (lambda name, module, p: isinstance(module, nn.Linear) and p.ndim == 1, ["0.bias", "3.bias"]),
        (lambda name, module, p: name.startswith("0."), ["0.weight", "0.bias"]),
    ],
)
def test_select(select, expected):
    assert sites(lift(net(), NORMAL, Categorical, 1, select=select)) == expected


# Mutant: the predicate given the whole network instead of the parameter's own module.
def test_predicate_gets_name_module_and_parameter():
    network, seen = net(), []
    lift(network, NORMAL, Categorical, 1, select=lambda *args: seen.append(args) or True)
    for name, module, parameter in seen:
        path, _, attribute = name.rpartition(".")
        assert module is network.get_submodule(path)
        assert parameter is getattr(module, attribute)


@pytest.mark.parametrize("select", [["0.wieght"], ["0.weight", "nope"], ["weight"]])
def test_unknown_names(select):
    with pytest.raises(ValueError, match=r"nope|wieght|parameter weight"):
        lift(net(), NORMAL, Categorical, 1, select=select)


# Mutant: a model without random weights, which trains as if nothing were wrong.
@pytest.mark.parametrize("select", [[], lambda *_: False, None])
def test_empty_selection(select):
    network = nn.Sequential(nn.BatchNorm1d(3)) if select is None else net()
    with pytest.raises(ValueError, match="no parameter was selected"):
        lift(network, NORMAL, Categorical, 1, select=select)


def lazy():
    return nn.Sequential(nn.LazyLinear(3))


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)))


def new_weight_norm():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))


class NamedY(nn.Module):
    def __init__(self):
        super().__init__()
        self.y = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d])
def test_a_prior_shared_per_unit_has_to_count_a_transposed_layers_units(kind):
    with pytest.raises(ValueError, match=r"'0\.weight' is of a transposed convolution.*dim=0"):
        lift(nn.Sequential(kind(3, 5, 2)), EmpiricalBayes("unit"), Categorical, 10)
    lift(nn.Sequential(kind(3, 5, 2)), EmpiricalBayes("unit", dim=0), Categorical, 10)
    lift(nn.Sequential(kind(3, 5, 2)), EmpiricalBayes("layer"), Categorical, 10)


REFUSED = {
    "weight_norm, old, g": (old_weight_norm, ["0.weight_g"], "weight_norm"),
    "weight_norm, old, v": (old_weight_norm, ["0.weight_v"], "weight_norm"),
    "weight_norm, new": (new_weight_norm, ["0.parametrizations.weight.original1"], "parametriz"),
    "parametrized bias": (new_weight_norm, ["0.bias"], "parametriz"),
    "max_norm": (lambda: nn.Sequential(nn.Embedding(3, 3, max_norm=1.0)), ["0.weight"], "max_norm"),
    "lazy": (lazy, None, "lazy"),
    "bfloat16": (lambda: net().to(torch.bfloat16), None, "bfloat16"),
    "float16": (lambda: net().half(), None, "float16"),
    "complex": (lambda: nn.Sequential(nn.Linear(3, 3, dtype=torch.complex64)), None, "complex64"),
    "the name y": (NamedY, ["y"], "rename"),
}


# Mutants: a weight silently left a point parameter, or replaced where its module never looks.
@pytest.mark.parametrize("name", REFUSED)
def test_parameters_that_cannot_be_random(name):
    build, select, reason = REFUSED[name]
    network = build()
    with pytest.raises(ValueError, match=reason) as refusal:
        lift(network, NORMAL, Categorical, 1, select=select)
    names = [n for n, _ in network.named_parameters()]
    assert any(repr(n) in str(refusal.value) for n in names), f"names no parameter: {refusal.value}"


# Mutant: the default selection passing over a layer whose weight has been renamed, without a word.
@pytest.mark.parametrize("build", [old_weight_norm, new_weight_norm])
def test_default_selection_does_not_pass_over_a_renamed_weight(build):
    with pytest.raises(ValueError, match=r"weight_norm|parametriz"):
        lift(nn.Sequential(nn.Linear(3, 3), build()), NORMAL, Categorical, 1)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Linear(3, 3))


# Mutant: only the outermost module looked at.
@pytest.mark.parametrize(
    ("build", "select"),
    [(scripted, None), (scripted, ["weight"]), (lambda: nn.Sequential(nn.Linear(3, 3), scripted()), ["1.weight"])],
)
def test_torchscript_is_refused(build, select):
    with pytest.raises(ValueError, match="TorchScript"):
        lift(build(), NORMAL, Categorical, 1, select=select)


@pytest.mark.parametrize("n", [0, -1, 0.5, float("nan")])
def test_n_below_one(n):
    with pytest.raises(ValueError, match="num_data="):
        lift(net(), NORMAL, Categorical, n)


# Mutants: the class's own message, a prior broadcast to a shape nobody asked for.
@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (dist.Normal, "Normal.*instance"),
        (dist.Laplace, "Laplace.*instance"),
        (dist.Normal(torch.zeros(3), 1.0), r"one weight.*\(3,\)"),
        (dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), "one weight"),
        (lambda name, parameter: dist.Normal(0.0, 1.0), r"0\.weight.*\(5, 4\)"),
        (lambda name, parameter: dist.Normal(torch.zeros(4, 5), 1.0), r"0\.weight.*\(5, 4\)"),
        (lambda name, parameter: None, r"0\.weight"),
        (lambda name, parameter: dist.Normal, r"0\.weight"),
        (0.5, "float"),
        (None, "NoneType"),
        (object, "object|distribution"),
    ],
)
def test_priors_of_another_kind(prior, message):
    with pytest.raises(TypeError, match=message):
        lift(net(), prior, Categorical, 1)


@pytest.mark.parametrize("likelihood", [dist.Normal, dist.Poisson, torch.distributions.Gamma, None, 1.0, "Categorical"])
def test_likelihoods_of_another_kind(likelihood):
    with pytest.raises(TypeError, match="callable"):
        lift(net(), NORMAL, likelihood, 1)


# Mutants: the class called once for all sites, kwargs lost by expand, events not declared.
@pytest.mark.parametrize(
    ("prior", "kind"),
    [
        (LogUniform, LogUniform),
        (LogUniform(kl="exact"), LogUniform),
        (EmpiricalBayes, EmpiricalBayes),
        (Flat, Flat),
        (dist.Normal(0.0, 2.0), dist.Normal),
        (dist.Laplace(0.0, 2.0), dist.Laplace),
        (dist.StudentT(3.0), dist.StudentT),
        (lambda name, p: LogUniform().expand(p.shape), LogUniform),
        (lambda name, p: dist.Normal(torch.zeros_like(p), 1.0).to_event(p.ndim), dist.Normal),
        (lambda name, p: dist.Normal(torch.zeros_like(p), 1.0).to_event(1), dist.Normal),
    ],
)
def test_priors_as_class_instance_and_callable(prior, kind):
    model = lift(net(), prior, Categorical, 1)
    for name, p in model.priors.items():
        base = p
        while hasattr(base, "base_dist") and not isinstance(base, kind):
            base = base.base_dist
        assert isinstance(base, kind)
        assert p.event_shape == model.initial[name].shape
        assert p.batch_shape == ()
    if isinstance(prior, LogUniform):
        assert model.priors["0.weight"].base_dist.kl == "exact"


def test_prior_per_layer():
    def prior(name, parameter):
        return dist.Normal(0.0, 1.0 / parameter.shape[1] ** 0.5).expand(parameter.shape)

    model = lift(net(), prior, Categorical, 1)
    scales = {name: p.base_dist.scale.unique().item() for name, p in model.priors.items()}
    assert scales == pytest.approx({"0.weight": 4**-0.5, "3.weight": 5**-0.5})


# Mutants: float32 priors under a float64 network, nested ones too; the user's instance changed.
@pytest.mark.parametrize(
    "prior",
    [
        dist.Normal(0.0, 2.0),
        dist.StudentT(3.0, 0.0, 1.0),
        dist.Laplace(0.0, 1.0),
        dist.LogNormal(0.0, 1.0),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), torch.tensor([0.1, 2.0]))),
    ],
    ids=lambda p: type(p).__name__,
)
def test_prior_follows_the_dtype_of_the_network(prior):
    model = lift(net().double(), prior, Categorical, 1)
    trace = poutine.trace(model).get_trace(torch.randn(6, 4, dtype=torch.float64))
    assert all(trace.nodes[name]["value"].dtype == torch.float64 for name in model.priors)
    assert prior.sample().dtype == torch.float32


# Mutants: a copy of the weights kept in the model, point parameters in the guide, weights of the user's net removed.
def test_the_weights_live_in_the_guide_only():
    network = net()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    addresses = {name: p.data_ptr() for name, p in network.named_parameters()}
    model = lift(network, LogUniform, Categorical, 10)
    assert {n for n, _ in model.named_parameters()} == {"net.0.bias", "net.1.weight", "net.1.bias", "net.3.bias"}
    assert not {k for k in model.state_dict() if k.endswith(("0.weight", "3.weight"))}
    for name in model.priors:
        assert model.initial[name].data_ptr() == addresses[name]
        assert not model.initial[name].requires_grad
    for name, p in model.named_parameters():
        assert p.data_ptr() != addresses[name.removeprefix("net.")]
    guide = guides.sparse.Guide(model)
    assert {n for n, _ in guide.named_parameters()} == {
        f"{k}.{n}" for k in ("theta", "log_sigma2") for n in model.priors
    }
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss=pyro_vd.AnalyticELBO())
    svi.step(torch.randn(10, 4), torch.randint(3, (10,)))
    assert [n for n, _ in network.named_parameters()] == list(addresses)
    assert {name: p.data_ptr() for name, p in network.named_parameters()} == addresses
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# Mutants: two sites for one weight, only the first place bound, the tie broken in the network that comes out.
def test_tied_weights_are_one_site_in_both_places():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.decode.weight = self.encode.weight

        def forward(self, x):
            return self.decode(self.encode(x))

    model = lift(Tied(), NORMAL, Gaussian(1.0), 2)
    assert sites(model) == ["encode.weight"]
    w, x = torch.randn(3, 3), torch.randn(2, 3)
    out = poutine.condition(model, data={"encode.weight": w})(x)
    torch.testing.assert_close(out, F.linear(F.linear(x, w), w))
    plain = model.network({"encode.weight": w})
    assert plain.encode.weight is plain.decode.weight
    torch.testing.assert_close(plain(x), out)


# Mutant: a weight removed once per name of its module.
@pytest.mark.parametrize("depth", [1, 2])
def test_a_module_used_twice_is_one_site(depth):
    layer = nn.Linear(3, 3) if depth == 1 else nn.Sequential(nn.Linear(3, 3))
    network = nn.Sequential(layer, nn.Tanh(), layer)
    model = lift(network, NORMAL, Gaussian(1.0), 2)
    site = "0.weight" if depth == 1 else "0.0.weight"
    assert sites(model) == [site]
    x = torch.randn(2, 3)
    torch.testing.assert_close(poutine.condition(model, data=dict(model.initial))(x), network(x))
    torch.testing.assert_close(model.network(dict(model.initial))(x), network(x))


# Mutants: the whole data set's scale without the batch's, mean for sum, scaling when y is not given.
@pytest.mark.parametrize("batch", [1, 4, 10, 25])
def test_likelihood_is_scaled_by_n_over_b(batch):
    model = lift(nn.Linear(4, 3), NORMAL, Categorical, 10)
    x, y = torch.randn(batch, 4), torch.randint(3, (batch,))
    trace = poutine.trace(model).get_trace(x, y)
    logits = trace.nodes["_RETURN"]["value"]
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["y"]["log_prob_sum"], -10 * F.cross_entropy(logits, y))
    assert trace.nodes["weight"]["scale"] == 1.0
    assert poutine.trace(model).get_trace(x).nodes["y"]["scale"] == 1.0


# Mutant: y drawn by the guide's side or missing from predictions.
def test_without_y_the_model_samples_it():
    model = lift(net().eval(), NORMAL, Categorical, 10)
    trace = poutine.trace(model).get_trace(torch.randn(7, 4))
    y = trace.nodes["y"]
    assert not y["is_observed"]
    assert y["value"].shape == (7,)
    assert trace.nodes["_RETURN"]["value"].shape == (7, 3)


# Mutants: probabilities for logits, scale for variance, a batch that is not summed.
@pytest.mark.parametrize(
    ("likelihood", "y", "expected"),
    [
        (Categorical, torch.tensor([0, 2]), lambda out, y: -F.cross_entropy(out, y, reduction="sum")),
        (dist.Categorical, torch.tensor([0, 2]), lambda out, y: -F.cross_entropy(out, y, reduction="sum")),
        (torch.distributions.Categorical, torch.tensor([0, 2]), lambda o, y: -F.cross_entropy(o, y, reduction="sum")),
        (Bernoulli, torch.ones(2, 3), lambda out, y: F.logsigmoid(out).sum()),
        (dist.Bernoulli, torch.zeros(2, 3), lambda out, y: F.logsigmoid(-out).sum()),
        (torch.distributions.Bernoulli, torch.zeros(2, 3), lambda out, y: F.logsigmoid(-out).sum()),
        (Gaussian(0.5), torch.ones(2, 3), lambda out, y: torch.distributions.Normal(out, 0.5).log_prob(y).sum()),
        (
            lambda out: dist.Laplace(out, 2.0),
            torch.ones(2, 3),
            lambda o, y: (-(o - y).abs() / 2 - 4**0.5 * 0 - torch.tensor(4.0).log()).sum(),
        ),
        (lambda out: dist.Poisson(out.exp()).to_event(1), torch.ones(2, 3), lambda o, y: (o - o.exp()).sum()),
        (
            lambda out: torch.distributions.Normal(out, 1.0),
            torch.ones(2, 3),
            lambda o, y: torch.distributions.Normal(o, 1.0).log_prob(y).sum(),
        ),
    ],
)
def test_likelihoods(likelihood, y, expected):
    model = lift(nn.Linear(4, 3), NORMAL, likelihood, 2)
    trace = poutine.trace(model).get_trace(torch.randn(2, 4), y)
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["y"]["log_prob_sum"], expected(trace.nodes["_RETURN"]["value"], y))


# Mutant: PyTorch's own distribution accepted by the checks of lift and refused by a later AttributeError.
def test_a_torch_distribution_is_a_prior_or_is_refused_by_name():
    try:
        model = lift(nn.Linear(4, 3), torch.distributions.Normal(0.0, 1.0), Categorical, 2)
    except TypeError as refusal:
        assert "pyro" in str(refusal)  # noqa: PT017
        return
    assert model(torch.randn(2, 4)).shape == (2, 3)


# Mutants: weights left bound after a forward, or after one that fails.
def test_nothing_stays_bound():
    model = lift(net(), NORMAL, Categorical, 5)
    model(torch.randn(6, 4))
    with pytest.raises(RuntimeError):
        model(torch.randn(6, 5))
    for path, attribute in (("0", "weight"), ("3", "weight")):
        assert not hasattr(model.net.get_submodule(path), attribute)
    with model.bound({"0.weight": torch.zeros(5, 4)}) as bound:
        assert torch.equal(bound[0].weight, torch.zeros(5, 4))
    assert not hasattr(model.net[0], "weight")


# Mutants: a copy that shares parameters or its store name, or cannot be made.
@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301
def test_copies_work_and_share_nothing(how):
    model = lift(net(), LogUniform, Categorical, 5)
    guide = guides.sparse.Guide(model)
    x, y = torch.randn(5, 4), torch.randint(3, (5,))
    twin = how(model)
    assert sites(twin) == sites(model)
    for (a, p), (b, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert a == b
        assert torch.equal(p, q)
        assert p.data_ptr() != q.data_ptr()
    pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 1.0}), loss=pyro_vd.AnalyticELBO()).step(x, y)
    before = [p.clone() for p in twin.parameters()]
    trace = poutine.trace(guide).get_trace(x, y)
    poutine.replay(twin, trace=trace)(x, y)
    assert all(torch.equal(p, q) for p, q in zip(twin.parameters(), before, strict=True))
    assert len({key.split("$$$")[0] for key in pyro.get_param_store().keys()}) == 3  # noqa: SIM118


# Mutant: buffers (BatchNorm's statistics) shared with the user's network, or left behind.
def test_buffers_are_the_models_own():
    network = net()
    model = lift(network, NORMAL, Categorical, 5)
    model.train()(torch.randn(6, 4))
    assert network[1].num_batches_tracked == 0
    assert model.net[1].num_batches_tracked == 1


# Mutant: one warning per step for a bias that the user froze.
def test_frozen_point_parameters_stay_frozen():
    network = net()
    network[0].bias.requires_grad_(False)
    model = lift(network, LogUniform, Categorical, 5)
    guide, x, y = guides.sparse.Guide(model), torch.randn(5, 4), torch.randint(3, (5,))
    before = model.net[0].bias.clone()
    pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss=pyro_vd.AnalyticELBO()).step(x, y)
    assert torch.equal(model.net[0].bias, before)


# Mutant: a store entry that outlives its model.
def test_the_store_forgets_a_model_that_is_gone():
    model = lift(net(), NORMAL, Categorical, 5)
    model(torch.randn(6, 4))
    assert len(pyro.get_param_store())
    del model
    gc.collect()
    assert not len(pyro.get_param_store())


# Mutant: an output network that shares its weights with the draw, or lacks a parameter.
def test_network_is_plain_pytorch():
    network = net()
    model = lift(network, NORMAL, Categorical, 5)
    plain = model.network(dict(model.initial))
    assert type(plain) is nn.Sequential
    assert plain.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in plain.state_dict().items())
    assert plain[0].weight.data_ptr() != network[0].weight.data_ptr()
    assert isinstance(plain[0].weight, nn.Parameter)
