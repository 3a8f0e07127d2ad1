"""What a guide's ``q(site)`` returns: weight posteriors, and the distributions of the noise that they hold."""

from pyro_vd.posteriors.concrete_dropout import ConcreteDropout as ConcreteDropout
from pyro_vd.posteriors.group_scale import GroupScale as GroupScale
from pyro_vd.posteriors.hard_concrete import HardConcrete as HardConcrete
from pyro_vd.posteriors.input_noise import InputNoise as InputNoise
from pyro_vd.posteriors.input_noise import MultiplicativeNoise as MultiplicativeNoise
from pyro_vd.posteriors.log_normal_scale import LogNormalParameters as LogNormalParameters
from pyro_vd.posteriors.log_normal_scale import LogNormalScale as LogNormalScale
from pyro_vd.posteriors.scaled_bernoulli import ScaledBernoulli as ScaledBernoulli
from pyro_vd.posteriors.scaled_concrete import ScaledConcrete as ScaledConcrete
from pyro_vd.posteriors.truncated_log_normal import TruncatedLogNormal as TruncatedLogNormal
from pyro_vd.posteriors.weight_normal import WeightNormal as WeightNormal
