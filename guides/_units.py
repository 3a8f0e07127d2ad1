"""Which dimension of a weight counts the layer's inputs, and how many noise variables they have."""

from __future__ import annotations

from torch import nn

from pyro_vd.model.lift import LiftedModel

__all__ = ["input_dim", "noise_variables"]

INPUTS_SECOND = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
INPUTS_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def input_dim(model: LiftedModel, site: str) -> int:
    """The dimension of the weight at ``site`` that runs over input units or channels.

    Raises:
        ValueError: for anything but the weight of a linear, ungrouped convolution or transposed convolution layer,
            naming it.
    """
    dims = {_dim(model.net.get_submodule(path), attribute) for path, attribute in model.places[site]}
    if len(dims) > 1 or None in dims:
        raise ValueError(
            f"{site!r} is not the weight of a linear or ungrouped convolution layer, so it has no input units to share "
            "noise or alpha; leave it out of lift(select=...), or use a scheme with noise per weight"
        )
    return dims.pop()  # type: ignore[return-value]


def noise_variables(model: LiftedModel, channels: dict[str, int]) -> dict[str, int]:
    """Site -> number of noise variables: one per input unit or channel, or what ``channels`` says.

    Raises:
        ValueError: for a site that does not exist, or a number that does not divide the inputs.
    """
    unknown = sorted(channels.keys() - model.initial.keys())
    if unknown:
        raise ValueError(f"channels names {', '.join(unknown)}; the sites are {', '.join(model.initial)}")
    inputs = {site: weight.shape[input_dim(model, site)] for site, weight in model.initial.items()}
    for site, number in channels.items():
        if not isinstance(number, int) or number < 1 or inputs[site] % number:
            raise ValueError(f"channels[{site!r}] = {number} does not divide its {inputs[site]} inputs")
    return {**inputs, **channels}


def _dim(module: nn.Module, attribute: str) -> int | None:
    if attribute != "weight":
        return None
    if isinstance(module, INPUTS_FIRST):
        return 0
    return 1 if isinstance(module, INPUTS_SECOND) and getattr(module, "groups", 1) == 1 else None
