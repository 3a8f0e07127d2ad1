"""A linear layer that reads some of its inputs, for inputs that the layers before it cannot leave out."""

from torch import Tensor, nn

__all__ = ["SelectedLinear"]


class SelectedLinear(nn.Linear):
    """``linear(x[:, selected])``.

    Args:
        selected: indices of the inputs that the layer reads, (in_features,), int64.
        out_features: number of outputs.
        bias: whether the layer has a bias.
    """

    selected: Tensor

    def __init__(self, selected: Tensor, out_features: int, bias: bool = True):
        super().__init__(len(selected), out_features, bias)
        self.register_buffer("selected", selected.clone())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.read(x))

    def read(self, x: Tensor) -> Tensor:
        """The inputs that the layer reads: (batch, inputs) -> (batch, in_features)."""
        return x.index_select(-1, self.selected)
