"""Weight priors and posteriors. Importing this package registers their KLs (kl.py)."""

from pyro_vd.distributions import kl as kl
from pyro_vd.distributions.empirical_bayes import EmpiricalBayes as EmpiricalBayes
from pyro_vd.distributions.flat import Flat as Flat
from pyro_vd.distributions.input_noise import InputNoise as InputNoise
from pyro_vd.distributions.log_uniform import LogUniform as LogUniform
from pyro_vd.distributions.no_density import NoDensity as NoDensity
from pyro_vd.distributions.scaled_bernoulli import ScaledBernoulli as ScaledBernoulli
from pyro_vd.distributions.weight_normal import WeightNormal as WeightNormal
