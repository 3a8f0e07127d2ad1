"""The wheel holds what it should, and works in a project of its own without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in place by hatchling's own hook, which writes nothing but the wheel."""
    out = tmp_path_factory.mktemp("wheel")
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_an_editable_install_is_the_checkout(tmp_path):
    """Its folder is on the path as it is, and pyro_vd finds the folders beside it."""
    script = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, check=True)
    (file,) = tmp_path.glob("*.whl")
    content = zipfile.ZipFile(file)
    (path,) = [name for name in content.namelist() if name.endswith(".pth")]
    assert content.read(path).decode().strip() == str(ROOT)
    assert not [name for name in content.namelist() if name.endswith(".py")]


def test_its_only_top_level_name_is_the_library(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pyro_vd"}
    assert "pyro_vd/py.typed" in wheel.namelist()
    data = (".json", ".safetensors", ".xz", ".npz", ".png", ".html")
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith(data)]


def test_every_module_of_the_packages_is_in_it(wheel):
    for path in (ROOT / "pyro_vd").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in wheel.namelist()
    for package in ("guides", "models", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            assert f"pyro_vd/{path.relative_to(ROOT).as_posix()}" in wheel.namelist()
    for path in (ROOT / "pyro_vd").rglob("*.[ch]"):
        assert path.relative_to(ROOT).as_posix() in wheel.namelist()
    assert "pyro_vd/experiments/common/report.html.j2" in wheel.namelist()


def test_it_installs_the_command(wheel):
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "pyro-vd = pyro_vd.experiments.command:main" in wheel.read(entry_points).decode()


def test_it_carries_its_licence_and_readme(wheel):
    assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert len(text.split("\n\n", 1)[1].strip()) > 100  # the README


@pytest.fixture(scope="module")
def project(wheel, tmp_path_factory):
    """A function that runs Python in another project, which has ``models/``, ``guides.py`` and ``tests/`` of its own,
    beside the installed wheel and without the checkout."""
    folder = tmp_path_factory.mktemp("project")
    site, home = folder / "site", folder / "home"
    wheel.extractall(site)
    for name, text in {
        "models/__init__.py": "OWNER = 'the project'",
        "guides.py": "OWNER = 'the project'",
        "tests/__init__.py": "OWNER = 'the project'",
        "experiments.py": "OWNER = 'the project'",
    }.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(script, *arguments):
        environment = {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run.site = site
    return run


def first_example():
    """The README's first block of Python, as a script."""
    return (ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]


def test_it_works_beside_a_project_with_the_same_folder_names(project):
    """The library's folders are its own, the project's stay the project's, and nothing optional is imported."""
    script = (
        "import sys, pyro_vd\n"
        "from pyro_vd import experiments, guides, models\n"
        "assert all(m.__file__.startswith(sys.argv[1]) for m in (pyro_vd, guides, models, experiments)), sys.path\n"
        "assert not {'arviz', 'matplotlib', 'tyro', 'sklearn', 'jinja2'} & set(sys.modules)\n"
        "import experiments, guides, models, tests\n"
        "assert {m.OWNER for m in (experiments, guides, models, tests)} == {'the project'}\n"
    )
    project(script, str(project.site))


def test_the_first_example_of_the_readme_runs_there(project):
    script = "import sys; sys.modules.update(matplotlib=None, tyro=None, sklearn=None, jinja2=None)  # not installed\n"
    script += first_example() + "print('pyro_vd.experiments' in sys.modules)\n"
    printed = project(script)
    assert printed.startswith("Sequential(")
    assert printed.endswith("False\n")


def test_its_command_runs_there(project):
    script = "from pyro_vd.experiments.command import main\nmain(['mnist_compress', '--help'])"
    assert "usage: pyro-vd mnist_compress" in project(script)
