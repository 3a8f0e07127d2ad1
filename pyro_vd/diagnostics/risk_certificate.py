"""A PAC-Bayes certificate: an upper bound on the error of a stochastic network on unseen examples."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from pyro_vd.data import LabeledImages
from pyro_vd.data.digests import digest_inputs
from pyro_vd.diagnostics._draws import fork_seeded_rng, unpack_data
from pyro_vd.diagnostics.pac_bayes import bound_gibbs_risk, bound_mean
from pyro_vd.errors import UserError
from pyro_vd.inference.identity import describe_modules
from pyro_vd.inference.user_numbers import to_number, to_seed, to_whole_number
from pyro_vd.metrics._checks import check_labels, check_scores
from pyro_vd.posterior import Posterior
from pyro_vd.posterior_predictive import Draw
from pyro_vd.pytree import Tree, take
from pyro_vd.text_table import WIDTH, html_table, text_table

__all__ = ["Certificate", "certificate"]

MOST_NAMED = 4  # parameters in an error
STREAM = 0x63657274  # the draws must not be those that the posterior was trained with, by a fit with the same seed


@dataclass(frozen=True, repr=False)
class Certificate:
    """An upper bound on the risk of a stochastic network: the probability that a network with new weights from the
    posterior is wrong on a new example.

    Attributes:
        risk: the bound. It holds with probability at least 1 - delta.
        empirical_risk: share of errors on the examples, over all draws of weights.
        empirical_risk_bound: upper bound on its expectation over the weights.
        kl: KL(q || p) of the weights that are kept, nats.
        num_examples: that the bound is computed from.
        num_samples: draws of the weights.
        delta: probability that the bound does not hold, at most. Half of it is for the examples, half for the draws.
        kept: number of random weights that are not pruned.
        weights: number of random weights.

    ``repr`` is a table, also in notebooks; ``str`` is one line.
    """

    risk: float
    empirical_risk: float
    empirical_risk_bound: float
    kl: float
    num_examples: int
    num_samples: int
    delta: float
    kept: int
    weights: int

    def __str__(self) -> str:
        """For example "risk at most 2.61 % with probability 95 %"."""
        return f"risk at most {_percent(self.risk)} with probability {100 * (1 - self.delta):.4g} %"

    def __repr__(self) -> str:
        """A table of the attributes under the line of ``str``, at most 88 columns wide."""
        return "\n".join([*textwrap.wrap(str(self), WIDTH), text_table(HEADER, self._rows)])

    def _repr_html_(self) -> str:
        return html_table(HEADER, self._rows, str(self))

    @property
    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("empirical risk", _percent(self.empirical_risk)),
            ("bound on the empirical risk", _percent(self.empirical_risk_bound)),
            ("bound on the risk", _percent(self.risk)),
            ("KL, nats", f"{self.kl:,.1f}"),
            ("examples", f"{self.num_examples:,}"),
            ("draws of the weights", f"{self.num_samples:,}"),
            ("weights kept", f"{self.kept:,} of {self.weights:,}"),
        ]


HEADER = ("certificate", "value")


class _Gaussian(NamedTuple):
    """Independent Normal weights of a site; those that are not kept have the mean and standard deviation 0."""

    mean: Tensor
    scale: Tensor
    kept: Tensor

    def sample(self) -> Tensor:
        return torch.addcmul(self.mean, self.scale, torch.randn_like(self.mean))


@torch.no_grad()
def certificate(
    posterior: Posterior,
    data: LabeledImages | tuple[Any, Any],
    prior: Posterior,
    delta: float = 0.05,
    *,
    threshold: float | Mapping[str, float] | None = None,
    num_samples: int = 10_000,
    batch_size: int = 100,
    seed: int = 0,
    independent: bool = False,
) -> Certificate:
    """A PAC-Bayes bound on the share of errors of a stochastic network on unseen examples.

    The network draws new weights from the posterior for every example, and answers with the class of the largest
    output. The examples must be independent draws from the distribution of the unseen ones. The prior must not depend
    on them, so train it on other examples: those of the first half, for instance. The posterior may depend on all. The
    bound has two parts, each with half of delta: that of the examples, by the inversion of a binary KL (Maurer 2004),
    and that of the draws, which estimate the empirical risk, by the empirical Bernstein bound (Maurer and Pontil 2009).

    Args:
        posterior: the trained pair that is certified, of a scheme with independent Normal weights.
        data: inputs and labels (n,) of the examples; the posterior may have been trained on them.
        prior: a trained pair over the same network, which has not seen the examples.
        delta: the probability that the bound does not hold, at most.
        threshold: certifies the pruned network: weights that ``prior.masks(threshold)`` prunes are 0. The masks are the
            prior's, since those of the posterior depend on the examples. None for no pruning.
        num_samples: draws of the weights, each for ``batch_size`` examples that are drawn at random, with replacement.
        batch_size: more examples for every draw make the variance smaller.
        seed: of the draws. The posterior must not have been chosen by the errors of the same draws. The global random
            state is unchanged.
        independent: your word that the prior does not depend on the examples. It is needed if ``fit`` read the prior's
            examples from a loader or a Dataset, if the prior was trained otherwise or not at all, and if inputs of the
            examples are equal to some of the prior's by chance. They are then not compared.

    Raises:
        UserError: for a prior that was trained or validated on some of the examples, or if that is not known; for pairs
            over different networks; for a parameter or buffer without a distribution that differs between the two,
            whose KL is unknown; for weights that are not independent Normals; for outputs that are not scores of
            classes (n, classes), labels that do not fit them, and for a number out of range.

    What the network had seen before ``lift`` is not known, so a network that was trained before on the examples gives a
    prior that depends on them.

    References:
        Tighter Risk Certificates for Neural Networks (Perez-Ortiz et al. 2021), https://arxiv.org/abs/2007.12911

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(4000, 2)
        >>> y = (x[:, 0] > 0).long()
        >>> model = pyro_vd.lift(nn.Linear(2, 2, bias=False), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=1000)
        >>> prior = pyro_vd.fit(
        ...     model, guides.sparse.Guide(model), (x[:1000], y[:1000]), epochs=20, lr=0.1, seed=0, progress=False
        ... )
        >>> found = certificate(prior, (x[1000:], y[1000:]), prior, delta=0.05, num_samples=1000)
        >>> found.empirical_risk < found.risk < 0.05
        True
    """
    delta, num_samples, batch_size = _check_numbers(delta, num_samples, batch_size)
    for name, pair in (("posterior", posterior), ("prior", prior)):
        if not isinstance(pair, Posterior):
            raise UserError(f"certificate: {name} is a {type(pair).__name__}; give a Posterior, as fit returns it")
    x, y = unpack_data(data)
    if not isinstance(y, Tensor):
        raise UserError(f"certificate: the labels are a {type(y).__name__}; give a tensor of integers, (n,)")
    _check_networks(posterior, prior)
    if not independent:
        _check_unseen(prior, x)
    masks = None if threshold is None else prior.masks(threshold)
    q, p = (dict(_find_gaussians(pair, masks)) for pair in (posterior, prior))
    kl = sum(_compute_kl(q[site], p[site]) for site in q)
    with fork_seeded_rng(to_seed("certificate: seed", seed) ^ STREAM):
        errors = _sample_errors(posterior, q, x, y, num_samples, batch_size)
    mean, variance = errors.mean().item(), errors.var().item()
    empirical = bound_mean(mean, variance, num_samples, delta / 2)
    return Certificate(
        risk=bound_gibbs_risk(empirical, kl, len(y), delta / 2),
        empirical_risk=mean,
        empirical_risk_bound=empirical,
        kl=kl,
        num_examples=len(y),
        num_samples=num_samples,
        delta=delta,
        kept=sum(int(weights.kept.sum()) for weights in q.values()),
        weights=sum(weights.kept.numel() for weights in q.values()),
    )


def _check_numbers(delta: float, num_samples: int, batch_size: int) -> tuple[float, int, int]:
    delta = to_number("certificate: delta", delta, 0.0, 1.0)
    if not 0 < delta < 1:
        raise UserError(f"certificate: delta={delta:g} must lie between 0 and 1; 0.05 gives a bound with 95 %")
    num_samples = to_whole_number("certificate: num_samples", num_samples)
    batch_size = to_whole_number("certificate: batch_size", batch_size)
    if num_samples < 2 or batch_size < 1:
        raise UserError(
            f"certificate: num_samples={num_samples} must be at least 2, and batch_size={batch_size} at least 1"
        )
    return delta, num_samples, batch_size


def _check_networks(posterior: Posterior, prior: Posterior) -> None:
    """Refuses other sites, shapes or layers, and point parameters and buffers with other values than the prior's."""
    own, other = posterior.model, prior.model
    shapes = [{(site, weight.shape) for site, weight in model.initial.items()} for model in (own, other)]
    if shapes[0] != shapes[1]:
        named = sorted({site for site, _ in shapes[0] ^ shapes[1]})
        raise UserError(
            f"certificate: the random weights {_list(named)} of posterior and prior differ; lift networks of the same "
            "shapes with the same select="
        )
    if describe_modules(own.net) != describe_modules(other.net):
        raise UserError("certificate: posterior and prior are over different networks; lift the same one for both")
    fixed = [dict(_fixed_tensors(model.net)) for model in (own, other)]
    names = fixed[0] | fixed[1]
    changed = [name for name in names if not all(name in each for each in fixed) or _differs(name, *fixed)]
    if changed:
        raise UserError(
            f"certificate: {_list(changed)} without a distribution differs between posterior and prior, so its KL is "
            "unknown; freeze it before the fit of the posterior by requires_grad_(False), and normalization by eval(), "
            "or lift it by select="
        )


def _differs(name: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return not torch.equal(one[name].cpu(), other[name].cpu())


def _fixed_tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _check_unseen(prior: Posterior, x: Tree) -> None:
    seen = prior.model.seen_inputs
    if seen is None or not len(seen):
        raise UserError(
            "certificate: it is not known which examples the prior has seen; if it is independent of these, say so by "
            "independent=True"
        )
    inputs = digest_inputs(x)
    known = int(torch.isin(inputs, seen).sum())
    if known:
        raise UserError(
            f"certificate: the prior was trained or validated on {known:,} of these {len(inputs):,} examples, and must "
            "not depend on them; give examples that it has not seen, or train it on others"
        )


def _find_gaussians(pair: Posterior, masks: Mapping[str, Tensor] | None) -> Iterator[tuple[str, _Gaussian]]:
    for site, normal in pair.normals().items():
        kept = torch.ones_like(normal.mean, dtype=torch.bool) if masks is None else masks[site].to(normal.mean.device)
        if not bool((normal.stddev[kept] > 0).all()):
            raise UserError(
                f"certificate: a weight of {site!r} has a standard deviation of 0, so its KL is infinite or undefined; "
                "take a scheme with parametrization='log_sigma2'"
            )
        yield site, _Gaussian(torch.where(kept, normal.mean, 0.0), torch.where(kept, normal.stddev, 0.0), kept)


def _compute_kl(q: _Gaussian, p: _Gaussian) -> float:
    """Of the weights that are kept, in float64: it is a sum of many small differences."""
    own, other = (Normal(g.mean[q.kept].double().cpu(), g.scale[q.kept].double().cpu()) for g in (q, p))
    return float(kl_divergence(own, other).sum())


def _sample_errors(
    posterior: Posterior, q: Mapping[str, _Gaussian], x: Tree, y: Tensor, num_samples: int, batch_size: int
) -> Tensor:
    """Share of errors of each draw of the weights on its own random examples, (num_samples,), float64.

    The draws are independent, and the expectation of each is the expected share of errors on all examples.
    """
    shares = torch.empty(num_samples, dtype=torch.float64)
    for number in range(num_samples):
        index = torch.randint(len(y), (batch_size,), device=y.device)
        draw = Draw(posterior.model, {site: weights.sample() for site, weights in q.items()})
        (output,) = draw.outputs(take(x, index), None)
        if not number:
            check_scores("certificate", output, ("n", "classes"))
            check_labels("certificate", y, len(y), output.shape[-1])
        shares[number] = (output.argmax(-1) != y[index]).double().mean().cpu()
    return shares


def _list(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
