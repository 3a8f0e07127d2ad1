"""Weight priors and posteriors. Importing this package registers their KLs (kl.py)."""

from pyro_vd.distributions import kl as kl
from pyro_vd.distributions.empirical_bayes import EmpiricalBayes as EmpiricalBayes
from pyro_vd.distributions.flat import Flat as Flat
from pyro_vd.distributions.group_priors import GroupHorseshoe as GroupHorseshoe
from pyro_vd.distributions.group_priors import GroupNormalJeffreys as GroupNormalJeffreys
from pyro_vd.distributions.group_scale import GroupScale as GroupScale
from pyro_vd.distributions.hard_concrete import HardConcrete as HardConcrete
from pyro_vd.distributions.horseshoe import Horseshoe as Horseshoe
from pyro_vd.distributions.horseshoe_scale import HorseshoeScale as HorseshoeScale
from pyro_vd.distributions.horseshoe_scale import LogNormalParameters as LogNormalParameters
from pyro_vd.distributions.input_noise import InputFactors as InputFactors
from pyro_vd.distributions.input_noise import InputNoise as InputNoise
from pyro_vd.distributions.l0 import L0 as L0
from pyro_vd.distributions.log_uniform import LogUniform as LogUniform
from pyro_vd.distributions.monte_carlo import MonteCarloKL as MonteCarloKL
from pyro_vd.distributions.no_density import NoDensity as NoDensity
from pyro_vd.distributions.scaled_bernoulli import ScaledBernoulli as ScaledBernoulli
from pyro_vd.distributions.scaled_concrete import ScaledConcrete as ScaledConcrete
from pyro_vd.distributions.spike_and_slab import spike_and_slab as spike_and_slab
from pyro_vd.distributions.truncated_log_normal import BoundedLogUniform as BoundedLogUniform
from pyro_vd.distributions.truncated_log_normal import TruncatedLogNormal as TruncatedLogNormal
from pyro_vd.distributions.weight_normal import WeightNormal as WeightNormal
