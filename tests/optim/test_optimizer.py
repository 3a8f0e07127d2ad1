"""Optimizers as values, and what fit takes for one."""

import copy
import dataclasses
import functools

import pytest
import torch

from pyro_vd import Training, optim
from pyro_vd.errors import UserError
from pyro_vd.optim.optimizer import check_optimizer, optimizer_name
from tests.optim.rules import RMSprop, check_rule

VALUES = [
    optim.Adam(),
    optim.Adam(betas=(0.5, 0.9), eps=1e-6),
    optim.AdamW(),
    optim.AdamW(weight_decay=0.3),
    optim.SGD(),
    optim.SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_what_its_repr_makes(value):
    made = {kind.__name__: kind for kind in (optim.Adam, optim.AdamW, optim.SGD)}[repr(value).partition("(")[0]]
    arguments = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    assert made(**arguments) == value
    assert repr(value) == f"{made.__name__}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
    assert hash(made(**arguments)) == hash(value)
    assert copy.deepcopy(value) == value
    assert [other == value for other in VALUES].count(True) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.weight_decay = 0.1


def test_the_default_is_adam():
    assert Training(epochs=1).optimizer == Training(epochs=1, optimizer=None).optimizer == optim.Adam()
    assert Training(epochs=1, optimizer=optim.SGD()) != Training(epochs=1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("adam", "optimizer='adam' must be a value of pyro_vd.optim"),
        (optim.SGD, r"optimizer is the class SGD; give an instance, optim.SGD\(\)"),
        (torch.optim.SGD([torch.zeros(1)], lr=0.1), "optimizer is an instance of SGD, made of other parameters"),
        (0.9, "optimizer=0.9 must be"),
    ],
)
def test_what_is_no_optimizer_is_refused(wrong, reason):
    with pytest.raises(UserError, match=reason) as caught:
        Training(epochs=1, optimizer=wrong)
    assert "\n" not in str(caught.value)


def test_names_are_those_of_the_class():
    twice = functools.partial(functools.partial(torch.optim.RMSprop, alpha=0.9), eps=1e-6)
    assert [optimizer_name(what) for what in (optim.AdamW(), torch.optim.RMSprop, twice, check_optimizer)] == [
        "AdamW",
        "RMSprop",
        "RMSprop",
        "check_optimizer",
    ]


def test_a_users_own_optimizer_has_both_forms():
    check_rule(RMSprop(0.9, 1e-3), lambda groups: torch.optim.RMSprop(groups, alpha=0.9, eps=1e-8, weight_decay=1e-3))
    assert RMSprop().is_compilable


def test_an_optimizer_without_a_step_says_so():
    class EagerOnly(optim.Optimizer):
        def make(self, groups):
            return torch.optim.Adagrad(groups)

        def init_state(self, parameter):
            return {}

    assert not EagerOnly().is_compilable
    with pytest.raises(NotImplementedError, match="EagerOnly has no step"):
        EagerOnly().step(*[torch.zeros(1)] * 2, {}, torch.ones(()))
