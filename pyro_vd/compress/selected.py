"""A linear layer that reads some of its inputs, where the others are not a layer's to leave out."""

from torch import Tensor, nn

__all__ = ["SelectedLinear"]


class SelectedLinear(nn.Linear):
    """``linear(x[:, selected])``.

    Args:
        selected: indices of those inputs, int64.
    """

    selected: Tensor

    def __init__(self, selected: Tensor, out_features: int, bias: bool = True):
        super().__init__(len(selected), out_features, bias)
        self.register_buffer("selected", selected.clone())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.read(x))

    def read(self, x: Tensor) -> Tensor:
        """The inputs that the layer reads."""
        return x.index_select(-1, self.selected)
