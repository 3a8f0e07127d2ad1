"""Effect handlers. README.md in this folder says what is hard about them."""

from pyro_vd.handlers import attention_rules as attention_rules  # registers the local rule of attention
from pyro_vd.handlers import gaussian_rules as gaussian_rules  # the Gaussian ones
from pyro_vd.handlers import input_rules as input_rules  # and those of input noise
from pyro_vd.handlers.flipout import flipout as flipout
from pyro_vd.handlers.kl_weight import kl_weight as kl_weight
from pyro_vd.handlers.local_reparam import local_reparam as local_reparam
from pyro_vd.handlers.noisy_weight import NoisyWeight as NoisyWeight
from pyro_vd.handlers.noisy_weight import NoLocalRule as NoLocalRule
from pyro_vd.handlers.noisy_weight import register_local as register_local
from pyro_vd.handlers.posterior_mean import posterior_mean as posterior_mean
from pyro_vd.handlers.precision import products_in as products_in
