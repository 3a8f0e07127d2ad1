"""The torch functions that are products of an input and a weight."""

import torch
import torch.nn.functional as F

__all__ = ["CONVOLUTIONS", "MATMULS"]

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MATMULS = (torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__)
