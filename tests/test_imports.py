"""The tree of imports and what library code may never call, read from the source of every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What a folder may import, lowest first: everything above it in this list.
FLOORS = [
    ["errors", "decompress", "files", "process_state", "special", "text_table"],
    ["inference.user_numbers", "pytree"],
    ["optim"],
    ["data"],
    ["priors"],
    ["posteriors"],
    ["model"],
    ["kl"],
    ["handlers.rules"],
    ["handlers"],
    ["elbo", "checkpoint"],
    ["posterior_predictive"],
    ["posterior"],
    ["deep_ensemble"],
    ["metrics"],
    ["inference.engine"],
    ["inference"],
    ["compress"],
    ["lora"],
    ["diagnostics"],
    ["guides", "models"],
    ["sparsify"],
    ["experiments.common"],
    ["experiments.benchmarks"],
    ["experiments"],
]
FLOOR = {f"pyro_vd.{name}": level for level, names in enumerate(FLOORS) for name in names}
FOLDERS = ("pyro_vd", "guides", "models", "experiments")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def imported(source):
    """Every module named by an import, at any depth of the file, also by importlib and __import__."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package they reach"
            if node.module == "pyro_vd":
                yield from (f"pyro_vd.{alias.name}" for alias in node.names)
            else:
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


def _constant(node):
    """The value of a constant; None for another expression."""
    return node.value if isinstance(node, ast.Constant) else None


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
        if name in ("eval", "exec", "compile", "os.system", "torch.jit.load") or last == "extractall":
            yield name
        safe = any(keyword.arg == "weights_only" and _constant(keyword.value) is True for keyword in node.keywords)
        if name == "torch.load" and not safe:
            yield name
        for keyword in node.keywords:
            value = _constant(keyword.value)
            if (keyword.arg == "allow_pickle" and value is not False) or (keyword.arg == "shell" and value):
                yield f"{name}({keyword.arg}={value})"


def module_of(path):
    """The dotted name by which the file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return name if name.startswith("pyro_vd") else f"pyro_vd.{name}"


def floor_of(module):
    """The longest entry of FLOOR that the module is or is in; None for pyro_vd itself, which imports everything."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((name for name in names if name in FLOOR), None)


def test_every_file_has_a_floor():
    assert len(FILES) > 100
    assert [path for path in FILES if floor_of(module_of(path)) is None] == [ROOT / "pyro_vd" / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_down(path):
    own = floor_of(module_of(path))
    names = {name for name in imported(path.read_text()) if name.split(".")[0] in ("pyro_vd", *FOLDERS)}
    assert all(name.startswith("pyro_vd") for name in names), "spell it pyro_vd.guides, the name that the wheel has"
    if own is None:
        return
    if not own.startswith(("pyro_vd.guides", "pyro_vd.models", "pyro_vd.experiments")):
        assert all(floor_of(name) for name in names), "pyro_vd itself imports everything; import from the file"
    floors = {floor_of(name) for name in names} - {None, own}
    assert all(FLOOR[floor] < FLOOR[own] for floor in floors), floors


def test_one_file_touches_arviz():
    users = [
        path for path in FILES if any(name.split(".")[0] in ("arviz", "xarray") for name in imported(path.read_text()))
    ]
    assert users == [ROOT / "pyro_vd" / "diagnostics" / "_arviz.py"]


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
        "torch.load(path, weights_only=flag)",
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
    "source",
    [
        "net.eval()",
        "re.compile(x)",
        "torch.compile(f)",
        "np.load(p, allow_pickle=False)",
        "torch.load(p, weights_only=True)",
    ],
)
def test_the_check_leaves_the_harmless_alone(source):
    assert list(dangerous(source)) == []


def test_imports_inside_functions_are_seen():
    assert list(imported("def f():\n    from pyro_vd.guides.sparse import Guide")) == ["pyro_vd.guides.sparse"]
    assert list(imported("def f():\n    from pyro_vd import guides, lift")) == ["pyro_vd.guides", "pyro_vd.lift"]
