"""LeNet-300-100 (LeCun et al. 1998): 784-300-100-10, 266,200 weights."""

from torch import Tensor, nn

__all__ = ["LeNet300"]


class LeNet300(nn.Module):
    """Fully connected network that maps (batch, 1, 28, 28) images to (batch, classes) logits.

    Args:
        classes: number of classes.
    """

    input_shape = (1, 28, 28)

    def __init__(self, classes: int = 10):
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x.flatten(1)).relu()
        logits: Tensor = self.fc3(self.fc2(x).relu())
        return logits
