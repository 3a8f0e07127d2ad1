"""What the priors share that are not over weights but over the noise or the scales behind them."""

from torch import Tensor

from pyro_vd.distributions.improper import ImproperPrior
from pyro_vd.distributions.no_density import NoDensity

__all__ = ["NotOnWeights"]


class NotOnWeights(ImproperPrior):
    """A prior without samples and without a density over weights; subclasses say what it is a prior of."""

    of: str

    @property
    def why_no_samples(self) -> str:  # type: ignore[override]
        return f"it is a prior on {self.of}, not on weights"

    def log_prob(self, value: Tensor) -> NoDensity:
        return NoDensity(type(self).__name__, value.shape)
