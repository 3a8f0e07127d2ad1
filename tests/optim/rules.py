"""Steps of a rule beside those of torch's optimizer, and an optimizer of a user's own."""

from dataclasses import dataclass

import torch
from torch import nn

from pyro_vd.optim import Optimizer


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """An optimizer as a user writes it: not fused, with a count of steps on the CPU."""

    alpha: float = 0.99
    weight_decay: float = 0.0

    def make(self, groups):
        return torch.optim.RMSprop(groups, alpha=self.alpha, eps=1e-8, weight_decay=self.weight_decay)

    def init_state(self, parameter):
        return {"step": torch.zeros(()), "square_avg": torch.zeros_like(parameter, requires_grad=False)}

    def step(self, parameter, gradient, state, lr):
        gradient = gradient + self.weight_decay * parameter
        square_avg = torch.lerp(gradient**2, state["square_avg"], self.alpha)
        parameter = parameter - lr * gradient / (square_avg.sqrt() + 1e-8)
        return parameter, {"step": state["step"] + 1, "square_avg": square_avg}


def check_rule(optimizer, reference, dtype=torch.float32, scale=1.0, steps=200):
    """``optimizer.step`` and ``optimizer.make`` against ``reference(groups)``, a torch optimizer made by hand, at a
    learning rate that changes. The first steps have corrections near 0; at small gradients an epsilon counts."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(50, dtype=dtype, generator=generator)
    expected, eager = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    value, state = start.clone(), optimizer.init_state(start)
    by_hand, made = reference([{"params": [expected], "lr": 0.01}]), optimizer.make([{"params": [eager], "lr": 0.01}])
    made.state[eager].update(optimizer.init_state(eager))
    for i in range(steps):
        lr = 0.01 * (1 - i / steps)
        by_hand.param_groups[0]["lr"] = made.param_groups[0]["lr"] = lr
        gradient = scale * torch.randn(50, dtype=dtype, generator=generator)
        expected.grad, eager.grad = gradient.clone(), gradient.clone()
        by_hand.step()
        made.step()
        before = {key: tensor.clone() for key, tensor in state.items()}
        value, new = optimizer.step(value, gradient, state, torch.tensor(lr))
        assert all(torch.equal(tensor, before[key]) for key, tensor in state.items())  # nothing in place
        state = new
        torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(eager.detach(), expected.detach(), rtol=1e-5, atol=1e-6)
    assert value.dtype == dtype
    kept = {key: tensor for key, tensor in by_hand.state[expected].items() if tensor is not None}
    assert state.keys() == kept.keys() == made.state[eager].keys()
    for key, tensor in kept.items():
        torch.testing.assert_close(state[key], tensor, rtol=1e-4, atol=1e-6 * max(scale, scale**2))
