"""What would train silently wrong is found before the first step: unowned parameters, unreached weights."""

import pickle
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint as recompute

import pyro_vd
from pyro_vd import Categorical, Gaussian, LogUniform, guides
from pyro_vd.elbo import AnalyticELBO
from pyro_vd.errors import UserError
from pyro_vd.handlers import NoLocalRule

N = 40


def pair(net=None, likelihood=Categorical, select=None, scheme="sparse"):
    net = net or nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = pyro_vd.lift(net, guides.SCHEMES[scheme].prior, likelihood, num_data=N, select=select)
    return model, guides.SCHEMES[scheme].Guide(model)


def classes(*shape):
    return torch.randn(N, *shape or (3,)), torch.arange(N) % 2


def fit(net=None, likelihood=Categorical, data=None, select=None, **options):
    return pyro_vd.fit(*pair(net, likelihood, select), data or classes(), epochs=1, progress=False, **options)


# --- parameters that no module owns

FREE = nn.Parameter(torch.zeros(()))


class ByParam(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x):
        return self.fc(x) * pyro.param("gain", torch.ones(()))


class Hidden(nn.Module):
    """A parameter in a list, which PyTorch does not register."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)
        self.hidden = [nn.Parameter(torch.ones(1))]

    def forward(self, x):
        return self.fc(x) * self.hidden[0]


def learned_scale(mean):
    return dist.Normal(mean, pyro.param("sigma", torch.ones(()), constraint=dist.constraints.positive))


def closed_over(mean):
    return dist.Normal(mean, FREE.exp())


UNOWNED = {
    "pyro.param in the likelihood": (lambda: nn.Linear(3, 1), learned_scale, "pyro.param.*'sigma'"),
    "pyro.param in the network": (ByParam, Gaussian(0.1), "pyro.param.*'gain'"),
    "a parameter in a closure": (lambda: nn.Linear(3, 1), closed_over, r"'FREE' of shape \(\)"),
    "a parameter in a list": (Hidden, Gaussian(0.1), r"a tensor of shape \(1,\)"),
}
REGRESSION = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)).split([3, 1], 1)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("case", UNOWNED)
def test_fit_refuses_parameters_that_no_module_owns(case, engine):
    make, likelihood, named = UNOWNED[case]
    with pytest.raises(UserError, match=rf"{named}.*nn\.Module"):
        fit(make(), likelihood, REGRESSION, engine=engine)


@pytest.mark.parametrize("case", UNOWNED)
def test_the_loss_as_a_module_refuses_parameters_that_are_not_its_own(case):
    make, likelihood, named = UNOWNED[case]
    loss = AnalyticELBO()(*pair(make(), likelihood))
    with pytest.raises(UserError, match=named):
        loss(*REGRESSION)


@pytest.mark.parametrize("case", ["a parameter in a closure", "a parameter in a list"])
def test_stock_svi_refuses_what_it_would_not_step(case):
    make, likelihood, named = UNOWNED[case]
    svi = pyro.infer.SVI(*pair(make(), likelihood), pyro.optim.Adam({"lr": 1e-3}), loss=AnalyticELBO())
    with pytest.raises(UserError, match=named):
        svi.step(*REGRESSION)


def test_what_the_inputs_are_computed_from_is_the_callers_to_train():
    model, guide = pair()
    encoder, (x, y) = nn.Linear(3, 3), classes()
    AnalyticELBO()(model, guide)(encoder(x), y).backward()
    assert encoder.weight.grad.abs().max() > 0
    AnalyticELBO()(model, guide)(x.clone().requires_grad_(), y)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=AnalyticELBO())
    svi.step(x.clone().requires_grad_(), y)


def test_a_guide_inside_a_handler_is_no_module():
    """Its parameters are not found: means stayed where they were, without a word."""
    model, guide = pair()
    with pytest.raises(UserError, match=r"the guide is a .*; give the guide itself .*local_reparam\(\): loss\(x, y\)"):
        AnalyticELBO()(model, pyro_vd.local_reparam()(guide))
    loss = AnalyticELBO()(model, guide)
    with pyro_vd.local_reparam():
        loss(*classes()).backward()
    assert guide.theta["0.weight"].grad.abs().max() > 0


def test_stock_svi_trains_what_pyro_param_saw():
    svi = pyro.infer.SVI(*pair(ByParam(), learned_scale), pyro.optim.Adam({"lr": 1e-2}), loss=AnalyticELBO())
    svi.step(*REGRESSION)
    store = pyro.get_param_store()
    assert store["sigma"].item() != 1.0
    assert store["gain"].item() != 1.0


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, mean):
        return dist.Normal(mean, self.log_scale.exp())


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_likelihood_that_is_a_module_learns_its_parameters(engine):
    """The repair that the messages name: a standard deviation of 0.2 is found."""
    torch.manual_seed(0)
    x = torch.randn(N, 3)
    y = x @ torch.tensor([[1.0], [-1.0], [0.5]]) + 0.2 * torch.randn(N, 1)
    model, guide = pair(nn.Linear(3, 1), Noise())
    posterior = pyro_vd.fit(
        model, guide, (x, y), epochs=400, batch_size=N, lr=0.02, seed=0, engine=engine, progress=False
    )
    assert posterior.model.likelihood.log_scale.exp().item() == pytest.approx(0.2, rel=0.3)


# --- priors

PRIORS = {
    "pyro.sample": (lambda name, p: dist.Normal(0.0, pyro.sample("tau", dist.Gamma(1.0, 1.0))).expand(p.shape), "tau"),
    "pyro.param": (lambda name, p: dist.Normal(0.0, pyro.param("scale", torch.ones(()))).expand(p.shape), "scale"),
    "a parameter": (lambda name, p: dist.Normal(0.0, FREE.exp()).expand(p.shape), "requires a gradient"),
    "an instance with a parameter": (dist.Normal(0.0, nn.Parameter(torch.ones(()))), "requires a gradient"),
}


@pytest.mark.parametrize("case", PRIORS)
def test_a_prior_that_is_random_or_learned_is_refused(case):
    prior, named = PRIORS[case]
    with pytest.raises(TypeError, match=rf"(?s){named}.*EmpiricalBayes"):
        pyro_vd.lift(nn.Linear(3, 2), prior, Categorical, num_data=N)


def test_a_prior_around_the_networks_own_weights_is_fixed():
    net = nn.Linear(3, 2)
    model = pyro_vd.lift(net, lambda name, weight: dist.Normal(weight, 0.1), Categorical, num_data=N)
    for _ in range(2):  # "backward a second time", once
        pyro_vd.fit(model, guides.sparse.Guide(model), classes(), epochs=1, progress=False)
    assert net.weight.grad is None


# --- weights that nothing reaches


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x)


class AsksForATensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.own = nn.Linear(3, 2), nn.Linear(2, 2, bias=False)

    def forward(self, x):
        x = self.fc(x)
        return self.own(x) if isinstance(self.own.weight, torch.Tensor) else x


class OwnList(nn.Module):
    """Reads the weight from a list that still holds the one it had."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2, bias=False)
        self.weights = [self.fc.weight]

    def forward(self, x):
        return x @ self.weights[0].T


@pytest.mark.parametrize(("net", "site"), [(Auxiliary, "unused.weight"), (AsksForATensor, "own.weight")])
def test_a_weight_that_no_gradient_reaches_is_named(net, site):
    with pytest.warns(UserWarning, match=rf"no gradient of the likelihood reaches {site}: .*lift\(select=\.\.\.\)"):
        fit(net())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(net(), select=["fc.weight"])


def test_a_weight_that_is_read_from_another_place_is_refused():
    with pytest.raises(UserError, match=r"a tensor of shape \(2, 3\)"):
        fit(OwnList())


class WithoutGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    @torch.no_grad()
    def forward(self, x):
        return self.fc(x)


class Detached(WithoutGradient):
    def forward(self, x):
        return self.fc(x).detach()


@pytest.mark.parametrize("net", [WithoutGradient, Detached])
def test_a_forward_pass_without_gradients_is_refused(net):
    with pytest.raises(UserError, match=r"nothing can be learned.*torch\.no_grad\(\)"):
        fit(net())


class Recomputed(nn.Module):
    def __init__(self, use_reentrant):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.use_reentrant = use_reentrant

    def forward(self, x):
        x = x.requires_grad_() if self.use_reentrant else x
        return self.second(recompute(self.first, x, use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_around_other_layers_is_none_of_ours(use_reentrant):
    """A backbone that is recomputed, and a random head: the usual fine-tuning."""
    model, guide = pair(Recomputed(use_reentrant), select=["second.weight"])
    before = model.net.first.weight.detach().clone()
    pyro_vd.fit(model, guide, classes(), epochs=1, progress=False)
    assert not torch.equal(model.net.first.weight, before)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("estimator", ["local", "weights"])
def test_activation_checkpointing_is_refused_by_name(use_reentrant, estimator):
    with pytest.raises(UserError, match="activation checkpointing"):
        fit(Recomputed(use_reentrant), estimator=estimator)


class OwnParameters(nn.Module):
    """Asks for its own parameters: their dtype, and a penalty on them."""

    def __init__(self, penalized=False):
        super().__init__()
        self.fc = nn.Linear(3, 2, bias=False)
        self.penalized = penalized

    def forward(self, x):
        y = self.fc(x.to(next(self.parameters()).dtype))
        return y - sum(p.square().sum() for p in self.parameters()) if self.penalized else y


def test_a_network_that_looks_at_its_own_parameters_finds_the_random_ones():
    fit(OwnParameters())
    with pytest.raises(NoLocalRule, match="square"):
        fit(OwnParameters(penalized=True))
    posterior = fit(OwnParameters(penalized=True), estimator="weights")
    x = torch.zeros(1, 3)
    (weight,) = posterior.mean().parameters()
    torch.testing.assert_close(posterior.mean()(x), -weight.square().sum().expand(1, 2))
    assert posterior.predict(x, 3).unique().numel() > 1


# --- arguments


def test_recurrent_layers_are_told_fits_own_argument():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    with pytest.raises(NoLocalRule, match=r"estimator='weights'") as raised:
        fit(Net(), data=classes(5, 3), select=["rnn.weight_ih_l0"])
    assert "fallback" not in str(raised.value)


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (lambda model: pyro.infer.autoguide.AutoNormal(model), r"guide is AutoNormal.*pyro\.infer\.SVI"),
        (
            lambda model: guides.sparse,
            r"the module pyro_vd\.guides\.sparse; give pyro_vd\.guides\.sparse\.Guide\(model\)",
        ),
        (lambda model: guides.sparse.Guide, "guide is the class Guide, not an instance"),
        (lambda model: None, "guide is NoneType"),
    ],
)
def test_what_is_no_guide_of_a_scheme_is_refused(guide, message):
    model, _ = pair()
    with pytest.raises(UserError, match=message):
        pyro_vd.fit(model, guide(model), classes(), epochs=1, progress=False)


def test_what_is_no_lifted_model_is_refused():
    model, guide = pair()
    with pytest.raises(UserError, match=r"model is Linear; give the one that pyro_vd\.lift makes"):
        pyro_vd.fit(nn.Linear(3, 2), guide, classes(), epochs=1, progress=False)
    _, other = pair(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    with pytest.raises(UserError, match="the guide is of another model"):
        pyro_vd.fit(model, other, classes(), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (Gaussian, r"Gaussian\): this is a class"),
        (Noise, r"Noise\): this is a class"),
        (3, "likelihood must be a callable"),
    ],
)
def test_what_is_no_likelihood_is_refused(likelihood, message):
    with pytest.raises(TypeError, match=message):
        pyro_vd.lift(nn.Linear(3, 1), LogUniform, likelihood, num_data=N)


NUMBERS = {
    "negative rate": ({"lr": -1e-3}, "lr=-0.001"),
    "huge rate": ({"lr": 1e38}, "lr=1e[+]38"),
    "NaN rate": ({"lr": float("nan")}, "lr=nan"),
    "no number": ({"lr": "fast"}, "lr='fast' must be a number"),
    "scheduled rate": ({"lr_schedule": lambda epoch: float("inf")}, r"lr_schedule\(0\)=inf"),
    "scaled rate": ({"lr_scale": {"log_sigma2": -1.0}}, "log_sigma2"),
    "negative KL weight": ({"kl_schedule": lambda epoch: -0.1}, r"kl_schedule\(0\)=-0.1"),
    "NaN KL weight": ({"kl_schedule": lambda epoch: float("nan")}, r"kl_schedule\(0\)=nan"),
    "NaN threshold": ({"threshold": float("nan")}, "threshold=nan"),
    "half an epoch": ({"epochs": 1.5}, "epochs=1.5 must be a whole number"),
    "half a seed": ({"seed": 0.5}, "seed=0.5 must be a whole number"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_out_of_range_are_refused_before_a_step(case):
    options, message = NUMBERS[case]
    model, guide = pair()
    before = guide.theta["0.weight"].detach().clone()
    with pytest.raises(UserError, match=message):
        pyro_vd.fit(model, guide, classes(), **{"epochs": 1, "progress": False, **options})
    assert torch.equal(guide.theta["0.weight"], before)


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    posterior = fit(
        lr=np.float32(1e-3), seed=np.int64(3), batch_size=torch.tensor(20), threshold=np.float64(3.0),
        kl_schedule=lambda epoch: torch.tensor(0.5), on_epoch=lambda *_: {"a": np.float32(1.5), "b": torch.tensor(2)},
        checkpoint=tmp_path / "run",
    )  # fmt: skip
    assert posterior.seed == 3
    assert (posterior.history[0]["a"], posterior.history[0]["b"], posterior.history[0]["beta"]) == (1.5, 2.0, 0.5)


@pytest.mark.parametrize("found", [None, {}])
def test_on_epoch_need_not_return_anything(found):
    assert "loss" in fit(on_epoch=lambda *_: found).history[0]


@pytest.mark.parametrize(
    ("found", "message"),
    [("loss", "returned str"), (3.0, "returned float"), ({"a": "x"}, "{'a': 'str'}"), ({"a": torch.ones(2)}, "Tensor")],
)
def test_what_on_epoch_may_not_return_is_refused(found, message):
    with pytest.raises(UserError, match=message):
        fit(on_epoch=lambda *_: found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_of_another_dtype_are_refused_with_the_conversion(dtype):
    x, y = classes()
    with pytest.raises(UserError, match=rf"does not run on inputs of {dtype} .*; give x\.float\(\)$"):
        fit(data=(x.to(dtype), y))
    with pytest.raises(UserError, match=r"give x\.double\(\)$"):
        fit(nn.Linear(3, 2).double(), data=(x, y))
    fit(OwnParameters(), data=(x.to(dtype), y))  # which converts them itself


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_inputs_that_the_network_does_not_run_on_are_refused(dtype):
    x, y = torch.ones(N, 3, dtype=dtype), classes()[1]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=N)
    with pytest.raises(UserError, match=rf"does not run on inputs of {dtype} .*x\.long\(\)"):
        fit(data=loader)


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_fit_trains_whatever_the_callers_gradient_mode(outer):
    model, guide = pair()
    before = guide.theta["0.weight"].detach().clone()
    with outer():
        pyro_vd.fit(model, guide, classes(), epochs=1, progress=False)
    assert not torch.equal(guide.theta["0.weight"], before)


@pytest.mark.parametrize("before", [True, False])
def test_the_callers_denormals_are_as_they_were(before):
    torch.set_flush_denormal(before)
    try:
        fit()
        assert bool((torch.full((1,), 1e-40) * 0.5).item() == 0) is before
    finally:
        torch.set_flush_denormal(False)


class Reshaping(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.fc = nn.Embedding(5, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.table(x).view(7, 11))


def test_an_error_of_the_networks_own_is_left_as_it_is():
    with pytest.raises(RuntimeError, match=r"shape '\[7, 11\]' is invalid"):
        fit(Reshaping(), data=(torch.zeros(N, dtype=torch.int64), classes()[1]))


def test_arrays_of_numbers_take_the_networks_dtype():
    x, y = (part.numpy() for part in classes())
    fit(nn.Linear(3, 2).double(), data=(x.astype(np.float64), y))
    fit(nn.Linear(3, 2), data=(x.astype(np.float64), y))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x), x


def test_a_second_output_that_the_likelihood_does_not_read_is_predicted_too():
    posterior = fit(Pair(), lambda output: Categorical(output[0]))
    x, _ = classes()
    logits, second = posterior.predict(x, 2)
    assert logits.shape == (2, N, 2)
    assert torch.equal(second[1], x)


# --- stock Pyro


@pytest.mark.parametrize("objective", [pyro.infer.Trace_ELBO, pyro.infer.TraceMeanField_ELBO])
@pytest.mark.parametrize("handler", [pyro_vd.local_reparam, pyro_vd.flipout])
@pytest.mark.parametrize("validation", [True, False])
def test_pyros_own_objectives_under_a_handler_are_told_which_one_to_use(objective, handler, validation):
    svi = pyro.infer.SVI(*pair(), pyro.optim.Adam({"lr": 1e-3}), loss=objective())
    with handler(), pyro.validation_enabled(validation), pytest.raises(NoLocalRule, match="AnalyticELBO") as raised:
        svi.step(*classes())
    assert handler.__name__ in str(raised.value)
    assert "fallback" not in str(raised.value)


def test_several_draws_at_once_are_refused_by_name():
    model, guide = pair()
    predictive = pyro.infer.Predictive(model, guide=guide, num_samples=3, parallel=True)
    with pytest.raises(UserError, match="parallel=False"):
        predictive(classes()[0])


def test_flipouts_own_name_is_in_its_refusals():
    model, guide = pair(nn.Linear(3, 2), scheme="bernoulli")
    with pyro_vd.flipout(), pytest.raises(NoLocalRule, match=r"^flipout: "):
        AnalyticELBO().differentiable_loss(model, guide, torch.randn(N, 5), torch.zeros(N).long())


@pytest.mark.parametrize("used", ["fit", "predict", "svi"])
def test_a_trained_posterior_can_be_pickled_and_copied(used):
    posterior = fit()
    x, y = classes()
    if used == "predict":
        posterior.predict(x, 2)
    if used == "svi":
        optimizer = pyro.optim.Adam({"lr": 1e-3})
        pyro.infer.SVI(posterior.model, posterior.guide, optimizer, loss=AnalyticELBO()).step(x, y)
    loaded = pickle.loads(pickle.dumps(posterior))  # noqa: S301 (our own bytes)
    torch.testing.assert_close(loaded.mean()(x), posterior.mean()(x))
    svi = pyro.infer.SVI(loaded.model, loaded.guide, pyro.optim.Adam({"lr": 1e-2}), loss=AnalyticELBO())
    svi.step(x, y)
    assert not torch.equal(loaded.guide.theta["0.weight"], posterior.guide.theta["0.weight"])


def test_predictions_after_stock_svi_are_within_the_bounds():
    """SVI's last step may leave them, and the next draw puts the parameters back."""
    model, guide = pair(scheme="variational_b")
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 10.0}), loss=AnalyticELBO())
    svi.step(*classes())
    assert guide.log_alpha["0.weight"].max() > 0
    pyro_vd.Posterior(model, guide).predict(classes()[0], 1)
    assert guide.log_alpha["0.weight"].max() <= 0


def test_a_parameter_store_of_another_process_is_refused(tmp_path):
    """It fills nothing: the names are those of the instances that it was saved from."""
    model, guide = pair()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=AnalyticELBO())
    svi.step(*classes())
    pyro.get_param_store().save(str(tmp_path / "store"))
    del svi, model, guide
    pyro.clear_param_store()
    pyro.get_param_store().load(str(tmp_path / "store"))
    fresh_model, fresh_guide = pair()
    with pytest.raises(UserError, match=r"another instance.*Posterior\.save"):
        fresh_model(classes()[0])
    with pytest.raises(UserError, match="another instance"):
        fresh_guide()
    pyro.clear_param_store()
    fresh_guide()
