"""Parameters or buffers keyed by dotted site names."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

__all__ = ["SiteParameters"]


class SiteParameters(nn.Module):
    """A mapping from site names such as ``fc1.weight`` to parameters, as nested modules.

    Floating-point values become parameters, others buffers.

    nn.ParameterDict refuses names with dots. Here the names in ``state_dict()`` are those of the network's
    ``named_parameters()``. The class has no methods ``items`` and ``keys``, because a network may have layers of these
    names.

    Example:
        >>> import torch
        >>> theta = SiteParameters({"fc1.weight": torch.zeros(2)})
        >>> list(theta), [name for name, _ in theta.named_parameters()]
        (['fc1.weight'], ['fc1.weight'])
    """

    def __init__(self, values: Mapping[str, Tensor]):
        super().__init__()
        self._names = tuple(values)
        for name, value in values.items():
            *path, leaf = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if value.is_floating_point():
                owner.register_parameter(leaf, nn.Parameter(value))
            else:
                owner.register_buffer(leaf, value)

    def __getitem__(self, name: str) -> Tensor:
        path, _, leaf = name.rpartition(".")
        value: Tensor = getattr(self.get_submodule(path), leaf)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
