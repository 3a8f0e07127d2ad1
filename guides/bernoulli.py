"""Dropout (Srivastava et al. 2014): each input unit is dropped with probability p, for each example anew."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_vd.guides._drop_probabilities import drop_probabilities
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.posteriors import ScaledBernoulli
from pyro_vd.priors import Flat

__all__ = ["Guide", "defaults", "prior"]

prior = Flat
defaults = SchemeDefaults()


class Guide(InputNoiseGuide):
    """Inverted dropout as a posterior. Its KL to the same mask over a flat theta is 0, so it trains by the likelihood.

    ``posterior.mean()`` is the network with dropout switched off, ``posterior.predict`` is Monte Carlo dropout.

    Args:
        model: the lifted model, whose sites must all be weights of linear or ungrouped convolution layers.
        p: drop probability in [0, 1), one for all sites or a dict by site.
        channels: site -> number of noise variables, if it is not the number of inputs. For a layer after a flattening,
            give the number of channels, each of which is then dropped at all its positions.

    Raises:
        UserError: for p outside [0, 1), channels that do not divide the inputs, or a site without input units.
    """

    defaults = defaults

    def __init__(
        self,
        model: LiftedModel,
        *,
        p: float | Mapping[str, float] = 0.5,
        channels: Mapping[str, int] | None = None,
    ):
        super().__init__(model, channels=channels)
        self.p = drop_probabilities(model, p)

    def noise(self, site: str) -> ScaledBernoulli:
        return ScaledBernoulli(self.theta[site].new_full((self.units[site],), self.p[site]))
