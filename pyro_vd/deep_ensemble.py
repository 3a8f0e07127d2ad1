"""DeepEnsemble: several trained pairs that predict together."""

from __future__ import annotations

from collections.abc import Iterable

from pyro_vd.errors import UserError
from pyro_vd.posterior import Posterior
from pyro_vd.posterior_predictive import Draw, PosteriorPredictive

__all__ = ["DeepEnsemble"]


class DeepEnsemble(PosteriorPredictive):
    """Predictions of several posteriors with equal weights (Lakshminarayanan et al. 2017).

    The members are usually those of :func:`pyro_vd.fit_seeds`. In the paper they are networks without noise, which
    the scheme ``none`` gives, so one draw of each is all that there is. With another scheme the draws are divided
    among the members. It predicts as a :class:`pyro_vd.Posterior` does: ``predict``, ``predict_mean``, ``predictive``,
    ``quantiles`` and ``interval``, for a ``num_samples`` that is a multiple of the number of members.

    Args:
        posteriors: the members, whose networks give outputs of the same shape.

    Raises:
        UserError: for no members, or what is not a posterior; later for another ``num_samples``.

    Example:
        >>> import torch, pyro_vd
        >>> from pyro_vd import guides
        >>> def make():
        ...     model = pyro_vd.lift(torch.nn.Linear(4, 3), pyro_vd.Flat, pyro_vd.Categorical, num_data=30)
        ...     return model, guides.none.Guide(model)
        >>> x, y = torch.randn(30, 4), torch.randint(3, (30,))
        >>> ensemble = DeepEnsemble(pyro_vd.fit_seeds(make, (x, y), seeds=range(5), epochs=1, progress=False))
        >>> ensemble.predict_mean(x, num_samples=5, transform=lambda logits: logits.softmax(-1)).shape
        torch.Size([30, 3])
    """

    def __init__(self, posteriors: Iterable[Posterior]):
        self.members = list(posteriors)
        if not self.members or not all(isinstance(member, Posterior) for member in self.members):
            names = ", ".join(type(member).__name__ for member in self.members) or "nothing"
            raise UserError(f"DeepEnsemble: at least one Posterior is needed, and nothing else; these are {names}")

    def _draw(self, number: int) -> Draw:
        return self.members[number % len(self.members)]._draw(number)

    def _check_count(self, name: str, num_samples: int, num_inputs: int) -> None:
        super()._check_count(name, num_samples, num_inputs)
        if num_samples % len(self.members):
            raise UserError(
                f"{name}: num_samples={num_samples} cannot be divided among {len(self.members)} members; give a "
                f"multiple of {len(self.members)}"
            )
