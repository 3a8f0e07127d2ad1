"""Every test starts from the same state: seeded, float32, Pyro's store empty and its validation on."""

import os

import matplotlib
import pyro
import pytest
import torch

matplotlib.use("Agg")
os.environ.pop("PYRO_VD_DATA", None)  # a test that wants real data asks for it by a fixture, so that all run anywhere

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the other cores have workers of their own


@pytest.fixture(autouse=True)
def clean_state():
    pyro.clear_param_store()
    pyro.enable_validation(True)
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def double():
    """float64 by default, for closed forms and moments."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def quick_compiler(monkeypatch):
    """torch.compile by a backend that counts its graphs and generates no code."""
    graphs = []
    compile_ = torch.compile

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def quick(module, **arguments):
        arguments.pop("options", None)
        return compile_(module, **arguments, backend=count)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", quick)
    yield graphs
    torch._dynamo.reset()
