"""Networks, one per file, and NETWORKS, which finds them by name.

>>> from pyro_vd.models import NETWORKS
>>> type(NETWORKS["lenet300"](classes=10)).__name__
'LeNet300'
"""

if __name__ != "pyro_vd.models":
    raise ImportError("the package is pyro_vd.models: from pyro_vd import models")

from collections.abc import Callable

from torch import nn

from pyro_vd.models.cifar_basic import CifarBasic as CifarBasic
from pyro_vd.models.cifar_cnn import CifarCNN as CifarCNN
from pyro_vd.models.cifar_lenet import CifarLeNet as CifarLeNet
from pyro_vd.models.lenet5 import LeNet5 as LeNet5
from pyro_vd.models.lenet300 import LeNet300 as LeNet300
from pyro_vd.models.lenet1998 import LeNet1998 as LeNet1998
from pyro_vd.models.mlp import MLP as MLP
from pyro_vd.models.resnet9 import ResNet9 as ResNet9
from pyro_vd.models.vgg import VGG as VGG
from pyro_vd.models.vgg_a import VGGA as VGGA

# Name on the command line and in records -> constructor, whose first argument is the number of classes.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet300": LeNet300,
    "lenet5": LeNet5,
    "lenet1998": LeNet1998,
    "mlp": MLP,
    "vgg": VGG,
    "vgg_a": VGGA,
    "cifar_cnn": CifarCNN,
    "cifar_lenet": CifarLeNet,
    "cifar_basic": CifarBasic,
    "resnet9": ResNet9,
}
