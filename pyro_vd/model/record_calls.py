"""record_calls: records the pyro.sample and pyro.param statements that run inside."""

from typing import Any

from pyro.poutine.messenger import Messenger
from torch.distributions import Distribution

__all__ = ["record_calls"]


class record_calls(Messenger):
    """Records the names of sample and param statements, and the distributions of observed sites. It changes nothing.

        >>> import pyro
        >>> import pyro.distributions as dist
        >>> with record_calls() as calls:
        ...     _ = pyro.sample("w", dist.Normal(0.0, 1.0))
        >>> calls.names
        ['w']

    Attributes:
        names: names of all statements, in the order in which they ran.
        observed: observed site -> its distribution, in the same order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.observed: dict[str, Distribution] = {}

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        self.names.append(msg["name"])
        if msg["is_observed"]:
            self.observed[msg["name"]] = msg["fn"]

    def _pyro_param(self, msg: dict[str, Any]) -> None:
        self.names.append(msg["name"])
