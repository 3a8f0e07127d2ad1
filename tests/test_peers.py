"""One training objective of ours against the same one computed by other people's code and formulas, noise for noise.

cplxmodule (Nazarov and Burnaev, PyPI) has layers where we have handlers and guides. The other reference is the code of
Molchanov et al. 2017, whose formulas stand here again in NumPy: noise in the multiplicative form, and their KL.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cplxmodule.nn import relevance
from scipy.special import expit, log_softmax
from torch import nn

from pyro_vd import AnalyticELBO, EmpiricalBayes, LogUniform, guides, lift
from pyro_vd.handlers import local_reparam
from pyro_vd.model.likelihoods import Categorical

pytestmark = pytest.mark.usefixtures("double")

EXAMPLES, CLASSES = 6, 3
LAYERS = {
    "sparse": (relevance.LinearVD, relevance.Conv1dVD, relevance.Conv2dVD, relevance.Conv3dVD),
    "hierarchical": (relevance.LinearARD, relevance.Conv1dARD, relevance.Conv2dARD, relevance.Conv3dARD),
}
PRIORS = {"sparse": LogUniform, "hierarchical": EmpiricalBayes}
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
IMAGES = {  # by dimensions: of one example, and options of the convolution over it
    0: ((7,), {}),
    1: ((2, 9), {"stride": 2, "padding": 1}),
    2: ((2, 8, 7), {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1), "groups": 2}),
    3: ((1, 4, 4, 3), {"padding": 1}),
}


def network(layers, dimensions):
    """A linear network, or one with a convolution over that many dimensions; ``layers`` is indexed by dimensions."""
    shape, options = IMAGES[dimensions]
    linear = layers[0]
    if not dimensions:
        return nn.Sequential(linear(*shape, 5), nn.ReLU(), linear(5, CLASSES))
    features = nn.Sequential(layers[dimensions](shape[0], 4, 2, **options), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*features, linear(features(torch.zeros(1, *shape)).shape[1], CLASSES))


def pair(scheme, dimensions):
    """Our model and guide, at weights of order 1 with noise over several orders of magnitude."""
    net = network(PLAIN, dimensions)
    with torch.no_grad():  # no mean near 0, where cplxmodule adds 1e-12 to keep a logarithm finite
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter).sign() * torch.empty_like(parameter).uniform_(0.1, 1.0))
    model = lift(net, PRIORS[scheme], Categorical, num_data=EXAMPLES)
    guide = guides.SCHEMES[scheme].Guide(model)
    with torch.no_grad():
        for parameter in guide.log_sigma2.parameters():
            parameter.uniform_(-8.0, 2.0)
    return model, guide


def examples(dimensions):
    return torch.randn(EXAMPLES, *IMAGES[dimensions][0]), torch.arange(EXAMPLES) % CLASSES


def ours(model, guide, x, y):
    """The negative ELBO, and its gradients by site."""
    torch.manual_seed(1)
    with local_reparam():
        loss = AnalyticELBO().differentiable_loss(model, guide, x, y)
    loss.backward()
    gradients = {site: (theta.grad, guide.log_sigma2[site].grad) for site, theta in guide.theta.named_parameters()}
    return loss.detach(), gradients


@pytest.mark.parametrize("dimensions", IMAGES)
@pytest.mark.parametrize("scheme", LAYERS)
def test_objective_and_gradients_are_those_of_cplxmodule(scheme, dimensions):
    model, guide = pair(scheme, dimensions)
    x, y = examples(dimensions)
    peer = network(LAYERS[scheme], dimensions)
    noise = {f"{site.removesuffix('weight')}log_sigma2": value for site, value in guide.log_sigma2.named_parameters()}
    peer.load_state_dict({**model.net.state_dict(), **dict(guide.theta.named_parameters()), **noise})
    torch.manual_seed(1)
    expected = F.cross_entropy(peer(x), y, reduction="sum") + sum(
        layer.penalty.sum() for layer in peer if hasattr(layer, "penalty")
    )
    expected.backward()
    loss, gradients = ours(model, guide, x, y)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=0)
    for site, (theta, log_sigma2) in gradients.items():
        layer = peer.get_submodule(site.removesuffix(".weight"))
        torch.testing.assert_close(theta, layer.weight.grad, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(log_sigma2, layer.log_sigma2.grad, rtol=1e-6, atol=1e-9)


def molchanov_layer(x, weight, bias, log_alpha, noise):
    """Section 4.3: one draw of the outputs, with the variance as alpha times the squared mean."""
    return x @ weight.T + bias + np.sqrt(x**2 @ (np.exp(log_alpha) * weight**2).T + 1e-8) * noise


def molchanov_kl(log_alpha):
    """Equation 14, with its sign turned."""
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    return -(k1 * expit(k2 + k3 * log_alpha) - 0.5 * np.log1p(np.exp(-log_alpha)) - k1).sum()


def test_objective_is_that_of_the_published_formulas():
    model, guide = pair("sparse", 0)
    x, y = examples(0)
    loss, _ = ours(model, guide, x, y)
    torch.manual_seed(1)
    hidden, kl = x.numpy(), 0.0
    for site in ("0", "2"):
        theta = guide.theta[f"{site}.weight"].detach().numpy()
        log_alpha = guide.log_sigma2[f"{site}.weight"].detach().numpy() - np.log(theta**2)
        bias = model.net.get_parameter(f"{site}.bias").detach().numpy()
        hidden = hidden if site == "0" else np.maximum(hidden, 0.0)
        hidden = molchanov_layer(hidden, theta, bias, log_alpha, torch.randn(EXAMPLES, len(theta)).numpy())
        kl += molchanov_kl(log_alpha)
    expected = kl - np.take_along_axis(log_softmax(hidden, axis=1), y.numpy()[:, None], axis=1).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
