"""flipout: each example meets a weight draw of its own, and the draws of two examples are uncorrelated."""

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pyro_vd
from pyro_vd import guides
from pyro_vd.handlers import NoisyWeight, NoLocalRule, flipout, local_reparam, register_local
from pyro_vd.handlers.flipout import FlippedWeight, flipped_output
from pyro_vd.posteriors import GroupScale, InputNoise, WeightNormal
from tests.reference.z_test import z_of_mean

pytestmark = pytest.mark.usefixtures("double", "one_thread")

Z_BOUND = 5.5  # false failure below 1e-4 over a thousand components, and never once a seed has passed


@pytest.fixture
def one_thread():
    """On busy cores a second thread costs a tiny convolution a thousand times what it takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


OPS = {
    "linear": (F.linear, (3, 4), (5, 4), 5, {}),
    "linear over a sequence": (F.linear, (3, 2, 4), (5, 4), 5, {}),
    "conv1d": (F.conv1d, (3, 2, 7), (4, 2, 3), 4, {"padding": "same"}),
    "conv1d groups": (F.conv1d, (3, 4, 9), (6, 2, 3), 6, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    "conv2d": (F.conv2d, (3, 2, 6, 5), (4, 2, 3, 2), 4, {"stride": (2, 1), "padding": 1}),
    "conv2d depthwise": (F.conv2d, (3, 3, 5, 5), (3, 1, 3, 3), 3, {"groups": 3}),
    "conv3d": (F.conv3d, (3, 2, 4, 4, 3), (4, 2, 2, 3, 2), 4, {"padding": 1}),
    "conv_transpose1d": (F.conv_transpose1d, (3, 4, 5), (4, 3, 3), 6, {"stride": 3, "groups": 2, "output_padding": 1}),
    "conv_transpose2d": (F.conv_transpose2d, (3, 2, 3, 4), (2, 4, 3, 2), 4, {"stride": 2, "padding": 1}),
    "conv_transpose3d": (F.conv_transpose3d, (3, 2, 2, 3, 2), (2, 4, 2, 2, 2), 4, {"dilation": (1, 2, 1)}),
}
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def gaussian(*shape, kind="log_sigma2"):
    """A posterior with means of order 1 and variances over two orders of magnitude."""
    theta, log_sigma2 = torch.randn(shape), torch.empty(shape).uniform_(-3.0, 1.0)
    return (
        dist.Normal(theta, (0.5 * log_sigma2).exp()) if kind == "normal" else WeightNormal(theta, **{kind: log_sigma2})
    )


def noisy(q, site="w", handler=flipout, **options):
    """What a network gets in the place of a weight inside the handler."""
    with handler(**options):
        return pyro.sample(site, q.to_event(len(q.batch_shape)))


def weights_met(op, w, examples, groups):
    """The weight that each example is said to meet: theta + r s^T * Delta, group by group."""
    theta, delta = w.q.mean, w.draw() - w.q.mean
    first, second = w.shape[:2]
    inputs, outputs = (first, second * groups) if op in TRANSPOSED else (second * groups, first)
    s, r = w.flip(torch.ones(examples, inputs), "in", 2), w.flip(torch.ones(examples, outputs), "out", 2)
    for s_n, r_n in zip(s.reshape(examples, groups, -1), r.reshape(examples, groups, -1), strict=True):
        of_group = [torch.outer(*((a, b) if op in TRANSPOSED else (b, a))) for a, b in zip(s_n, r_n, strict=True)]
        signs = torch.cat(of_group)
        yield theta + delta * signs.reshape(*signs.shape, *[1] * (theta.ndim - 2)), r_n.reshape(-1)


# Mutants: signs per position, signs shared by the examples, one side without signs, signs on the mean, an option
# dropped on one path, a bias on both paths, a new draw per operation.
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha", "normal"])
@pytest.mark.parametrize("bias_kind", ["absent", "deterministic", "random"])
@pytest.mark.parametrize("name", OPS)
def test_each_example_meets_one_weight_at_all_positions(name, bias_kind, kind):
    op, x_shape, w_shape, out, options = OPS[name]
    x, w = torch.randn(x_shape), noisy(gaussian(*w_shape, kind=kind))
    b = {"absent": None, "deterministic": torch.randn(out), "random": noisy(gaussian(out, kind=kind), "b")}[bias_kind]
    got = op(x, w, b, **options)
    torch.testing.assert_close(op(input=x, weight=w, bias=b, **options), got)
    for n, (weight, r) in enumerate(weights_met(op, w, len(x), options.get("groups", 1))):
        assert torch.allclose((weight - w.q.mean).abs(), (w.draw() - w.q.mean).abs())
        shift = b.q.mean + r * b.deviation() if bias_kind == "random" else b
        torch.testing.assert_close(got[n : n + 1], op(x[n : n + 1], weight, shift, **options), rtol=1e-10, atol=1e-10)


# Mutants: a batch dimension taken for granted, units looked for in the wrong place.
@pytest.mark.parametrize("name", [name for name in OPS if "sequence" not in name])
def test_a_single_example_without_a_batch_dimension(name):
    op, x_shape, w_shape, out, options = OPS[name]
    x, w, b = torch.randn(x_shape[1:]), noisy(gaussian(*w_shape)), noisy(gaussian(out), "b")
    torch.testing.assert_close(op(x, w, b, **options), op(x[None], w, b, **options)[0])


# Mutants: noise in the weight's place where only the bias is random, a bias shared by the examples.
@pytest.mark.parametrize("op", [F.linear, F.conv1d])
def test_only_the_bias_is_random(op):
    x, weight = (
        (torch.randn(50, 3, 4), torch.randn(5, 4)) if op is F.linear else (torch.randn(50, 4, 6), torch.randn(5, 4, 3))
    )
    b = noisy(gaussian(5))
    noise = op(x, weight, b) - op(x, weight, b.q.mean)
    noise = noise if op is F.linear else noise.mT
    torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(noise.abs(), b.deviation().abs().expand_as(noise), rtol=1e-10, atol=1e-10)
    assert (noise[:, 0].sign().mean(0).abs() < 1).all()


# Mutants: bits for signs, signs of one sign, one array of signs for both sides, signs by example only.
def test_signs_are_fair_and_independent():
    m = 40_000
    w = noisy(gaussian(3, 3))
    signs = torch.cat([w.flip(torch.ones(m, 3), side, 2) for side in ("in", "out")], 1)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert z_of_mean(signs, 0.0).abs().max() < Z_BOUND
    products = signs[:, :, None] * signs[:, None, :]
    assert z_of_mean(products[:, *torch.triu_indices(6, 6, 1)], 0.0).abs().max() < Z_BOUND
    assert z_of_mean(signs[1:] * signs[:-1], 0.0).abs().max() < Z_BOUND  # neighbors in the batch


def draws(program, m):
    """(m, ...) independent runs of a program."""
    return torch.vmap(lambda _: program(), randomness="different")(torch.empty(m))


def exact_covariance(op, q):
    """Covariance of the flattened op(weight), linear in it, from its action on every basis vector."""
    basis = torch.eye(q.mean.numel()).reshape(-1, *q.mean.shape)
    columns = torch.stack([op(e).flatten() for e in basis])
    return columns.T @ (q.variance.reshape(-1, 1) * columns)


def z_of_covariance(samples, covariance):
    """z-scores of E[a b] for centered, jointly Gaussian (m, k) samples: ab has variance S_aa S_bb + S_ab^2."""
    estimate = samples.T @ samples / len(samples)
    variance = torch.outer(covariance.diag(), covariance.diag()) + covariance.square()
    return (estimate - covariance) / (variance / len(samples)).sqrt()


JOINT = {
    "linear over a sequence": (F.linear, (3, 2), (2, 2), {}),
    "conv2d": (F.conv2d, (2, 4, 3), (2, 2, 3, 2), {"stride": (2, 1), "padding": 1}),
}
every_joint = pytest.mark.parametrize("case", JOINT)


# Mutants: any that the exact tests share with the rule; independent noise per position.
@every_joint
def test_outputs_of_an_example_have_the_covariance_of_weight_sampling_and_those_of_two_have_none(case):
    op, x_shape, w_shape, options = JOINT[case]
    x, q, m = torch.randn(x_shape), gaussian(*w_shape), 20_000
    mean, covariance = op(x[None], q.mean, **options)[0], exact_covariance(lambda w: op(x[None], w, **options), q)
    twins = torch.stack((x, x))
    flipped = (draws(lambda: op(twins, noisy(q), **options), m) - mean).flatten(2)
    for example in range(2):
        assert z_of_mean(flipped[:, example], 0.0).abs().max() < Z_BOUND
        assert z_of_covariance(flipped[:, example], covariance).abs().max() < Z_BOUND
    assert z_of_mean(flipped[:, 0, :, None] * flipped[:, 1, None, :], 0.0).abs().max() < Z_BOUND
    # The premise: twins of weight sampling move together.
    sampled = (draws(lambda: op(twins, q.rsample(), **options), 100) - mean).flatten(2)
    assert torch.allclose(sampled[:, 0], sampled[:, 1])


def test_local_reparam_drops_the_covariance_of_positions_and_flipout_keeps_it():
    """For one weight, Cov(y0, y1) is sigma^2 x0 x1 in weight space and here, and 0 under local_reparam."""
    x0, x1, sigma2, m = 1.5, -0.8, 0.49, 40_000
    q = WeightNormal(torch.full((1, 1), 0.3), log_sigma2=torch.full((1, 1), sigma2).log())
    x = torch.tensor([[[x0], [x1]]])
    for handler, covariance in ((local_reparam, 0.0), (flipout, sigma2 * x0 * x1)):
        y = draws(lambda handler=handler: F.linear(x, noisy(q, handler=handler)), m).reshape(m, 2) - 0.3 * x.flatten()
        assert abs(z_of_mean(y.prod(1), covariance)) < Z_BOUND


# Mutants: signs drawn anew for every use, so that the uses of a shared module lose their covariance.
def test_an_example_that_comes_again_meets_its_weight_again():
    x, w = torch.randn(5, 3, 4), noisy(gaussian(2, 4))
    at_once = F.linear(x, w)
    one_by_one = torch.stack([F.linear(step, w) for step in x.unbind(1)], 1)
    torch.testing.assert_close(one_by_one, at_once)


# Mutant: a draw or signs that outlive the sample statement.
def test_every_sample_statement_draws_anew():
    q, x = gaussian(3, 4), torch.randn(6, 4)
    first, second = noisy(q), noisy(q)
    assert not torch.isclose(first.draw(), second.draw()).any()
    assert not torch.equal(first.flip(x, "in", 2), second.flip(x, "in", 2))


# Mutants: a detached deviation, signs on the mean, the gradient of local_reparam (sum of squares for square of sums).
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha"])
def test_gradient_is_unbiased_where_positions_meet(kind):
    """Loss 1/2 sum_n (t_n - sum_i y_ni)^2 over sequences: its expectation has the covariances of positions in it."""
    x, t, m = 1 + torch.randn(16, 2, 3), torch.randn(16), 8_000
    theta, rate = torch.randn(1, 3), torch.full((1, 3), -1.0)

    def exact(theta, rate):
        variance = rate.exp() if kind == "log_sigma2" else rate.exp() * theta.square()
        total = x.sum(1)
        return 0.5 * ((t - total @ theta[0]).square() + total.square() @ variance[0]).sum()

    def loss(theta, rate, handler):
        q = WeightNormal(theta, **{kind: rate})
        w = q.rsample() if handler is None else noisy(q, handler=handler)
        return 0.5 * (t - F.linear(x, w).sum((1, 2))).square().sum()

    def gradients(handler):
        of_one = torch.func.grad(lambda theta, rate: loss(theta, rate, handler), (0, 1))
        return draws(lambda: torch.cat(of_one(theta, rate), 1)[0], m)

    expected = torch.cat(torch.func.grad(exact, (0, 1))(theta, rate), 1)[0]
    assert z_of_mean(gradients(flipout), expected).abs().max() < Z_BOUND
    assert z_of_mean(gradients(None), expected).abs().max() < Z_BOUND
    assert z_of_mean(gradients(local_reparam), expected).abs().max() > 2 * Z_BOUND  # it has another objective here


# Mutants: noise that two examples share, which a batch does not average out; a mean in the deviation's gradient.
def test_examples_add_to_the_gradients_variance_as_if_their_draws_were_independent():
    """d/dtheta of 1/2 sum_n (w x_n)^2 at 0 is the noise sum_n x_n (Delta_n x_n), with inputs mostly of one sign."""
    x, sigma2, m = 1 + torch.randn(16, 3), torch.tensor([0.2, 0.5, 1.0]), 20_000

    def loss(theta, handler):
        q = WeightNormal(theta, log_sigma2=sigma2.log())
        return 0.5 * F.linear(x, noisy(q, handler=handler) if handler else q.rsample()).square().sum()

    variances = {flipout: (x.square().T @ x.square()) @ sigma2, None: (x.T @ x).square() @ sigma2}
    for handler, variance in variances.items():
        of_one = torch.func.grad(lambda theta, handler=handler: loss(theta, handler))
        gradient = draws(lambda of_one=of_one: of_one(torch.zeros(1, 3))[0], m)
        assert z_of_mean(gradient, 0.0).abs().max() < Z_BOUND
        assert z_of_mean(gradient.square(), variance).abs().max() < Z_BOUND
    assert (variances[flipout] < variances[None]).all()


NO_RULE = {
    "torch.relu": (lambda w: torch.relu(w), "relu"),
    "method": (lambda w: w.exp(), "exp"),
    "x @ W.T": (lambda w: torch.ones(2, 4) @ w.T, r"Tensor\.t"),
    "W * mask": (lambda w: w * torch.ones(4, 4), "mul"),
    "embedding": (lambda w: F.embedding(torch.tensor([0]), w), "embedding"),
    "chunk": (lambda w: w.chunk(2), "chunk"),
    "input of a layer": (lambda w: F.linear(w, torch.ones(4, 4)), "linear"),
    "as a scale": (lambda w: F.linear(torch.ones(2, 4), torch.ones(4, 4) / w), "div"),
}


@pytest.mark.parametrize("name", NO_RULE)
def test_no_rule_is_refused_by_site_and_operation(name):
    program, op = NO_RULE[name]
    with pytest.raises(NoLocalRule, match=rf"flipout: weight 'fc1\.weight'.*{op}"):
        program(noisy(gaussian(4, 4), "fc1.weight"))


# Mutant: rules found by posterior and operation alone, so that local_reparam's serve here.
def test_weights_of_two_handlers_do_not_mix():
    w, b = noisy(gaussian(2, 2)), noisy(gaussian(2), "b", local_reparam)
    for weight, bias in ((w, b), (noisy(gaussian(2, 2), "w", local_reparam), noisy(gaussian(2), "b"))):
        with pytest.raises(NoLocalRule, match="weight 'b'"):
            F.linear(torch.ones(3, 2), weight, bias)


def test_attention_and_types_without_rules_are_refused_by_name():
    net = nn.MultiheadAttention(4, 2)
    del net.out_proj._parameters["weight"]
    net.out_proj.weight = noisy(gaussian(4, 4), "out_proj.weight")
    with pytest.raises(NoLocalRule, match=r"'out_proj\.weight'.*multi_head_attention_forward"):
        net(*[torch.randn(3, 2, 4)] * 3)
    scale = GroupScale(gaussian(2, 3), WeightNormal(torch.ones(3), log_sigma2=torch.zeros(3)))
    for q in (dist.LogNormal(torch.zeros(2, 3), 1.0), scale):
        with pytest.raises(NoLocalRule, match=rf"flipout: weight 'w' \({type(q).__name__}\)"):
            F.linear(torch.ones(4, 3), noisy(q))


# Mutant: input noise shared by the batch.
def test_input_noise_has_its_own_exact_rule():
    q, x = InputNoise(torch.randn(2, 3), WeightNormal(torch.ones(3), log_sigma2=torch.zeros(3))), torch.randn(5, 4, 3)
    outputs = []
    for handler in (flipout, local_reparam):
        pyro.set_rng_seed(1)
        outputs.append(F.linear(x, noisy(q, handler=handler)))
    assert torch.equal(*outputs)


# Mutant: a fallback draw that is not the draw of the rule.
def test_fallback_sample_gives_the_draw_that_the_examples_flip():
    w = noisy(gaussian(2, 4), fallback="sample")
    assert torch.equal(torch.relu(w), torch.relu(w.draw()))
    assert torch.equal(torch.ones(3, 4) @ w.T, torch.ones(3, 4) @ w.draw().T)
    (one,) = weights_met(F.linear, w, 1, 1)
    torch.testing.assert_close((one[0] - w.q.mean).abs(), (w.draw() - w.q.mean).abs())


@pytest.mark.parametrize("fallback", ["Sample", None, "", True])
def test_bad_fallback(fallback):
    with pytest.raises(ValueError, match=r"flipout\(fallback="):
        flipout(fallback=fallback)


# Mutants: observed sites, point masses or other latent variables caught; the outer handler overwriting the inner.
def test_only_noisy_weights_are_caught_and_the_inner_handler_decides():
    with flipout():
        assert torch.is_tensor(pyro.sample("d", dist.Delta(torch.ones(2, 2))))
        assert torch.is_tensor(pyro.sample("p", dist.Gamma(1.0, 1.0)))
        assert torch.is_tensor(pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0)))
        with local_reparam():
            assert type(pyro.sample("w", gaussian(2, 2).to_event(2))) is NoisyWeight
        assert type(pyro.sample("w", gaussian(2, 2).to_event(2))) is FlippedWeight
        with pyro.plate("data", 10, subsample_size=3) as index:
            assert torch.is_tensor(index)


# Mutant: a rule that knows more of its posterior than mean and draw.
def test_another_symmetric_posterior_may_use_the_rule():
    q = dist.Laplace(torch.randn(2, 3), torch.ones(2, 3))
    with pytest.raises(NoLocalRule, match="Laplace"):
        F.linear(torch.ones(4, 3), noisy(q))

    class Symmetric(dist.Laplace):
        pass

    register_local((Symmetric,), F.linear, handler="flipout")(flipped_output)
    w = noisy(Symmetric(q.loc, q.scale))
    for weight, _ in weights_met(F.linear, w, 4, 1):
        torch.testing.assert_close((weight - q.mean).abs(), (w.draw() - q.mean).abs())
    assert F.linear(torch.ones(4, 3), w).shape == (4, 2)


def small_pair():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, 6, lambda *_: True)
    return model, guides.sparse.Guide(model), torch.randn(6, 1, 4, 4), torch.randint(3, (6,))


# Mutants: weights sampled more than once, a rule without gradients.
def test_stock_svi_steps_under_flipout(monkeypatch):
    """Biases are random too: every selected parameter of a convolution and of a linear layer."""
    model, guide, x, y = small_pair()
    before = {name: parameter.detach().clone() for name, parameter in guide.named_parameters()}
    drawn, rsample = [], WeightNormal.rsample
    monkeypatch.setattr(WeightNormal, "rsample", lambda self, *args: drawn.append(1) or rsample(self, *args))
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro_vd.AnalyticELBO())
    with flipout():
        loss = svi.step(x, y)
    assert torch.tensor(loss).isfinite()
    assert len(drawn) == len(guide.sites) == 4
    for name, parameter in guide.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[name]), name


class Loss(nn.Module):
    """The negative ELBO of a pair under flipout."""

    def __init__(self, model, guide):
        super().__init__()
        self.model, self.guide = model, guide

    def forward(self, x, y):
        with flipout():
            return pyro_vd.AnalyticELBO().differentiable_loss(self.model, self.guide, x, y)


# Mutants: a draw or signs baked into the graph as constants.
def test_export_leaves_a_graph_that_draws_as_eager_does():
    model, guide, x, y = small_pair()
    eager = Loss(model, guide)
    with pyro.validation_enabled(False):
        traced = torch.export.export(eager, (x, y), strict=False).module()
        losses = {}
        for name, module in (("eager", eager), ("traced", traced)):
            pyro.set_rng_seed(3)
            losses[name] = module(x, y)
        torch.testing.assert_close(losses["traced"], losses["eager"])
        assert traced(x, y) != traced(x, y)
        traced(x, y).backward()
    assert all(parameter.grad.isfinite().all() for parameter in traced.parameters())
