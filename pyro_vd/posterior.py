"""Posterior: what fit returns. Networks, draws, predictions and masks from a trained (model, guide) pair."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_vd import checkpoint
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.handlers import posterior_mean
from pyro_vd.kl import registered_kl
from pyro_vd.model.batch_norm import reestimate_batch_norm
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.masks import check_masks
from pyro_vd.model.pair import check_best, check_history, load_tensors, pair_state, signature
from pyro_vd.model.param_store import param_store_disabled
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.posterior_predictive import Draw, PosteriorPredictive
from pyro_vd.posteriors import WeightNormal
from pyro_vd.process_state import PYRO_LOCK
from pyro_vd.pytree import Tree, concatenate
from pyro_vd.text_table import WIDTH, html_table, text_table

__all__ = ["Posterior"]

# The tensors that a checkpoint of fit adds: those of its position, and of an optimizer's state of each parameter.
FIT_STATE = re.compile(r"(rng|loader)\.|log_likelihood|(?!model\.|guide\.)\w+\.(model|guide)\.")
SEEN_INPUTS = "seen_inputs"  # the name of the digests in a file of save
BEST = "best."  # what the names of the best epoch's tensors begin with
MOST_COPIES = 8  # of a pair's bytes in a checkpoint: its own, those of the best epoch, and of an optimizer's state
FILE_OVERHEAD = 64 << 20  # bytes of a tensor file besides the pair's and the optimizer's: names, generators


class Posterior(PosteriorPredictive):
    """A trained pair.

    Attributes:
        model: the pair's model.
        guide: the pair's guide.
        history: one dict of numbers per epoch.
        engine: what ran the steps of the last ``fit``: "eager", "compiled" or "cudagraph"; empty before any.
        seed: of the last ``fit``; None before any.
        best_epoch: the epoch of the last ``fit`` with the highest score of its validation set; None without one.
        optimizer: the torch optimizer of the last ``fit`` after its last step, if its state is a result, as the path of
            :class:`~pyro_vd.optim.DessiLBI` is; else None.

    ``sample``, ``weights`` and all predictions draw from torch's global generator, as ``pyro.infer.Predictive`` does;
    call ``torch.manual_seed`` before them to fix the draws. The diagnostics take a ``seed`` instead and do not touch
    the generator.
    """

    def __init__(self, model: LiftedModel, guide: WeightGuide, history: list[dict[str, float]] | None = None):
        self.model = model
        self.guide = guide
        self.history = history or []
        self.engine = ""
        self.seed: int | None = None
        self.best_epoch: int | None = None
        self.optimizer: torch.optim.Optimizer | None = None

    def __repr__(self) -> str:
        """The scheme, the last epoch and a table of the sites, at most 88 columns wide."""
        return "\n".join([*textwrap.wrap(self._title, WIDTH), text_table(*self._table())])

    def _repr_html_(self) -> str:
        return html_table(*self._table(), self._title)

    @property
    def _title(self) -> str:
        parts = [f"Posterior of {type(self.model.net).__name__} by {self.guide!r}", f"{len(self.history)} epochs"]
        if self.history:
            parts.append(f"loss {self.history[-1].get('loss', math.nan):.4g}")
        return ", ".join(parts)

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows: a site in each."""
        rows = {
            site: (site, "x".join(map(str, weight.shape)), f"{weight.numel():,}", type(base_distribution(p)).__name__)
            for (site, weight), p in zip(self.model.initial.items(), self.model.priors.values(), strict=True)
        }
        header: tuple[str, ...] = ("site", "shape", "weights", "prior")
        try:
            kept = {site: f"{int(mask.sum()):,}" for site, mask in self.masks().items()}
        except UserError:  # not a scheme that prunes
            return header, list(rows.values())
        return (*header, f"kept at {self.threshold:g}"), [(*row, kept[site]) for site, row in rows.items()]

    @torch.no_grad()
    def log_alpha(self) -> dict[str, Tensor]:
        """Site -> log_alpha of its weights (the weight's shape); +inf if a mean is 0.

        Raises:
            TypeError: for a scheme without Gaussian noise on the weights.
        """
        found = {site: getattr(self.guide.q(site), "log_alpha", None) for site in self.model.priors}
        values = {site: log_alpha.detach() for site, log_alpha in found.items() if log_alpha is not None}
        if len(values) < len(found):
            raise TypeError(
                f"{self.guide!r} has no log_alpha: its noise, if any, is not Gaussian; what it prunes is in "
                "Posterior.masks(threshold)"
            )
        return values

    @torch.no_grad()
    def kl(self) -> dict[str, float]:
        """Site -> KL(q || p) of all its weights in nats, before any KL weight; one draw of it under a MonteCarloKL.

        Raises:
            NotImplementedError: if a (posterior, prior) pair has no registered KL, naming the site.
        """
        pairs = {site: (self.guide.q(site), prior) for site, prior in self.model.priors.items()}
        return {site: registered_kl(site, q, base_distribution(p)).sum().item() for site, (q, p) in pairs.items()}

    @property
    def threshold(self) -> float:
        """The scheme's own threshold, ``defaults.threshold`` of the guide.

        Raises:
            UserError: if the guide's class has no defaults, or if its scheme is not for pruning.
        """
        defaults = getattr(self.guide, "defaults", None)  # an autoguide of Pyro has none
        if defaults is None:
            raise UserError(
                f"masks: {self.guide!r} has no threshold of its own; give one, such as masks(3.0), or set defaults = "
                "pyro_vd.SchemeDefaults(threshold=...) in its class"
            )
        if defaults.threshold is None:
            raise UserError(
                f"masks: {self.guide!r} is not for pruning; train a scheme that prunes, or give a threshold"
            )
        return float(defaults.threshold)

    @torch.no_grad()
    def normals(self) -> dict[str, Normal]:
        """Site -> the Normal of its independent weights, (the weight's shape), detached: mean and standard deviation.

        Raises:
            UserError: for a scheme whose weights are not independent Normals, naming the site.
        """
        if not hasattr(self.guide, "q"):  # an autoguide of Pyro
            raise UserError(f"{type(self.guide).__name__} has no q(site); take the guide of a dropout scheme")
        found = {site: base_distribution(self.guide.q(site)) for site in self.model.priors}
        for site, q in found.items():
            if not isinstance(q, WeightNormal | torch.distributions.Normal):
                raise UserError(
                    f"{self.guide!r}: the weights {site!r} are not independent Normals, but {type(q).__name__}; take a "
                    "scheme with such weights, as sparse, hierarchical or variational_b"
                )
        return {site: Normal(q.mean.clone(), q.stddev.clone(), validate_args=False) for site, q in found.items()}

    def as_prior(self) -> Callable[[str, Tensor], Normal]:
        """The distributions of :meth:`normals` as a prior for ``lift``: what was learned here is the prior of the next
        posterior, which is trained on other data.

        The other network needs the same shapes, and the same weights must be selected.

        Raises:
            UserError: as :meth:`normals`; in ``lift``, for a selected weight that has no distribution here, or one of
                another shape.

        Example:
            >>> import pyro_vd
            >>> from pyro_vd import guides
            >>> model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
            >>> first = Posterior(model, guides.sparse.Guide(model))
            >>> second = pyro_vd.lift(first.mean(), first.as_prior(), pyro_vd.Categorical, num_data=30)
            >>> second.priors["weight"].stddev.max()
            tensor(0.0067)
        """
        normals = self.normals()

        def prior(name: str, parameter: Tensor) -> Normal:
            if name not in normals:
                raise UserError(f"as_prior: {name!r} has no distribution here; select {', '.join(normals)}")
            if parameter.shape != normals[name].mean.shape:
                shapes = tuple(normals[name].mean.shape), tuple(parameter.shape)
                raise UserError(
                    f"as_prior: {name!r} has shape {shapes[0]} here, and not {shapes[1]}; lift the same network"
                )
            return normals[name]

        return prior

    def masks(self, threshold: float | Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """Site -> bool mask of the weights that pruning at this threshold keeps.

        Args:
            threshold: one for all sites, or one by site, for group schemes whose layers differ in scale; of log_alpha,
                if the scheme's ``defaults.threshold_of`` does not say otherwise. None for the scheme's own,
                :attr:`threshold`.

        Raises:
            UserError: without a threshold, if the scheme has none of its own; for a threshold that is NaN, and unless a
                threshold by site names exactly the model's sites.
        """
        sites = list(self.model.priors)
        threshold = self.threshold if threshold is None else threshold
        by_site = threshold if isinstance(threshold, Mapping) else dict.fromkeys(sites, threshold)
        if by_site.keys() != set(sites):
            named = ", ".join(sorted(by_site.keys() ^ set(sites)))
            raise UserError(f"masks: a threshold for every site and no other is needed; look at {named}")
        if any(math.isnan(number) for number in by_site.values()):
            raise UserError("masks: a threshold is NaN, which would prune everything; math.inf prunes nothing")
        return {site: self.guide.keep_mask(site, by_site[site]) for site in sites}

    @torch.no_grad()
    def mean(self, masks: Mapping[str, Tensor] | None = None, inputs: Tree | None = None) -> nn.Module:
        """A plain network at the posterior mean, in eval mode; pruned weights are exactly 0.

        Args:
            masks: site -> bools of the weight's shape, False for the weights to prune, as :meth:`masks` gives them;
                None for no pruning.
            inputs: of the training set, (n, ...). If given, the running averages of batch normalization are computed
                again from them: training averaged over noisy activations, and the mean's activations have no noise.

        Modules that stayed in eval mode in training keep their running averages.

        Raises:
            UserError: for fewer than two inputs, and for masks of other sites or shapes than the model's.
        """
        with posterior_mean():
            weights = self.weights()
        if masks is not None:
            if not isinstance(masks, Mapping):
                raise UserError(f"mean(masks={masks!r}): to prune by a threshold, give posterior.masks({masks!r})")
            check_masks(masks, self.model.initial, "mean")
            # Not weight * mask: a negative weight times 0 is -0.0, and NaN would survive the product.
            weights = {site: torch.where(masks[site], weight, 0.0) for site, weight in weights.items()}
        net = self.model.network(weights)
        if inputs is not None:
            reestimate_batch_norm(net, inputs, self.model.fixed)
        return net.eval()

    @torch.no_grad()
    def sample(self) -> nn.Module:
        """A plain network with one draw of the weights, in eval mode."""
        return self.model.network(self.weights()).eval()

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """One draw of the random weights, by site."""
        with PYRO_LOCK, param_store_disabled():
            if hasattr(self.guide, "project"):  # an autoguide of Pyro has no bounds
                self.guide.project()  # stock SVI may have stepped since the last draw
            trace = poutine.trace(self.guide).get_trace()
        return {site: trace.nodes[site]["value"] for site in self.model.priors}

    @torch.no_grad()
    def outputs(self, weights: dict[str, Tensor], x: Tree, batch_size: int | None = 1000) -> Tree:
        """The network's outputs with these weights, in eval mode, shape (n, ...).

        Args:
            weights: by site.
            x: inputs, (n, ...); a single tensor of uint8 is read as images and divided by 255.
            batch_size: see :meth:`predict`.

        Raises:
            UserError: as :meth:`predict`.
        """
        x, length = self._check("outputs", 1, x, batch_size)
        return concatenate(Draw(self.model, weights).outputs(x, batch_size), length)

    def _draw(self, number: int) -> Draw:
        return Draw(self.model, self.weights())

    def save(self, path: str | Path, **meta: Any) -> None:
        """Writes the pair's parameters, buffers and history as a checkpoint (see pyro_vd.checkpoint).

        Args:
            path: ``folder/name`` without suffix.
            meta: more JSON values to store.

        Raises:
            UserError: for a parameter that is not finite, which could not be loaded.
        """
        for name, value in self._state():
            if isinstance(value, nn.Parameter) and not bool(value.isfinite().all()):
                raise UserError(f"{path}: {name} is not finite, so this posterior cannot be saved; train it again")
        seen = self.model.seen_inputs
        checkpoint.save(
            Path(path),
            dict(self._state()) | ({} if seen is None else {SEEN_INPUTS: seen}),
            {"pair": signature(self.model, self.guide), "history": self.history, **meta},
        )

    def load(self, path: str | Path) -> Posterior:
        """Loads a checkpoint of :meth:`save` or of ``fit`` into this pair, which must be made by the same calls. Of a
        ``fit`` that returns the best epoch, the state of the best epoch so far. Only a file of :meth:`save` knows the
        model's ``seen_inputs``.

        Raises:
            CheckpointError: if the file is damaged, or its guide, priors or tensors are not this pair's, naming the
                differences; the pair is then unchanged.
        """
        own = dict(self._state())
        largest = MOST_COPIES * sum(tensor.nbytes for tensor in own.values()) + FILE_OVERHEAD
        tensors, meta = checkpoint.load(Path(path), largest)
        pair = signature(self.model, self.guide)
        if "pair" not in meta:
            raise CheckpointError(f"{path}: holds no posterior, as files of Posterior.save and fit do")
        if meta["pair"] != pair:
            raise CheckpointError(f"{path}: of another pair: {meta['pair']}, this is {pair}")
        if "settings" in meta:  # written by fit, with the state of optimizer, generators and loader
            best = meta.get("best", {"epochs": [None], "returned": False})  # of a run without a validation set
            check_best(best, str(path))
            if best["returned"] and best["epochs"] != [None]:
                tensors = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
            tensors = {name: value for name, value in tensors.items() if not FIT_STATE.match(name)}
        if "histories" in meta:
            raise CheckpointError(
                f"{path}: of fit_seeds, which holds several pairs; call fit_seeds with it as checkpoint="
            )
        check_history(meta.get("history"), str(path))
        seen = tensors.pop(SEEN_INPUTS, None)
        if seen is not None and (seen.dtype != torch.int64 or seen.ndim != 1):
            raise CheckpointError(f"{path}: {SEEN_INPUTS} are not digests of examples; not used")
        load_tensors(own, tensors, str(path))
        self.model.seen_inputs = seen
        self.history = meta["history"]
        return self

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        return pair_state(self.model, self.guide)
