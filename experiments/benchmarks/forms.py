"""A compressed network, loaded from beside its record, and the forms in which it can run in PyTorch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import scipy.sparse
import torch
from torch import Tensor, nn

from pyro_vd import compress
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.factory import build, import_factory
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["Form", "SciPyLinear", "SparseLinear", "find_factory", "load_compressed", "mask_smallest",
           "read_run", "to_csr", "to_sparse"]  # fmt: skip


def read_run(path: Path) -> Run:
    """The run whose record is at ``path``.

    Raises:
        UserError: if there is none, or if it is not that of a compressed network.
    """
    run = Store(path.parent).read(path)
    if "deployment" not in run.record:
        raise UserError(f"{path}: not a record of a compressed network")
    return run


def find_factory(run: Run, factory: str | None = None) -> Callable[..., nn.Module]:
    """The constructor of the run's network, which takes the number of classes.

    Args:
        run: of a compressed network.
        factory: package.module:function, required for a network of the user. The spec names it too, but code named
            in a file is not run without being asked for.

    Raises:
        UserError: if a factory is required, or if it is not that of the spec.
    """
    name = run.spec.network
    if factory is None and ":" in name:
        raise UserError(f"the record is of a network of your own; give --factory {name}")
    if factory is None:
        return network_maker(run.spec)
    if factory != name:
        raise UserError(f"--factory {factory}: the record is of {name}")
    make = import_factory(factory)
    return lambda classes=10: build(make, factory)


def load_compressed(run: Run, make: Callable[..., nn.Module]) -> nn.Module:
    """The compressed network of the run, in eval mode, with the layer sizes of the file.

    Args:
        make: from :func:`find_factory`.
    """
    return compress.load(run.beside(".safetensors.xz"), make()).eval()


@dataclass(frozen=True)
class Form:
    """A network in one form.

    Attributes:
        run: images to logits.
        bytes: size of its file.
        macs: multiplications for one image.
    """

    run: Callable[[Tensor], Tensor]
    bytes: int
    macs: int


def to_csr(matrix: Tensor) -> Tensor:
    """The matrix as PyTorch's compressed sparse rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


class SparseLinear(nn.Module):
    """A linear layer whose weight is a PyTorch matrix of compressed sparse rows."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.weight = to_csr(layer.weight.detach())
        self.bias = layer.bias
        self.selected = getattr(layer, "selected", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.selected is not None:
            x = x.index_select(-1, self.selected)
        products = self.products(x.flatten(0, -2)).reshape(*x.shape[:-1], -1)
        return products if self.bias is None else products + self.bias

    def products(self, x: Tensor) -> Tensor:
        """Products of the weight with a matrix that has one input per row."""
        return (self.weight @ x.t()).t()


class SciPyLinear(SparseLinear):
    """A linear layer whose weight is a SciPy matrix of compressed sparse rows."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer)
        self.matrix = scipy.sparse.csr_array(layer.weight.detach().numpy())

    def products(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix @ x.numpy().T).t()


def to_sparse(net: nn.Module, kind: type[SparseLinear]) -> nn.Module:
    """A copy with sparse matrices in its linear layers.

    Convolutions stay dense: neither library has sparse ones. So do subclasses of linear layers, whose weights other
    modules may read, as attention does.
    """
    sparse = copy.deepcopy(net)
    for name, layer in list(sparse.named_modules()):
        if type(layer) in (nn.Linear, compress.SelectedLinear):
            sparse.set_submodule(name, kind(layer))
    return sparse


def mask_smallest(net: nn.Module, sparsity: dict[str, float]) -> nn.Module:
    """A copy whose smallest weights are zero, as many per layer as in the compressed network."""
    scores = {site: net.get_parameter(site).detach().abs() for site in sparsity}
    masks = {site: compress.top_k_masks({site: scores[site]}, share)[site] for site, share in sparsity.items()}
    return compress.prune(net, masks)
