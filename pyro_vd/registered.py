"""Modules whose parameters stock pyro.infer.SVI finds, without sharing them with any other module."""

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pyro
import torch
from torch import nn

__all__ = ["Registered", "is_owned", "owned"]

_serial = itertools.count()
_owned = ContextVar("_owned", default=False)
DIVIDER = "$$$"  # what pyro.module puts between a module's name and its parameters'


class Registered(nn.Module):
    """An nn.Module that offers its parameters to Pyro's parameter store under a name of its own.

    ``pyro.infer.SVI`` trains what passes ``pyro.param``, so a guide made of plain nn.Parameters trains nothing,
    silently. Pyro's store is global and keyed by name, so two modules of one name share parameters, silently too.
    Calling :meth:`register` inside ``forward`` under a name unique to the instance avoids both. A copy gets a new
    name, and the names go when the module dies.
    """

    def __init__(self) -> None:
        super().__init__()
        self._claim_name()

    def __setstate__(self, state) -> None:
        super().__setstate__(state)
        self._claim_name()

    def _claim_name(self) -> None:
        self._store_name = f"{type(self).__qualname__}_{next(_serial)}"
        weakref.finalize(self, _forget, self._store_name)

    def register(self) -> None:
        """Passes every parameter through ``pyro.param``, unless who calls owns them."""
        if is_owned():
            return
        store = pyro.get_param_store()
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:  # pyro.module would warn about the user's frozen parameters at every step
                continue
            key = self._store_name + DIVIDER + name
            if key in store and store[key] is not parameter:  # load_state_dict(assign=True) put another one here
                store[key] = parameter
            pyro.param(key, parameter)


@contextmanager
def owned() -> Iterator[None]:
    """For who steps the parameters itself and keeps them in their bounds: inside, Pyro's store is left alone."""
    token = _owned.set(True)
    try:
        yield
    finally:
        _owned.reset(token)


def is_owned() -> bool:
    """Whether somebody else than Pyro's optimiser steps the parameters; an exported program always is such."""
    return _owned.get() or torch.compiler.is_exporting()


def _forget(name: str) -> None:
    store = pyro.get_param_store()
    for key in list(store.keys()):
        if key.startswith(name + DIVIDER):
            del store[key]
