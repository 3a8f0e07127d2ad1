"""ParamStoreModule: a module whose parameters Pyro's own SVI finds, under names that no other module shares."""

import re
import secrets
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import pyro
import torch
from torch import nn

from pyro_vd.errors import UserError

__all__ = ["ParamStoreModule", "is_param_store_disabled", "param_store_disabled"]

_store_names: set[str] = set()  # of the modules that exist in this process
_param_store_disabled = ContextVar("_param_store_disabled", default=False)
DIVIDER = "$$$"  # pyro.module puts it between the name of a module and that of its parameter
STORE_NAME = re.compile(r"[\w.<>]+_pyro_vd_[0-9a-f]{12}")


class ParamStoreModule(nn.Module):
    """An nn.Module that offers its parameters to Pyro's parameter store under a name of its own.

    ``pyro.infer.SVI`` trains the parameters that pass through ``pyro.param``. So a guide made of plain nn.Parameters
    silently trains nothing. Pyro's store is global and keyed by name, so two modules of one name silently share
    parameters. A subclass must call :meth:`register_params` in ``forward``, which avoids both: it uses a name that is
    unique to the instance. A copy gets a new name, and the store's entries are deleted with the module. The name is
    unique among processes too: parameters from ``pyro.get_param_store().load`` belong to another instance and are
    refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self._claim_name()

    def __setstate__(self, state: dict[str, Any]) -> None:
        cast(Any, super()).__setstate__(state)  # PyTorch's has no types
        self._claim_name()

    def __getstate__(self) -> dict[str, Any]:
        for parameter in self.parameters():
            parameter.__dict__.pop("unconstrained", None)  # Pyro's weak reference cannot be pickled
        return self.__dict__

    def _claim_name(self) -> None:
        self._store_name = f"{type(self).__qualname__}_pyro_vd_{secrets.token_hex(6)}"
        _store_names.add(self._store_name)
        weakref.finalize(self, _forget, self._store_name)

    def register_params(self) -> None:
        """Passes every parameter through ``pyro.param``, unless the parameter store is disabled.

        Raises:
            UserError: if Pyro's store holds parameters of an instance that does not exist in this process.
        """
        if is_param_store_disabled():
            return
        store = pyro.get_param_store()
        _refuse_loaded(store)
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:  # pyro.module would warn about the user's frozen parameters at every step
                continue
            key = self._store_name + DIVIDER + name
            if key in store and store[key] is not parameter:  # load_state_dict(assign=True) replaced it
                store[key] = parameter
            pyro.param(key, parameter)


@contextmanager
def param_store_disabled() -> Iterator[None]:
    """Disables Pyro's parameter store inside the ``with`` block.

    It is for callers that run their own optimizer and project the parameters to their bounds.
    """
    token = _param_store_disabled.set(True)
    try:
        yield
    finally:
        _param_store_disabled.reset(token)


def is_param_store_disabled() -> bool:
    """Whether the caller trains the parameters instead of Pyro. This is always so during torch.export."""
    return _param_store_disabled.get() or torch.compiler.is_exporting()


def _refuse_loaded(store: Any) -> None:
    for key in store.keys():  # noqa: SIM118 (the store has keys, but is not a mapping)
        name = key.partition(DIVIDER)[0]
        if name not in _store_names and STORE_NAME.fullmatch(name):
            raise UserError(
                f"Pyro's parameter store holds {key!r} of another instance, perhaps by get_param_store().load(). "
                "It cannot be used for this pair. Call pyro.clear_param_store(), and save and load a pair by "
                "Posterior.save and Posterior.load"
            )


def _forget(name: str) -> None:
    _store_names.discard(name)
    store = pyro.get_param_store()
    for key in list(store.keys()):
        if key.startswith(name + DIVIDER):
            del store[key]
