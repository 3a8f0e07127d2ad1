"""The checks on a GPU: refused without one, and what counts as passed."""

import importlib.util
from pathlib import Path

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments import gpu_checks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
def test_checks_without_a_gpu_are_refused():
    with pytest.raises(UserError, match="finds no GPU"):
        gpu_checks.main(gpu_checks.Args())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"check": ("stepp",)}, "did you mean 'step'"), ({"minutes": 0.0}, "--minutes must be above 0 and finite")],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        gpu_checks.main(gpu_checks.Args(**wrong))


def test_what_is_run_exists():
    for module, *arguments in gpu_checks.CHECKS.values():
        assert importlib.util.find_spec(module.replace("experiments.", "pyro_vd.experiments."))
        assert all((ROOT / argument).exists() for argument in arguments if argument.endswith(".py"))


def test_a_check_passes_if_it_ends_in_time_without_an_error(capsys):
    assert gpu_checks.passes(("json.tool", "--help"), 1.0)
    assert not gpu_checks.passes(("json.tool", "no such file"), 1.0)
    assert not gpu_checks.passes(("timeit", "-n1", "-r1", "import time; time.sleep(60)"), 0.01)
    assert "not done after 0.01 minutes" in capsys.readouterr().out


def test_the_checks_that_failed_are_named(monkeypatch):
    monkeypatch.setattr(gpu_checks.cli, "device_of", lambda name: torch.device("cpu"))
    monkeypatch.setattr(gpu_checks, "passes", lambda command, minutes: "scaling" in command[0])
    with pytest.raises(UserError, match=r"^failed: tests, step$"):
        gpu_checks.main(gpu_checks.Args())
