"""The priors in the tables, by the expression that a user writes."""

import pyro.distributions as dist
from torch.distributions import Distribution

from pyro_vd import EmpiricalBayes, Flat, Horseshoe, LogUniform, MonteCarloKL, spike_and_slab
from pyro_vd.priors import L0, GroupHorseshoe, GroupNormalJeffreys, TruncatedLogUniform

__all__ = ["NOISE_PRIORS", "PRIORS", "WEIGHT_PRIORS"]

SCALE = 0.1  # of the proper priors; about that of the weights of a trained network

WEIGHT_PRIORS: dict[str, Distribution] = {
    'LogUniform("molchanov")': LogUniform("molchanov"),
    'LogUniform("exact")': LogUniform("exact"),
    "EmpiricalBayes()": EmpiricalBayes(),
    'EmpiricalBayes("unit")': EmpiricalBayes("unit"),
    'EmpiricalBayes("layer")': EmpiricalBayes("layer"),
    "Normal": dist.Normal(0.0, SCALE),
    "Laplace": dist.Laplace(0.0, SCALE),
    "MonteCarloKL(StudentT)": MonteCarloKL(dist.StudentT(3.0, 0.0, SCALE)),
    "MonteCarloKL(Horseshoe)": MonteCarloKL(Horseshoe(SCALE)),
    "MonteCarloKL(spike_and_slab)": MonteCarloKL(spike_and_slab(slab=10 * SCALE, spike=SCALE / 10)),
}
NOISE_PRIORS: dict[str, Distribution] = {
    "GroupNormalJeffreys": GroupNormalJeffreys(),
    "GroupHorseshoe": GroupHorseshoe(),
    "TruncatedLogUniform": TruncatedLogUniform(),
    "L0": L0(),
}
PRIORS: dict[str, Distribution] = {
    "Flat": Flat(),
    'LogUniform("kingma")': LogUniform("kingma"),
    **WEIGHT_PRIORS,
    **NOISE_PRIORS,
}
