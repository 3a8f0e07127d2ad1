"""Metrics of classification and regression: error, proper scores, calibration, predictive uncertainty."""

from pyro_vd.metrics.calibration import Reliability as Reliability
from pyro_vd.metrics.calibration import expected_calibration_error as expected_calibration_error
from pyro_vd.metrics.calibration import reliability as reliability
from pyro_vd.metrics.predictions import compute_logits as compute_logits
from pyro_vd.metrics.predictions import predictive_probabilities as predictive_probabilities
from pyro_vd.metrics.regression import PredictiveVariance as PredictiveVariance
from pyro_vd.metrics.regression import coverage as coverage
from pyro_vd.metrics.regression import crps as crps
from pyro_vd.metrics.regression import interval_width as interval_width
from pyro_vd.metrics.regression import log_predictive_density as log_predictive_density
from pyro_vd.metrics.regression import predictive_variance as predictive_variance
from pyro_vd.metrics.regression import rmse as rmse
from pyro_vd.metrics.scores import brier_score as brier_score
from pyro_vd.metrics.scores import error_rate as error_rate
from pyro_vd.metrics.scores import log_score as log_score
from pyro_vd.metrics.temperature import Temperature as Temperature
from pyro_vd.metrics.temperature import fit_temperature as fit_temperature
from pyro_vd.metrics.uncertainty import Uncertainty as Uncertainty
from pyro_vd.metrics.uncertainty import auroc as auroc
from pyro_vd.metrics.uncertainty import predictive_uncertainty as predictive_uncertainty
from pyro_vd.metrics.uncertainty import risk_coverage_curve as risk_coverage_curve
