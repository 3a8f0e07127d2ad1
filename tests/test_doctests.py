"""The examples in docstrings run, under the names that the modules have when installed."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pyro_vd", "guides", "models", "experiments")
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef)


def module_name(path):
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return name if name.startswith("pyro_vd") else f"pyro_vd.{name}"


def names_with_examples(node, name):
    """The name of every definition under ``node``, itself included, whose docstring has an example."""
    if ">>> " in (ast.get_docstring(node) or ""):
        yield name
    for child in node.body:
        if isinstance(child, DEFINITIONS):
            yield from names_with_examples(child, f"{name}.{child.name}")


def examples():
    """(module, name of the docstring's owner) of all examples, read from the sources: nothing is imported."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        module = module_name(path)
        for name in names_with_examples(ast.parse(path.read_text(encoding="utf-8")), module):
            yield module, name


@pytest.mark.parametrize(("module", "name"), list(examples()), ids=lambda value: value)
def test_the_examples_of_a_docstring_run(module, name):
    found = doctest.DocTestFinder().find(importlib.import_module(module), module)
    (test,) = (test for test in found if test.name == name and test.examples)
    report = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(report)


def test_no_example_is_lost():
    assert len(list(examples())) >= 40
