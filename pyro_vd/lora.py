r"""Ranks of LoRA adapters of PEFT: which weights get the noise, and adapters without the ranks that are 0.

A LoRA layer adds :math:`s B A x` to the output of a frozen layer (Hu et al. 2021). Rank j is row j of A and column j of
B, so it is input unit j of B, and noise on the input units of B is noise on ranks. A stays a point parameter: a factor
of its row j would be a second factor of the same rank.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_network
from pyro_vd.errors import UserError

__all__ = ["count_ranks", "select_ranks", "shrink_ranks"]

# Other kinds of LoRA layers of PEFT -> why their ranks cannot be selected. Their products are not B(A(x)).
OTHER_LAYERS = {
    "ParamWrapper": "it adapts a bare parameter (target_parameters)",
    "MultiheadAttention": "it merges the adapter into torch.nn.MultiheadAttention at every call",
}
# Values of init_lora_weights that leave the weights of the network as they are; the others subtract the initial BA.
KNOWN_INITS = (True, False, "gaussian", "eva", "orthogonal")

LINEAR_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Taken = dict[tuple[int, ...], tuple[nn.Parameter, nn.Parameter]]
"""Old weight, dimension and ranks -> the old weight, which must live as long as its id, and the new one."""


def select_ranks(net: nn.Module, adapter: str = "default") -> list[str]:
    """Names of the weights whose input units are the ranks of an adapter, for ``lift(select=...)``.

    With ``guides.hierarchical_a`` or ``guides.group_normal_jeffreys``, every rank then has one noise variable. A new
    adapter, whose B is 0, trains: the noise is a factor of the weights, so it does not depend on them.

    Args:
        net: a ``PeftModel``, or a network that holds one or more, with the adapter active. Dropout in the adapter,
            ``rank_pattern``, ``use_rslora``, ``lora_bias`` and ``modules_to_save`` need no care.
        adapter: the adapter's name; other adapters stay as they are.

    Returns:
        The names of the adapter's ``lora_B`` weights, of linear and convolution layers.

    Raises:
        UserError: for a network without this adapter; for an adapter that is not LoRA, is not active, is merged or is
            frozen; and for layers with DoRA or another variant, of an embedding, of a bare parameter, of grouped
            convolutions, or initialized from the weights of the network (PiSSA, OLoRA), naming the first one.

    Example:
        >>> import peft
        >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> net = peft.get_peft_model(net, peft.LoraConfig(r=3, target_modules=["0", "2"]))
        >>> select_ranks(net)
        ['base_model.model.0.lora_B.default.weight', 'base_model.model.2.lora_B.default.weight']
    """
    models = _find_models(net, adapter, "select_ranks")
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    selected: dict[str, None] = {}  # a tied weight once
    for model in models:
        for name, layer in _find_layers(model, adapter, "select_ranks").items():
            weight = layer.lora_B[adapter].weight
            if layer.disable_adapters or adapter not in layer.active_adapters:
                raise UserError(f"select_ranks: adapter {adapter!r} is not active; call set_adapter({adapter!r}) first")
            if not weight.requires_grad:
                raise UserError(
                    f"select_ranks: {name!r} is frozen; load the adapter with is_trainable=True, or call "
                    f"set_adapter({adapter!r})"
                )
            selected[names[id(weight)]] = None
    return list(selected)


def count_ranks(net: nn.Module, adapter: str = "default") -> dict[str, int]:
    """Name of every layer that the adapter changes -> its number of ranks.

    Raises:
        UserError: as :func:`shrink_ranks`.

    Example:
        >>> import peft
        >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> count_ranks(peft.get_peft_model(net, peft.LoraConfig(r=3, target_modules=["0", "2"])))
        {'base_model.model.0': 3, 'base_model.model.2': 3}
    """
    layers = {
        id(layer): layer.r[adapter]
        for model in _find_models(net, adapter, "count_ranks")
        for layer in _find_layers(model, adapter, "count_ranks").values()
    }
    return {name: layers[id(module)] for name, module in net.named_modules() if id(module) in layers}


@torch.no_grad()
def shrink_ranks(net: nn.Module, adapter: str = "default") -> nn.Module:
    """A copy in eval mode whose adapter has lost the ranks with a column of zeros in B; its outputs are the same.

    The configuration gets the ranks as ``rank_pattern``, and the scales as ``alpha_pattern``, so that
    ``save_pretrained`` writes a smaller adapter that ``PeftModel.from_pretrained`` loads. A layer without a rank leaves
    the adapter. With ``lora_bias`` it keeps one rank of zeros, which carries the bias.

    Args:
        net: a pruned network, as :meth:`Posterior.mean <pyro_vd.Posterior.mean>` returns it.
        adapter: the adapter's name; other adapters stay as they are.

    Raises:
        UserError: if no rank is left in the whole adapter, for a network that cannot be copied, and for adapters and
            layers that :func:`select_ranks` refuses, except those that are not active or frozen.

    Example:
        >>> import peft
        >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> config = peft.LoraConfig(r=3, target_modules=["0", "2"], init_lora_weights=False)
        >>> net = peft.get_peft_model(net, config)
        >>> _ = nn.init.zeros_(net.get_parameter(select_ranks(net)[0])[:, :2])
        >>> count_ranks(shrink_ranks(net))
        {'base_model.model.0': 1, 'base_model.model.2': 3}
    """
    for model in _find_models(net, adapter, "shrink_ranks"):
        _find_live(model, adapter)  # refuses before the copy
    small = copy_network(net, "shrink_ranks")
    for model in _find_models(small, adapter, "shrink_ranks"):
        _shrink_model(model, adapter)
    return small.eval()


def _shrink_model(model: Any, adapter: str) -> None:
    layers = _find_layers(model, adapter, "shrink_ranks")
    live = _find_live(model, adapter)
    taken: Taken = {}
    for name, layer in layers.items():
        if len(live[name]):
            _keep_ranks(layer, adapter, live[name], taken)
        else:
            _remove_layer(model, layer, adapter)
    emptied = {name for name, ranks in live.items() if not len(ranks)}
    _write_patterns(model, adapter, {name: layer for name, layer in layers.items() if name not in emptied}, emptied)


def _find_live(model: Any, adapter: str) -> dict[str, Tensor]:
    """Layer -> numbers of the ranks that stay."""
    live = {}
    for name, layer in _find_layers(model, adapter, "shrink_ranks").items():
        up = layer.lora_B[adapter]
        columns = up.weight.transpose(0, 1).flatten(1).any(1)
        if up.bias is not None and not bool(columns.any()):
            columns[0] = True
        live[name] = columns.nonzero()[:, 0]
    if not any(map(len, live.values())):
        raise UserError(
            f"shrink_ranks: all ranks of adapter {adapter!r} are 0, so nothing is left to save; prune at a higher "
            "threshold, or use get_base_model().unload() of the PeftModel"
        )
    return live


def _keep_ranks(layer: Any, adapter: str, ranks: Tensor, taken: Taken) -> None:
    """Takes these ranks of A and B; tied weights stay tied."""
    _take(layer.lora_A[adapter], 0, ranks, taken)
    _take(layer.lora_B[adapter], 1, ranks, taken)
    number = len(ranks)
    layer.r[adapter] = number
    layer.lora_alpha[adapter] = layer.scaling[adapter] * (math.sqrt(number) if layer.use_rslora[adapter] else number)


def _take(module: Any, dim: int, ranks: Tensor, taken: Taken) -> None:
    """Takes these rows (dim 0) or columns (dim 1) of the module's weight."""
    old = module.weight
    key = id(old), dim, *ranks.tolist()
    if key not in taken:
        taken[key] = old, nn.Parameter(old.index_select(dim, ranks), requires_grad=old.requires_grad)
    module.weight = taken[key][1]
    linear = isinstance(module, nn.Linear)
    sizes = ("out_features", "in_features") if linear else ("out_channels", "in_channels")
    setattr(module, sizes[dim], len(ranks))


def _remove_layer(model: Any, layer: Any, adapter: str) -> None:
    """Takes the adapter out of the layer; a layer without any adapter becomes the one it was made from."""
    for name in (*layer.adapter_layer_names, *layer.other_param_names):
        if adapter in getattr(layer, name):
            del getattr(layer, name)[adapter]
    if layer.r:
        return
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is layer:
                parent._modules[name] = layer.get_base_layer()


def _write_patterns(model: Any, adapter: str, layers: dict[str, Any], emptied: set[str]) -> None:
    """Makes the configuration that of these layers. PEFT reads its names as regular expressions."""
    config = model.peft_config[adapter]
    config.rank_pattern = {f"^{re.escape(name)}": layer.r[adapter] for name, layer in layers.items()}
    config.alpha_pattern = {f"^{re.escape(name)}": layer.lora_alpha[adapter] for name, layer in layers.items()}
    config.init_lora_weights = True  # the file has the weights; "orthogonal" would need even ranks
    if emptied:
        config.target_modules = "|".join(map(re.escape, layers))
        config.layers_to_transform = config.layers_pattern = None  # for lists of targets only
        tuner = model.base_model
        tuner.targeted_module_names = [name for name in tuner.targeted_module_names if name not in emptied]


def _find_models(net: nn.Module, adapter: str, caller: str) -> list[Any]:
    """The PeftModels in the network with this adapter.

    Raises:
        UserError: if there is none, or if the adapter is not LoRA that can be shrunk.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"{caller}: net must be an nn.Module, not {type(net).__name__}")
    peft = _import_peft(caller)
    models = [module for module in net.modules() if isinstance(module, peft.PeftModel)]
    found = [model for model in models if adapter in model.peft_config]
    if not found:
        known = ", ".join(sorted({repr(name) for model in models for name in model.peft_config}))
        raise UserError(
            f"{caller}: {type(net).__name__} has no adapter {adapter!r}"
            + (f"; its adapters are {known}" if models else "; it holds no PeftModel, see peft.get_peft_model")
        )
    for model in found:
        config = model.peft_config[adapter]
        if config.peft_type != peft.PeftType.LORA:
            raise UserError(f"{caller}: adapter {adapter!r} is {config.peft_type.value}, not LoRA, and has no ranks")
        if config.init_lora_weights not in KNOWN_INITS:
            raise UserError(
                f"{caller}: adapter {adapter!r} has init_lora_weights={config.init_lora_weights!r}, which changes the "
                "weights of the network by all initial ranks; use one of True, False, 'gaussian', 'eva', 'orthogonal'"
            )
    return found


def _find_layers(model: Any, adapter: str, caller: str) -> dict[str, Any]:
    """Name in the base network -> every LoRA layer with the adapter.

    Raises:
        UserError: for a layer whose ranks are not input units of B, naming it and why.
    """
    layer_type = _import_peft(caller).tuners.lora.LoraLayer
    layers = {
        name: layer
        for name, layer in model.base_model.model.named_modules()
        if isinstance(layer, layer_type) and adapter in layer.r
    }
    for name, layer in layers.items():
        reason = _refusal(layer, adapter)
        if reason:
            raise UserError(f"{caller}: {name!r} of adapter {adapter!r}: {reason}")
    return layers


def _refusal(layer: Any, adapter: str) -> str:
    """Why the ranks of the layer cannot be selected; empty if they can."""
    kind = type(layer).__name__
    if adapter in layer.lora_variant:
        return f"{type(layer.lora_variant[adapter]).__name__} is a variant of LoRA; set use_dora and the like to False"
    if adapter in layer.lora_embedding_A:
        return "it adapts an embedding; leave embeddings out of target_modules"
    if kind in OTHER_LAYERS:
        return f"{OTHER_LAYERS[kind]}; leave it out of the adapter"
    if not isinstance(layer.lora_B[adapter], LINEAR_LAYERS) or getattr(layer.lora_B[adapter], "groups", 1) != 1:
        return f"its B is a {layer.lora_B[adapter]}; only linear layers and ungrouped convolutions are known"
    if layer.merged:
        return "the adapter is merged into its weight; call unmerge_adapter() first"
    return ""


def _import_peft(caller: str) -> Any:
    try:
        import peft  # an optional package, which takes seconds to import
    except ModuleNotFoundError:
        raise UserError(f"{caller}: needs peft; pip install 'pyro-vd[lora]'") from None
    return peft
