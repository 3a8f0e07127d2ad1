"""local_reparam of multi-head attention: PyTorch's own options, and the moments of every projection."""

import copy

import pyro
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pyro_vd
from pyro_vd import guides
from pyro_vd.handlers import NoisyWeight, NoLocalRule, local_reparam
from pyro_vd.handlers.rules import gaussian as gaussian_rules
from pyro_vd.inference.engine import Objective, trace_objective
from pyro_vd.posteriors import InputNoise, WeightNormal
from tests.reference.z_test import z_of_mean

pytestmark = pytest.mark.usefixtures("double")

Z_BOUND = 5.5  # false failure below 1e-4 over a thousand components, and never once a seed has passed
E, HEADS, L, S, N = 4, 2, 3, 5, 2


def gaussian(theta, log_sigma2=-1.0):
    return WeightNormal(theta.detach(), log_sigma2=torch.as_tensor(log_sigma2, dtype=theta.dtype))


def put(net, name, value):
    """The network with ``value`` in the place of a parameter, as a lifted model has it."""
    path, _, attribute = name.rpartition(".")
    owner = net.get_submodule(path)
    del owner._parameters[attribute]
    owner.__dict__[attribute] = value


def noisy(net, names, posterior=gaussian, **options):
    """A copy of the network in which these parameters are noisy weights."""
    net = copy.deepcopy(net)
    for name in names:
        q = posterior(net.get_parameter(name))
        with local_reparam(**options):
            put(net, name, pyro.sample(name, q.to_event(len(q.batch_shape))))
    return net


def attention(**options):
    """Attention without the zeros that its biases start at."""
    net = nn.MultiheadAttention(E, HEADS, **options)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def weights_of(net):
    """Every parameter that may be random: all but the extra key and value, which are no linear operation."""
    return [name for name, _ in net.named_parameters() if name not in ("bias_k", "bias_v")]


@pytest.fixture
def noise_of(monkeypatch):
    """noise_of(value): all standard normal noise takes this value."""
    return lambda value: monkeypatch.setattr(gaussian_rules, "_noise_like", lambda t: torch.full_like(t, value))


MODULES = {
    "self": ({}, "self"),
    "self, batch first": ({"batch_first": True}, "self"),
    "self, unbatched": ({}, "unbatched"),
    "self, no bias": ({"bias": False, "batch_first": True}, "self"),
    "self, zero attention": ({"add_zero_attn": True}, "self"),
    "self, dropout": ({"dropout": 0.4}, "self"),
    "key is value": ({"batch_first": True}, "key is value"),
    "three inputs": ({}, "three"),
    "three inputs, bias_kv": ({"add_bias_kv": True}, "three"),
    "kdim, vdim": ({"kdim": 3, "vdim": 6, "batch_first": True, "add_bias_kv": True, "add_zero_attn": True}, "kdim"),
    "kdim, vdim, no bias": ({"kdim": 3, "vdim": 6, "bias": False}, "kdim"),
}
MASKS = {
    "none": lambda q, s: {},
    "causal": lambda q, s: {"attn_mask": torch.ones(q, s).triu(1).bool(), "is_causal": True},
    "additive": lambda q, s: {"attn_mask": torch.randn(q, s)},
    "per head": lambda q, s: {"attn_mask": torch.randn(N * HEADS, q, s)},
    "padding": lambda q, s: {"key_padding_mask": torch.arange(s).expand(N, s) > torch.tensor([[1], [s]])},
    "both": lambda q, s: {"attn_mask": torch.randn(q, s), "key_padding_mask": torch.randn(N, s)},
}
WANTED = {
    "no weights": {"need_weights": False},
    "weights": {"need_weights": True},
    "weights per head": {"need_weights": True, "average_attn_weights": False},
}


def inputs(kind, batch_first, kdim=E, vdim=E):
    def sequence(length, width):
        return torch.randn(*((N, length) if batch_first else (length, N)), width)

    query, key = sequence(L, E), sequence(S, kdim)
    if kind == "self":
        return query, query, query
    if kind == "unbatched":
        return (torch.randn(L, E),) * 3
    return query, key, key if kind == "key is value" else sequence(S, vdim)


def run(net, *args, **kwargs):
    pyro.set_rng_seed(5)  # dropout is the same on both sides
    return net(*args, **kwargs)


# Mutants: chunks in another order, masks or options lost, a bias forgotten, projections of the wrong input, the fast
# path of eval mode taken or tripped over.
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("module", MODULES)
def test_without_noise_it_is_torchs_attention(module, mask, wanted, training, noise_of):
    noise_of(0.0)
    options, kind = MODULES[module]
    if kind == "unbatched" and mask in ("per head", "padding", "both"):
        pytest.skip("masks with a batch dimension")
    plain = attention(**options).train(training)
    args = inputs(kind, options.get("batch_first", False), options.get("kdim", E), options.get("vdim", E))
    call = MASKS[mask](L, L if kind in ("self", "unbatched") else S) | WANTED[wanted]
    expected, attended = run(plain, *args, **call)
    got, weights = run(noisy(plain, weights_of(plain)), *args, **call)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert (weights is None) == (attended is None)
    if attended is not None:
        torch.testing.assert_close(weights, attended, rtol=1e-10, atol=1e-10)


COMBINATIONS = (
    ("in_proj_weight",),
    ("in_proj_bias",),
    ("out_proj.weight",),
    ("out_proj.bias",),
    ("in_proj_weight", "in_proj_bias"),
    ("in_proj_bias", "out_proj.weight"),
    ("in_proj_weight", "out_proj.bias"),
    ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"),
)


# Mutants: a rule that wants one particular argument noisy; one that slices plain biases as noisy ones.
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["self", "key is value", "three"])
@pytest.mark.parametrize(
    "names", [*COMBINATIONS, ("q_proj_weight",), ("q_proj_weight", "v_proj_weight", "in_proj_bias")]
)
def test_noisy_and_plain_weights_mix(names, kind, training, noise_of):
    noise_of(0.0)
    separate = "q_proj_weight" in names
    plain = attention(kdim=3 if separate else None, batch_first=True).train(training)
    args = inputs("three" if separate else kind, True, kdim=3 if separate else E)
    net = noisy(plain, names)
    torch.testing.assert_close(net(*args)[0], plain(*args)[0], rtol=1e-10, atol=1e-10)
    noise_of(1.0)
    assert not torch.isclose(net(*args)[0], plain(*args)[0]).all()


# Mutants: the variance of another piece, pieces that keep a threshold that is already applied, one draw per piece.
@pytest.mark.parametrize(
    "cut",
    [
        lambda w: w.chunk(3),
        lambda w: torch.chunk(input=w, chunks=3),
        lambda w: w.split(2),
        lambda w: torch.split(w, [2, 2, 2]),
        lambda w: w.split([2, 2, 2]),
    ],
)
def test_pieces_of_a_noisy_weight_are_noisy_weights(cut):
    q = WeightNormal(torch.randn(6, 3), log_sigma2=torch.randn(6, 3))
    kept = torch.where(q.log_alpha < 0.5, q.theta, 0.0)
    whole = NoisyWeight("w", q, threshold=0.5, fallback="sample")
    for i, piece in enumerate(cut(whole)):
        rows = slice(2 * i, 2 * i + 2)
        assert (piece.site, tuple(piece.shape)) == ("w", (2, 3))
        torch.testing.assert_close(gaussian_rules._mean(piece), kept[rows])
        torch.testing.assert_close(piece.q.variance, q.variance[rows])
        assert torch.equal(torch.relu(piece), whole.draw()[rows].relu())


def attended(plain, x):
    """(values of every head side by side before the out-projection, attention weights per head) of self-attention."""
    identity = copy.deepcopy(plain)
    with torch.no_grad():
        identity.out_proj.weight.copy_(torch.eye(E))
        identity.out_proj.bias.zero_()
        return identity(x, x, x, average_attn_weights=False)


# Mutants: the in-projection's noise in the out-projection's place, sigma for sigma^2, the input not squared.
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_moments_of_a_random_out_projection(need_weights, training, noise_of):
    plain, x = attention(batch_first=True).train(training), torch.randn(N, L, E)
    log_sigma2 = torch.randn(E, E)
    net = noisy(plain, ["out_proj.weight"], lambda theta: gaussian(theta, log_sigma2))
    noise_of(0.0)
    mean = net(x, x, x, need_weights=need_weights)[0]
    noise_of(1.0)
    deviation = net(x, x, x, need_weights=need_weights)[0] - mean
    values, _ = attended(plain, x)
    torch.testing.assert_close(mean, plain(x, x, x)[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(deviation.square(), F.linear(values.square(), log_sigma2.exp()), rtol=1e-8, atol=1e-10)


# Mutants: noise of the values shared by positions or examples, attention weights not squared, rows of q or k noisy.
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_moments_of_a_random_value_projection(packed, need_weights, monkeypatch):
    """Given the attention a, outputs are jointly Gaussian: Cov(y_l, y_m) = W_o diag(sum_j a_lj a_mj Var v_j) W_o^T."""
    m, x, log_sigma2 = 40_000, torch.randn(L, E), torch.randn(E, E)
    plain = attention(batch_first=True)
    if packed:
        monkeypatch.setattr(gaussian_rules, "VARIANCE_FLOOR", 0.0)  # queries and keys without any noise
        rates = torch.cat((torch.full((2 * E, E), -torch.inf), log_sigma2))
        net = noisy(plain, ["in_proj_weight"], lambda theta: gaussian(theta, rates))
    else:
        separate = attention(kdim=E, vdim=E, batch_first=True)
        separate._qkv_same_embed_dim = False
        separate.load_state_dict(plain.state_dict())
        for name, part in zip(("q", "k", "v"), plain.in_proj_weight.chunk(3), strict=True):
            setattr(separate, f"{name}_proj_weight", nn.Parameter(part.detach()))
        net = noisy(separate, ["v_proj_weight"], lambda theta: gaussian(theta, log_sigma2))
    many = x.expand(m, L, E)
    with torch.no_grad():
        noise = (net(many, many, many, need_weights=need_weights)[0] - plain(*[x[None]] * 3)[0]).flatten(1)
        a = attended(plain, x[None])[1][0].repeat_interleave(E // HEADS, 0)  # (channel, L, L)
        variances = x.square() @ log_sigma2.exp().T  # (position, channel)
        of_values = torch.einsum("clj,cmj,jc->lmc", a, a, variances)
        out = plain.out_proj.weight
        covariance = torch.einsum("lmc,oc,pc->lomp", of_values, out, out).reshape(L * E, L * E)
    assert z_of_mean(noise, 0.0).abs().max() < Z_BOUND
    spread = torch.outer(covariance.diag(), covariance.diag()) + covariance.square()
    z = (noise.T @ noise / m - covariance) / (spread / m).sqrt()
    assert z.abs().max() < Z_BOUND


# Mutant: gradients cut on the way.
@pytest.mark.parametrize("kind", ["self", "key is value", "three"])
def test_every_random_parameter_gets_gradients(kind):
    plain = attention()
    rates = {name: torch.full_like(p, -1.0).requires_grad_() for name, p in plain.named_parameters()}
    thetas = {name: p.detach().clone().requires_grad_() for name, p in plain.named_parameters()}
    net = copy.deepcopy(plain)
    for name in rates:
        put(net, name, NoisyWeight(name, WeightNormal(thetas[name], log_sigma2=rates[name])))
    net(*inputs(kind, False))[0].square().sum().backward()
    for parameters in (rates, thetas):
        for name, parameter in parameters.items():
            assert parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).sum() >= 0.6 * parameter.numel(), name  # a key bias drops out of the softmax


def input_noise(theta):
    units = theta.shape[1]
    return InputNoise(theta.detach(), WeightNormal(torch.ones(units), log_sigma2=torch.zeros(units)))


# Mutants: attention registered for every posterior; a fallback instead of a refusal.
@pytest.mark.parametrize("training", [True, False])
def test_what_has_no_rule_is_refused_by_name(training):
    plain, x = attention(add_bias_kv=True).train(training), torch.randn(L, N, E)
    for name in ("out_proj.weight", "in_proj_weight"):
        with pytest.raises(NoLocalRule, match=rf"'{name}' \(InputNoise\).*multi_head_attention_forward"):
            noisy(plain, [name], input_noise)(x, x, x)
    with pytest.raises(NoLocalRule, match=r"'out_proj\.weight' \(InputNoise\)"):
        noisy(noisy(plain, ["in_proj_weight"]), ["out_proj.weight"], input_noise)(x, x, x)
    for name in ("bias_k", "bias_v"):
        with pytest.raises(NoLocalRule, match=rf"'{name}'.*repeat"):
            noisy(plain, [name])(x, x, x)


# Mutant: the weight draw of a fallback in place of the rule.
def test_fallback_sample_serves_input_noise_and_leaves_gaussians_their_rule():
    plain, x = attention(), torch.randn(L, 1, E).expand(L, N, E)
    shared = noisy(plain, ["out_proj.weight"], input_noise, fallback="sample")(x, x, x)[0]
    torch.testing.assert_close(shared[:, 0], shared[:, 1])
    own = noisy(plain, ["out_proj.weight"], fallback="sample")(x, x, x)[0]
    assert not torch.isclose(own[:, 0], own[:, 1]).any()


# Mutant: PyTorch's function or its names changed for everybody.
def test_nothing_of_pytorchs_is_changed():
    before = dict(vars(F)), F.multi_head_attention_forward.__code__
    plain, x = attention(), torch.randn(L, N, E)
    noisy(plain, ["in_proj_weight", "out_proj.weight"])(x, x, x)
    assert (dict(vars(F)), F.multi_head_attention_forward.__code__) == before
    assert F.has_torch_function((NoisyWeight("w", gaussian(torch.ones(2, 2))),))


class Encoder(nn.Module):
    def __init__(self, layers=1, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(E, HEADS, 6, dropout=0.0, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, layers) if layers > 1 else layer
        self.head = nn.Linear(E, 3)
        for parameter in self.parameters():  # away from exact zeros, which are masked means
            nn.init.normal_(parameter)

    def forward(self, x):
        options = (
            {"src_key_padding_mask": torch.arange(L).expand(len(x), L) > 1} if hasattr(self.encoder, "layers") else {}
        )
        return self.head(self.encoder(x, **options).mean(1))


ALL_WEIGHTS = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "linear1.weight", "linear2.weight", "head.weight")


def lifted(layers=1, everything=False, **options):
    net = Encoder(layers, **options)
    select = [name for name, _ in net.named_parameters() if name.endswith(ALL_WEIGHTS)] if everything else None
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, 8, select)
    return net, model, guides.sparse.Guide(model), torch.randn(8, L, E), torch.randint(3, (8,))


# Mutants: the fast paths of encoder and layer taken with a weight that they cannot read.
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_encoder_in_train_and_eval_mode(layers, everything, training, grad, noise_of):
    noise_of(0.0)
    net, model, guide, x, _ = lifted(layers, everything)
    model.train(training)
    expected = net.train(training)(x)
    with torch.set_grad_enabled(grad), local_reparam():
        trace = pyro.poutine.trace(guide).get_trace(x)
        got = pyro.poutine.replay(model, trace)(x)
    assert all(isinstance(trace.nodes[site]["value"], NoisyWeight) for site in guide.sites)
    assert any("out_proj.weight" in site for site in guide.sites)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("everything", [True, False])
def test_fit_trains_an_encoder(everything):
    torch.set_default_dtype(torch.float32)
    _, model, guide, x, y = lifted(everything=everything)
    before = {name: parameter.detach().clone() for name, parameter in guide.named_parameters()}
    posterior = pyro_vd.fit(model, guide, (x, y), epochs=1, batch_size=4, progress=False, engine="eager")
    assert posterior.predict(x, num_samples=2).isfinite().all()
    for name, parameter in guide.named_parameters():
        assert not torch.equal(parameter, before[name]), name


# Mutant: what export cannot trace, or bakes in.
def test_export_leaves_a_graph_that_draws_as_eager_does():
    _, model, guide, x, y = lifted(everything=True)
    eager, beta = Objective(model, guide), torch.ones(())
    traced = trace_objective(eager, x, y)
    losses = []
    for objective in (eager, traced):
        pyro.set_rng_seed(3)
        with pyro.validation_enabled(False):
            losses.append(objective(x, y, beta)[0])
    torch.testing.assert_close(*losses)
