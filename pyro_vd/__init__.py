"""Dropout schemes on Pyro: model/guide pairs, local reparameterization as an effect handler, compression.

>>> import torch, pyro_vd
>>> from pyro_vd import guides
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
>>> model = pyro_vd.lift(net, prior=pyro_vd.LogUniform, likelihood=pyro_vd.Categorical, num_data=150)
>>> guide = guides.sparse.Guide(model)
>>> x, y = torch.randn(150, 4), torch.randint(3, (150,))
>>> posterior = pyro_vd.fit(model, guide, (x, y), epochs=2, progress=False)
>>> posterior.predict(x, num_samples=10).shape
torch.Size([10, 150, 3])
"""

from pathlib import Path as _Path

# In a checkout the folders guides, models and experiments are beside this one; the wheel has them inside.
if not (_Path(__file__).parent / "guides").is_dir():
    __path__.append(str(_Path(__file__).parent.parent))

from pyro_vd import optim as optim
from pyro_vd.compress import CompressionReport as CompressionReport
from pyro_vd.compress import compression_report as compression_report
from pyro_vd.deep_ensemble import DeepEnsemble as DeepEnsemble
from pyro_vd.elbo import AnalyticELBO as AnalyticELBO
from pyro_vd.errors import NonFiniteError as NonFiniteError
from pyro_vd.handlers import flipout as flipout
from pyro_vd.handlers import kl_weight as kl_weight
from pyro_vd.handlers import local_reparam as local_reparam
from pyro_vd.handlers import posterior_mean as posterior_mean
from pyro_vd.inference import schedules as schedules
from pyro_vd.inference.fit import fit as fit
from pyro_vd.inference.fit_seeds import fit_seeds as fit_seeds
from pyro_vd.inference.stop_training import StopTraining as StopTraining
from pyro_vd.inference.training import Training as Training
from pyro_vd.model.count_likelihoods import NegativeBinomial as NegativeBinomial
from pyro_vd.model.count_likelihoods import Poisson as Poisson
from pyro_vd.model.lift import lift as lift
from pyro_vd.model.likelihoods import Bernoulli as Bernoulli
from pyro_vd.model.likelihoods import Categorical as Categorical
from pyro_vd.model.real_likelihoods import Gaussian as Gaussian
from pyro_vd.model.real_likelihoods import HeteroscedasticGaussian as HeteroscedasticGaussian
from pyro_vd.model.real_likelihoods import StudentT as StudentT
from pyro_vd.model.scheme_defaults import SchemeDefaults as SchemeDefaults
from pyro_vd.model.site_parameters import SiteParameters as SiteParameters
from pyro_vd.model.smoothed_categorical import SmoothedCategorical as SmoothedCategorical
from pyro_vd.model.weight_guide import WeightGuide as WeightGuide
from pyro_vd.posterior import Posterior as Posterior
from pyro_vd.posteriors import WeightNormal as WeightNormal
from pyro_vd.priors import L0 as L0
from pyro_vd.priors import EmpiricalBayes as EmpiricalBayes
from pyro_vd.priors import Flat as Flat
from pyro_vd.priors import GroupHorseshoe as GroupHorseshoe
from pyro_vd.priors import GroupNormalJeffreys as GroupNormalJeffreys
from pyro_vd.priors import HierarchicalNormal as HierarchicalNormal
from pyro_vd.priors import Horseshoe as Horseshoe
from pyro_vd.priors import LogUniform as LogUniform
from pyro_vd.priors import MonteCarloKL as MonteCarloKL
from pyro_vd.priors import TruncatedLogUniform as TruncatedLogUniform
from pyro_vd.priors import spike_and_slab as spike_and_slab
from pyro_vd.sparsify import Sparsified as Sparsified
from pyro_vd.sparsify import sparsify as sparsify
