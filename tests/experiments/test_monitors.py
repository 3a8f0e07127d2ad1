"""What is measured after every epoch: each number against its definition, by hand or by many draws."""

import pytest
import torch
import torch.nn.functional as F
from pyro.distributions import Normal

from pyro_vd import Categorical, Posterior, Training, guides, lift
from pyro_vd.data import load
from pyro_vd.experiments.common.monitors import MONITORS, measure_activations, measure_gradients, measure_rates
from pyro_vd.experiments.common.spec import Data, Fit, Options, Spec, encode, key_of
from pyro_vd.models import MLP
from pyro_vd.posteriors import HardConcrete
from tests.runs import make_runner

SITES = ("fc2.weight", "fc3.weight")
P = {"fc2.weight": 0.2, "fc3.weight": 0.5}


@pytest.fixture(scope="module")
def split():
    return load("digits").resize(28)


def make_pair(scheme="bernoulli", prior=None, **options):
    torch.manual_seed(0)
    module = guides.SCHEMES[scheme]
    net = MLP(hidden=(12, 8))
    model = lift(net, prior or module.prior, Categorical, num_data=100, select=SITES)
    return Posterior(model, module.Guide(model, **options)), net


def hidden_units(net, images):
    first = net.fc1(images.flatten(1)).relu()
    return {"fc2": first, "fc3": net.fc2(first).relu()}


def test_variances_are_those_of_the_units_without_and_with_noise(split):
    posterior, net = make_pair(p=P)
    found = measure_activations(posterior, split)
    assert set(found) == {"variance_fc2", "noisy_variance_fc2", "variance_fc3", "noisy_variance_fc3"}
    torch.manual_seed(1)
    for layer, h in hidden_units(net, split.test.images).items():
        assert found[f"variance_{layer}"] == pytest.approx(h.var(correction=0).item(), rel=1e-4)
        noisy = torch.cat([F.dropout(h, P[f"{layer}.weight"]) for _ in range(400)])
        assert found[f"noisy_variance_{layer}"] == pytest.approx(noisy.var(correction=0).item(), rel=0.01)


def test_each_unit_has_its_own_noise_in_the_variance(split):
    posterior, net = make_pair("variational_a")
    with torch.no_grad():
        log_alpha = posterior.guide.log_alpha["fc2.weight"]
        log_alpha.copy_(torch.linspace(-3, 0, 12))
    h, std = hidden_units(net, split.test.images)["fc2"], log_alpha.exp().sqrt()
    torch.manual_seed(1)
    noisy = torch.cat([h * (1 + std * torch.randn_like(h)) for _ in range(400)])
    assert measure_activations(posterior, split)["noisy_variance_fc2"] == pytest.approx(noisy.var().item(), rel=0.01)


@pytest.mark.parametrize(("scheme", "options"), [("none", {}), ("gaussian_wang", {"p": P}), ("l0", {})])
def test_noise_that_is_not_on_the_units_or_has_another_mean_has_no_noisy_variance(scheme, options, split):
    posterior, _ = make_pair(scheme, **options)
    assert set(measure_activations(posterior, split)) == {"variance_fc2", "variance_fc3"}


def test_gradients_are_those_of_the_first_batches_of_the_training_set(split):
    posterior, net = make_pair(p=P)
    norms = []
    for start in range(0, len(split.train), 256):
        x, y = split.train.batch(torch.arange(start, min(start + 256, len(split.train))))
        net.zero_grad()
        F.cross_entropy(net(x), y).backward()
        norms.append(sum(p.grad.square().sum() for p in net.parameters()).sqrt().item())
    assert len(norms) == 6
    found = measure_gradients(posterior, split)
    assert found["gradient_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-4)
    assert found["largest_gradient_norm"] == pytest.approx(max(norms), rel=1e-4)
    assert all(p.grad is None for p in posterior.guide.parameters())


def rates_of(scheme, **options):
    return measure_rates(make_pair(scheme, **options)[0], None)


def test_rates_are_probabilities_to_drop():
    for scheme in ("bernoulli", "gaussian_srivastava"):
        assert rates_of(scheme, p=P) == pytest.approx({"rate_fc2": 0.2, "rate_fc3": 0.5})
    assert rates_of("concrete", init=0.3, prior=Normal(0.0, 1.0)) == pytest.approx({"rate_fc2": 0.3, "rate_fc3": 0.3})
    assert rates_of("variational_a", init=0.0) == pytest.approx({"rate_fc2": 0.5, "rate_fc3": 0.5})
    assert rates_of("none") == rates_of("gaussian_wang", p=P) == {}


def test_the_rate_of_a_gate_is_the_share_of_closed_ones():
    torch.manual_seed(0)
    drawn = HardConcrete(torch.full((100_000,), 0.5)).sample()
    posterior, _ = make_pair("l0", init=1 - torch.sigmoid(torch.tensor(0.5)).item())
    closed = (drawn == 0).double().mean().item()
    assert closed > 0.05
    assert measure_rates(posterior, None)["rate_fc2"] == pytest.approx(closed, abs=4 * (0.1 / 1e5) ** 0.5)


def test_the_monitors_of_a_phase_are_in_every_row_of_the_history(tmp_path):
    training = Training(epochs=2, batch_size=500)
    fit = Fit(scheme="bernoulli", training=training, select=SITES, monitors=tuple(MONITORS))
    data = Data(name="digits", num_train=500, num_test=100)
    run = make_runner(tmp_path).run(Spec(network="mlp", data=data, phases=(fit,), options=Options(hidden=(9, 7))))
    names = {"error", "gradient_norm", "rate_fc2", "rate_fc3", "variance_fc2", "noisy_variance_fc3"}
    assert all(names <= row.keys() for row in run["history"])
    assert [row["rate_fc2"] for row in run["history"]] == [0.5, 0.5]


def test_a_phase_without_monitors_is_written_as_before():
    fit = Fit(scheme="none", training=Training(epochs=1))
    assert "monitors" not in encode(fit)
    spec = Spec(network="mlp", data=Data(name="digits"), phases=(fit,))
    watched = Fit(scheme="none", training=Training(epochs=1), monitors=("rates",))
    assert key_of(spec) != key_of(Spec(network="mlp", data=Data(name="digits"), phases=(watched,)))
