"""Posteriors as ArviZ data, the fit of a guide, comparison of models, posterior predictive checks, and certificates.

All numbers come from draws of the weights that are shared by all examples. They are not computed under local
reparameterization: there, each example has its own noise, and a log likelihood would not belong to the weights of its
draw.
"""

from pyro_vd.diagnostics.arviz_data import to_arviz as to_arviz
from pyro_vd.diagnostics.comparison import LooResult as LooResult
from pyro_vd.diagnostics.comparison import ModelRank as ModelRank
from pyro_vd.diagnostics.comparison import compare as compare
from pyro_vd.diagnostics.comparison import loo as loo
from pyro_vd.diagnostics.netcdf import load as load
from pyro_vd.diagnostics.netcdf import save as save
from pyro_vd.diagnostics.predictive_check import PosteriorPredictiveCheck as PosteriorPredictiveCheck
from pyro_vd.diagnostics.predictive_check import posterior_predictive_check as posterior_predictive_check
from pyro_vd.diagnostics.psis import PSISDiagnostic as PSISDiagnostic
from pyro_vd.diagnostics.psis import psis_diagnostic as psis_diagnostic
from pyro_vd.diagnostics.risk_certificate import Certificate as Certificate
from pyro_vd.diagnostics.risk_certificate import certificate as certificate
