"""Modules whose parameters stock pyro.infer.SVI finds, without sharing them with any other module."""

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

_live: set[str] = set()  # store names of the modules that exist
_owned = ContextVar("_owned", default=False)
DIVIDER = "$$$"  # what pyro.module puts between a module's name and its parameters'
STORE_NAME = re.compile(r"[\w.<>]+_pyro_vd_[0-9a-f]{12}")


class ParamStoreModule(nn.Module):
    """An nn.Module that offers its parameters to Pyro's parameter store under a name of its own.

    ``pyro.infer.SVI`` trains what passes ``pyro.param``, so a guide made of plain nn.Parameters trains nothing,
    silently. Pyro's store is global and keyed by name, so two modules of one name share parameters, silently too.
    Calling :meth:`register` inside ``forward`` under a name unique to the instance avoids both. A copy gets a new
    name, and the names go when the module dies. The name is unique among processes too: what
    ``pyro.get_param_store().load`` brings is of another instance and is refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self._claim_name()

    def __setstate__(self, state: dict[str, Any]) -> None:
        cast(Any, super()).__setstate__(state)  # PyTorch's has no types
        self._claim_name()

    def __getstate__(self) -> dict[str, Any]:
        for parameter in self.parameters():
            parameter.__dict__.pop("unconstrained", None)  # Pyro's weak reference, which cannot be pickled
        return self.__dict__

    def _claim_name(self) -> None:
        self._store_name = f"{type(self).__qualname__}_pyro_vd_{secrets.token_hex(6)}"
        _live.add(self._store_name)
        weakref.finalize(self, _forget, self._store_name)

    def register_params(self) -> None:
        """Passes every parameter through ``pyro.param``, unless who calls owns them.

        Raises:
            UserError: if Pyro's store holds parameters of an instance that does not exist here.
        """
        if is_param_store_disabled():
            return
        store = pyro.get_param_store()
        _refuse_loaded(store)
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:  # pyro.module would warn about the user's frozen parameters at every step
                continue
            key = self._store_name + DIVIDER + name
            if key in store and store[key] is not parameter:  # load_state_dict(assign=True) put another one here
                store[key] = parameter
            pyro.param(key, parameter)


@contextmanager
def param_store_disabled() -> Iterator[None]:
    """For who steps the parameters itself and keeps them in their bounds: inside, Pyro's store is left alone."""
    token = _owned.set(True)
    try:
        yield
    finally:
        _owned.reset(token)


def is_param_store_disabled() -> bool:
    """Whether somebody else than Pyro's optimiser steps the parameters; an exported program always is such."""
    return _owned.get() or torch.compiler.is_exporting()


def _refuse_loaded(store: Any) -> None:
    for key in store.keys():  # noqa: SIM118 (a store has keys, it is no mapping)
        name = key.partition(DIVIDER)[0]
        if name not in _live and STORE_NAME.fullmatch(name):
            raise UserError(
                f"Pyro's parameter store holds {key!r} of another instance, as get_param_store().load() leaves it; it "
                "cannot fill this pair. Call pyro.clear_param_store(), and save and load a pair by Posterior.save and "
                "Posterior.load"
            )


def _forget(name: str) -> None:
    _live.discard(name)
    store = pyro.get_param_store()
    for key in list(store.keys()):
        if key.startswith(name + DIVIDER):
            del store[key]
