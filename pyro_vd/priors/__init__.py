"""What ``lift(prior=)`` takes, besides the distributions of Pyro and PyTorch. One prior per file."""

from pyro_vd.priors._improper import ImproperPrior as ImproperPrior
from pyro_vd.priors._improper import NoisePrior as NoisePrior
from pyro_vd.priors._improper import UndefinedLogProb as UndefinedLogProb
from pyro_vd.priors.empirical_bayes import EmpiricalBayes as EmpiricalBayes
from pyro_vd.priors.flat import Flat as Flat
from pyro_vd.priors.group_horseshoe import GroupHorseshoe as GroupHorseshoe
from pyro_vd.priors.group_normal_jeffreys import GroupNormalJeffreys as GroupNormalJeffreys
from pyro_vd.priors.hierarchical_normal import HierarchicalNormal as HierarchicalNormal
from pyro_vd.priors.horseshoe import Horseshoe as Horseshoe
from pyro_vd.priors.l0 import L0 as L0
from pyro_vd.priors.log_uniform import LogUniform as LogUniform
from pyro_vd.priors.monte_carlo import MonteCarloKL as MonteCarloKL
from pyro_vd.priors.spike_and_slab import spike_and_slab as spike_and_slab
from pyro_vd.priors.truncated_log_uniform import TruncatedLogUniform as TruncatedLogUniform
