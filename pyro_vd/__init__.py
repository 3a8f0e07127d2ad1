"""A series of dropout on Pyro: model/guide pairs, local reparameterization as an effect handler, real compression.

>>> import torch, pyro_vd, guides
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
>>> model = pyro_vd.lift(net, prior=pyro_vd.LogUniform, likelihood=pyro_vd.Categorical, n=150)
>>> guide = guides.sparse.Guide(model)
>>> x, y = torch.randn(150, 4), torch.randint(3, (150,))
>>> posterior = pyro_vd.fit(model, guide, (x, y), epochs=2, progress=False)
>>> posterior.predict(x, n=10).shape
torch.Size([10, 150, 3])
"""

from pyro_vd.compress import CompressionReport as CompressionReport
from pyro_vd.compress import compression_report as compression_report
from pyro_vd.distributions import L0 as L0
from pyro_vd.distributions import BoundedLogUniform as BoundedLogUniform
from pyro_vd.distributions import EmpiricalBayes as EmpiricalBayes
from pyro_vd.distributions import Flat as Flat
from pyro_vd.distributions import GroupHorseshoe as GroupHorseshoe
from pyro_vd.distributions import GroupNormalJeffreys as GroupNormalJeffreys
from pyro_vd.distributions import Horseshoe as Horseshoe
from pyro_vd.distributions import LogUniform as LogUniform
from pyro_vd.distributions import MonteCarloKL as MonteCarloKL
from pyro_vd.distributions import WeightNormal as WeightNormal
from pyro_vd.distributions import spike_and_slab as spike_and_slab
from pyro_vd.elbo import AnalyticELBO as AnalyticELBO
from pyro_vd.errors import NonFiniteError as NonFiniteError
from pyro_vd.handlers import flipout as flipout
from pyro_vd.handlers import kl_weight as kl_weight
from pyro_vd.handlers import local_reparam as local_reparam
from pyro_vd.handlers import posterior_mean as posterior_mean
from pyro_vd.lift import lift as lift
from pyro_vd.likelihoods import Bernoulli as Bernoulli
from pyro_vd.likelihoods import Categorical as Categorical
from pyro_vd.likelihoods import Gaussian as Gaussian
from pyro_vd.posterior import Posterior as Posterior
from pyro_vd.svi import fit as fit
from pyro_vd.svi import fit_seeds as fit_seeds
