"""Every module has a test file of its name in the same place under tests/, or stands here with a reason."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pyro_vd", "guides", "models", "experiments", "examples")
ELSEWHERE = {  # module -> where it is tested, and why not in a file of its own
}


def test_of(module):
    """pyro_vd/kl.py -> tests/test_kl.py, guides/sparse.py -> tests/guides/test_sparse.py."""
    parts = module.relative_to(ROOT).parts
    folder = parts[1:-1] if parts[0] == "pyro_vd" else parts[:-1]
    return ROOT.joinpath("tests", *folder, f"test_{module.stem.lstrip('_')}.py")


MODULES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_a_module_has_a_test_file(module):
    name = module.relative_to(ROOT).as_posix()
    if name in ELSEWHERE:
        assert (ROOT / ELSEWHERE[name][0]).exists()
        assert not test_of(module).exists(), "it has a test file now: take it off the list"
    else:
        assert test_of(module).exists()


def test_the_list_names_modules():
    assert ELSEWHERE.keys() <= {path.relative_to(ROOT).as_posix() for path in MODULES}
