"""The tree of imports and what library code may never call, read from the source of every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pyro_vd", "models", "guides", "experiments", "benchmarks", "notebooks", "tests")
ALLOWED = {
    "pyro_vd": {"pyro_vd"},
    "models": {"models", "pyro_vd"},
    "guides": {"guides", "pyro_vd"},
    "benchmarks": {"benchmarks", "experiments", "models", "guides", "pyro_vd"},
    "experiments": {"experiments", "benchmarks", "models", "guides", "pyro_vd"},
}
FILES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def imported(source):
    """Every module named by an import, at any depth of the file, also by importlib and __import__."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package they reach"
            yield node.module
        elif isinstance(node, ast.Call) and _name(node.func) in (
            "import_module",
            "importlib.import_module",
            "__import__",
        ):
            yield node.args[0].value if isinstance(node.args[0], ast.Constant) else "importlib of a computed name"


def _name(node):
    """a.b.c of an attribute chain."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangerous(source):
    """Calls and imports that run or unpack what a file says."""
    for name in imported(source):
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            yield f"import {name}"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        last = name.rpartition(".")[2]
        if name in ("eval", "exec", "compile", "torch.load", "os.system", "torch.jit.load") or last == "extractall":
            yield name
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if (keyword.arg == "allow_pickle" and value is not False) or (keyword.arg == "shell" and value):
                yield f"{name}({keyword.arg}={value})"


def test_there_are_files():
    assert len(FILES) > 30
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path.read_text())} & set(PACKAGES)
    assert ours <= ALLOWED[package]


def test_one_file_touches_arviz():
    users = [
        path for path in FILES if any(name.split(".")[0] in ("arviz", "xarray") for name in imported(path.read_text()))
    ]
    assert users == [ROOT / "pyro_vd" / "diagnostics" / "_arviz.py"]


def test_benchmarks_stand_between_the_experiments_and_what_these_share():
    """The README and the queue know the benchmarks; the benchmarks know experiments.common and nothing above it."""
    for folder in ("benchmarks", "experiments/common"):
        for path in (ROOT / folder).rglob("*.py"):
            upward = [name for name in imported(path.read_text()) if name.split(".")[0] == "experiments"]
            assert all(name.startswith("experiments.common") for name in upward), path
    for path in (ROOT / "experiments/common").rglob("*.py"):
        assert not any(name.startswith("benchmarks") for name in imported(path.read_text())), path


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_one_file_imports_arviz(path):
    if path != ROOT / "pyro_vd" / "diagnostics" / "_arviz.py":
        assert "arviz" not in {name.split(".")[0] for name in imported(path.read_text())}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_nothing_runs_what_a_file_says(path):
    assert list(dangerous(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "tarfile.open(path).extractall(folder)",
        "import importlib\nimportlib.import_module('pickle')",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_check_finds_what_it_looks_for(source):
    assert list(dangerous(source))


@pytest.mark.parametrize(
    "source", ["net.eval()", "re.compile(x)", "torch.compile(f)", "np.load(p, allow_pickle=False)"]
)
def test_the_check_leaves_the_harmless_alone(source):
    assert list(dangerous(source)) == []


def test_imports_inside_functions_are_seen():
    assert list(imported("def f():\n    from guides.sparse import Guide")) == ["guides.sparse"]
