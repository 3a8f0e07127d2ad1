"""Networks, one per file. NETWORKS maps the command line's names to their constructors."""

from collections.abc import Callable

from torch import nn

from models.cifar_cnn import cifar_cnn as cifar_cnn
from models.lenet5 import lenet5 as lenet5
from models.lenet300 import lenet300 as lenet300
from models.mlp import mlp as mlp
from models.resnet9 import resnet9 as resnet9
from models.vgg import vgg as vgg

NETWORKS: dict[str, Callable[..., nn.Module]] = {"lenet300": lenet300, "lenet5": lenet5}
