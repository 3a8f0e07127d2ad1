"""The tree of errors: what a caller may catch."""

import ast
import inspect
from pathlib import Path

import pytest

from pyro_vd import errors
from pyro_vd.errors import CheckpointError, DataError, NonFiniteError, UserError, did_you_mean

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ("pyro_vd", "guides", "models") for path in sorted((ROOT / folder).rglob("*.py"))]
CAUGHT = {  # functions whose ValueError never reaches a caller, and who catches it
    # compress.load: a damaged file
    "pyro_vd/compress/adaptive_bits.py": {"code_natural"},
    "pyro_vd/compress/coding.py": {"read_note", "decode", "_decode_gaps"},
    "pyro_vd/compress/mask_model.py": {"code_indices"},
    "pyro_vd/compress/random_code/code.py": {"code_random"},
    "pyro_vd/compress/storage.py": {"_unpack"},
    "pyro_vd/compress/tensor_model.py": {"code_tensor"},
    "pyro_vd/compress/value_model.py": {"code_step"},
}
CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def test_what_a_caller_can_fix_is_a_value_error():
    assert all(issubclass(error, UserError) for error in (CheckpointError, DataError))
    assert issubclass(UserError, ValueError)
    assert not issubclass(NonFiniteError, ValueError)  # it may come from the data, at any step


def test_the_module_has_no_other_error():
    assert {error.__name__ for error in CLASSES} == {
        "CheckpointError", "CheckpointInUseError", "DataError", "NonFiniteError", "UserError",
    }  # fmt: skip


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_says_when_it_is_raised_and_knows_no_exit_code(error):
    assert error.__doc__
    assert not hasattr(error, "exit_code")


def test_a_broken_run_keeps_its_history():
    assert NonFiniteError("non-finite loss", [{"loss": 1.0}]).history == [{"loss": 1.0}]


@pytest.mark.parametrize(("name", "hint"), [("sprase", "; did you mean 'sparse'?"), ("vgg", ""), (3, "")])
def test_the_nearest_name_is_suggested(name, hint):
    assert did_you_mean(name, ["none", "sparse"]) == hint


def raisers(source):
    """The functions that raise a plain ValueError."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                error = node.exc if isinstance(node, ast.Raise) else None
                error = error.func if isinstance(error, ast.Call) else error
                if isinstance(error, ast.Name) and error.id == "ValueError":
                    yield function.name


def test_what_a_caller_gave_is_refused_by_a_user_error():
    found = {str(path.relative_to(ROOT)): set(raisers(path.read_text())) for path in FILES}
    assert len(found) > 50
    assert {name: functions for name, functions in found.items() if functions} == CAUGHT
