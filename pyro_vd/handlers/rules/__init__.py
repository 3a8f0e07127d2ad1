"""Local rules: what a noisy weight makes of an operation, by type of posterior. Importing this registers them."""

from pyro_vd.handlers.rules import attention as attention
from pyro_vd.handlers.rules import gaussian as gaussian
from pyro_vd.handlers.rules import input_noise as input_noise
