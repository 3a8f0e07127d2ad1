"""Effect handlers. README.md in this folder says what is hard about them."""

from pyro_vd.handlers import rules as rules  # registers the local rules
from pyro_vd.handlers.flipout import flipout as flipout
from pyro_vd.handlers.kl_weight import kl_weight as kl_weight
from pyro_vd.handlers.local_reparam import local_reparam as local_reparam
from pyro_vd.handlers.matmul_precision import matmul_precision as matmul_precision
from pyro_vd.handlers.posterior_mean import posterior_mean as posterior_mean
from pyro_vd.handlers.rules.noisy_weight import NoisyWeight as NoisyWeight
from pyro_vd.handlers.rules.noisy_weight import NoLocalRule as NoLocalRule
from pyro_vd.handlers.rules.noisy_weight import register_local as register_local
