"""Optimizers of ``fit`` as values: frozen dataclasses that can be compared, stored and written down.

>>> from pyro_vd import Training, optim
>>> Training(epochs=5, lr=0.1, optimizer=optim.SGD(momentum=0.9)).optimizer
SGD(momentum=0.9, nesterov=False, weight_decay=0.0)
"""

from pyro_vd.optim.adam import Adam as Adam
from pyro_vd.optim.adam import AdamW as AdamW
from pyro_vd.optim.dessilbi import DessiLBI as DessiLBI
from pyro_vd.optim.dessilbi import DessiLBIAdam as DessiLBIAdam
from pyro_vd.optim.dessilbi import TorchDessiLBI as TorchDessiLBI
from pyro_vd.optim.dessilbi import TorchDessiLBIAdam as TorchDessiLBIAdam
from pyro_vd.optim.dessilbi_path import entry_epochs as entry_epochs
from pyro_vd.optim.dessilbi_path import path_scores as path_scores
from pyro_vd.optim.dessilbi_path import support_masks as support_masks
from pyro_vd.optim.dessilbi_path import unit_masks as unit_masks
from pyro_vd.optim.optimizer import Optimizer as Optimizer
from pyro_vd.optim.optimizer import TorchFactory as TorchFactory
from pyro_vd.optim.optimizer import check_optimizer as check_optimizer
from pyro_vd.optim.optimizer import optimizer_name as optimizer_name
from pyro_vd.optim.sgd import SGD as SGD
