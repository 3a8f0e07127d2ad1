"""The tree of errors: what a caller may catch."""

import inspect

import pytest

from pyro_vd import errors
from pyro_vd.errors import CheckpointError, DataError, NonFiniteError, UserError, did_you_mean

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def test_what_a_caller_can_fix_is_a_value_error():
    assert all(issubclass(error, UserError) for error in (CheckpointError, DataError))
    assert issubclass(UserError, ValueError)
    assert not issubclass(NonFiniteError, ValueError)  # it may come from the data, at any step


def test_the_module_has_no_other_error():
    assert {error.__name__ for error in CLASSES} == {"CheckpointError", "DataError", "NonFiniteError", "UserError"}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_says_when_it_is_raised_and_knows_no_exit_code(error):
    assert error.__doc__
    assert not hasattr(error, "exit_code")


def test_a_broken_run_keeps_its_history():
    assert NonFiniteError("non-finite loss", [{"loss": 1.0}]).history == [{"loss": 1.0}]


@pytest.mark.parametrize(("name", "hint"), [("sprase", "; did you mean 'sparse'?"), ("vgg", ""), (3, "")])
def test_the_nearest_name_is_suggested(name, hint):
    assert did_you_mean(name, ["none", "sparse"]) == hint
