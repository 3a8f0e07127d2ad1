"""Trained posteriors as ArviZ data, how well a guide fits, and which of several models predicts best.

Every number is of weight draws, shared by all data points: under local reparameterization each data point has noise of
its own, and a log likelihood would not be that of the weights beside it.
"""

from pyro_vd.diagnostics.arviz_data import load, save, to_arviz
from pyro_vd.diagnostics.checks import (
    Check,
    Fit,
    LooResult,
    Rank,
    loo,
    posterior_predictive_check,
    psis_diagnostic,
    ranking,
)

__all__ = [
    "Check",
    "Fit",
    "LooResult",
    "Rank",
    "load",
    "loo",
    "posterior_predictive_check",
    "psis_diagnostic",
    "ranking",
    "save",
    "to_arviz",
]  # fmt: skip
