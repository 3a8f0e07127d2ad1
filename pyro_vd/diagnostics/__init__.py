"""Trained posteriors as ArviZ data, how well a guide fits, and which of several models predicts best.

Every number is of weight draws, shared by all data points: under local reparameterization each data point has noise of
its own, and a log likelihood would not be that of the weights beside it.
"""

from pyro_vd.diagnostics.arviz_data import load, save, to_arviz
from pyro_vd.diagnostics.checks import Check, Fit, LeftOut, Rank, fit_of_guide, leave_one_out, predictive_check, ranking

__all__ = [
    "Check", "Fit", "LeftOut", "Rank", "fit_of_guide", "leave_one_out", "load", "predictive_check", "ranking", "save",
    "to_arviz",
]  # fmt: skip
