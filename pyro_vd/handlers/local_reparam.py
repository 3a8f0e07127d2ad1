"""local_reparam: sample the outputs of linear operations instead of their weights."""

import math
from typing import Any, Literal

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_vd.handlers.rules.noisy_weight import NoisyWeight, awaits_noisy_weight, check_fallback
from pyro_vd.model.param_store import is_param_store_disabled
from pyro_vd.posteriors.train_mask import mark_started

__all__ = ["local_reparam"]


class local_reparam(Messenger):
    """Turns "sample the weight, then apply the operation" into "sample the operation's output".

    In a guide that runs inside, every noisy weight becomes a :class:`NoisyWeight`. The model, replayed against that
    guide, draws one output per example instead of one weight per batch. The gradient's variance then falls with the
    batch size (Kingma, Salimans, Welling 2015, section 2.2), and no weight is sampled.

    Without the handler, the four examples below meet the same weight draw, so equal inputs give equal outputs. With it,
    each has an output of its own:

        >>> import pyro, torch
        >>> from pyro_vd.posteriors import WeightNormal
        >>> _ = pyro.set_rng_seed(0)
        >>> def program(x):
        ...     q = WeightNormal(torch.zeros(1, 2), log_sigma2=torch.zeros(1, 2))
        ...     return torch.nn.functional.linear(x, pyro.sample("w", q.to_event(2)))
        >>> len(program(torch.ones(4, 2)).unique())
        1
        >>> with local_reparam():
        ...     len(program(torch.ones(4, 2)).unique())
        4

    The two objectives are equal only if each weight meets each example once: 2-D inputs of linear layers, no tied and
    no reused modules. In a convolution or a sequence each weight meets an example many times. The outputs then have the
    right means and variances but no covariance (between two positions with inputs x0, x1 it should be sigma^2 x0 x1
    and is 0). Predictions are therefore made with weight draws. :class:`flipout` keeps the covariance in training too.
    Noise that belongs to input units (InputNoise) keeps it here as well: it is drawn once for each example, the first
    dimension of the input.

    Args:
        threshold: train-time masking: weights with log_alpha >= threshold enter the mean as zero and keep their
            variance (the ``train_clip`` of Molchanov's published code); infinity masks none. Masking makes high
            compression possible, and the objective is then no longer a bound on the evidence. Give a 0-dim tensor if a
            traced step must follow a change of the value. A weight is masked only after its log_alpha has been below
            the threshold once, so that weights that start at 0 can leave it. The guide holds that state,
            ``guide.started``, and passes it as ``pyro.sample(..., infer={"started": bools})``. It is updated at every
            step, or by ``fit`` before every epoch. The zeros of a pruned network that is lifted again are such weights:
            they are trained again. To keep them at 0, train with ``guides.none.Guide(model, masks=...)``.
        fallback: ``"raise"`` (default) names the site and the operation when there is no rule; ``"sample"`` gives
            that operation one draw of the (unmasked) weight.

    Raises:
        UserError: for another fallback.
    """

    def __init__(self, threshold: float | Tensor = math.inf, fallback: Literal["raise", "sample"] = "raise"):
        super().__init__()
        check_fallback("local_reparam", fallback)
        self.threshold = threshold
        self.fallback = fallback

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if awaits_noisy_weight(msg, NoisyWeight.handler):
            started = msg["infer"].get("started")
            weight = NoisyWeight(msg["name"], msg["fn"], self.threshold, self.fallback, started=started)
            if started is not None and not is_param_store_disabled():
                mark_started(weight.q, self.threshold, started)
            msg["value"] = weight
            msg["done"] = True
