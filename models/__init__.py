"""Networks, one per file. NETWORKS maps the command line's names to their constructors."""

from collections.abc import Callable

if __name__ != "pyro_vd.models":
    raise ImportError("the package is pyro_vd.models: from pyro_vd import models")

from torch import nn

from pyro_vd.models.cifar_cnn import cifar_cnn as cifar_cnn
from pyro_vd.models.lenet5 import lenet5 as lenet5
from pyro_vd.models.lenet300 import lenet300 as lenet300
from pyro_vd.models.mlp import mlp as mlp
from pyro_vd.models.resnet9 import resnet9 as resnet9
from pyro_vd.models.vgg import vgg as vgg

NETWORKS: dict[str, Callable[..., nn.Module]] = {"lenet300": lenet300, "lenet5": lenet5}
