"""A log density that does not exist, as an object that refuses to become a number."""

import torch

__all__ = ["NoDensity"]


class NoDensity:
    """Stands where a log density would stand and raises, naming its distribution, when something needs the value.

    Pyro's TraceMeanField_ELBO asks every prior for its log density and then does not use it where a KL is
    registered. Raising at once would refuse that objective too, and NaN would let Trace_ELBO run on nonsense. So
    what a trace does to a log density (sum, reshape, scale, look for NaN) passes, and adding it to an objective
    does not.
    """

    def __init__(self, owner: str, shape):
        self.owner = owner
        self.shape = torch.Size(shape)

    def sum(self, dim=None) -> "NoDensity":
        return NoDensity(self.owner, self.shape[:-1] if dim == -1 else ())

    def reshape(self, *shape) -> "NoDensity":
        return NoDensity(self.owner, torch.empty(self.shape, device="meta").reshape(*shape).shape)

    def __mul__(self, scale) -> "NoDensity":
        return self

    def __eq__(self, other):  # Pyro's validation asks whether a log density equals infinity
        return torch.tensor(False)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.isnan, torch.isinf):
            return torch.tensor(False)
        return next(arg for arg in args if isinstance(arg, cls))._refuse()

    def _refuse(self, *_):
        raise NotImplementedError(
            f"{self.owner} has no density over weights, so a sampled KL cannot use it: train with a prior whose KL is "
            "in closed form, by pyro_vd.AnalyticELBO or pyro.infer.TraceMeanField_ELBO"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = __float__ = item = _refuse
