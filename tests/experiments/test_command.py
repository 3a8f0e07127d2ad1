"""The command pyro-vd: its subcommands, its help, and what it says when a package is missing."""

import importlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pyro_vd import guides
from pyro_vd.experiments import command

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT_ONLY = ("pages",)  # it reads the committed records


def test_every_experiment_is_a_subcommand():
    files = {path.stem for path in (ROOT / "experiments").glob("*.py") if "cli.run(Args, main)" in path.read_text()}
    assert {name for name in command.SUBCOMMANDS if "." not in name} == files - set(CHECKOUT_ONLY)


@pytest.mark.parametrize("name", ["mnist_compress", "benchmarks.storage"])
def test_a_subcommand_shows_its_help(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pyro-vd"])
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])
    assert not end.value.code
    assert f"pyro-vd {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_experiments_with_what_they_do(arguments, capsys):
    command.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    for name in command.SUBCOMMANDS:
        module = importlib.import_module(f"pyro_vd.experiments.{name}")
        assert callable(module.main)
        assert f"{name} {module.__doc__.splitlines()[0]}" in [" ".join(line.split()) for line in lines]


def test_an_unknown_experiment_ends_with_a_line_that_names_a_near_one(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["mnist_compres"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean 'mnist_compress'?" in error


def test_a_factory_is_found_in_the_working_directory(tmp_path):
    """A console script has its own folder first on the path, not the working directory."""
    (tmp_path / "mynet.py").write_text("make = 3\n")
    script = tmp_path / "bin" / "pyro-vd"
    script.parent.mkdir()
    script.write_text("from pyro_vd.experiments.command import main\nmain()\n")
    arguments = ["compress", "--factory", "mynet:make", "--dataset", "digits", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "'mynet:make': make is int, not a function" in done.stderr


def test_a_missing_package_ends_with_a_line_that_names_the_extra():
    script = (
        "import sys\n"
        "from pyro_vd import experiments\n"
        "from pyro_vd.experiments.command import main\n"
        "for package in ('tyro', 'rich', 'matplotlib', 'jinja2', 'scipy', 'sklearn'):\n"
        "    sys.modules[package] = None\n"
        "    try:\n"
        "        main(['mnist_compress', '--help'])\n"
        "    except SystemExit as end:\n"
        "        print(end.code)\n"
        "    del sys.modules[package]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == 6 * ["1"]
    assert done.stderr.splitlines() == [
        f"error: experiments need {package}; pip install 'pyro-vd[experiments]'"
        for package in ("tyro", "rich", "matplotlib", "jinja2", "scipy", "sklearn")
    ]


def test_the_extra_installs_what_the_experiments_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"pyro-vd": "pyro_vd.experiments.command:main"}
    extra = " ".join(project["optional-dependencies"]["experiments"] + project["optional-dependencies"]["digits"])
    for package in ("tyro", "rich", "matplotlib", "jinja2", "scipy", "scikit-learn"):
        assert package in extra
        assert package not in " ".join(project["dependencies"])


def test_python_m_makes_no_second_module_of_a_file():
    script = (
        "import sys, experiments\n"
        "from pyro_vd import experiments as package\n"
        "assert experiments is package\n"
        "import experiments.common.records as alias, pyro_vd.experiments.common.records as records\n"
        "assert alias is records and records.__spec__.name == 'pyro_vd.experiments.common.records'\n"
        "files = [getattr(module, '__file__', None) or '' for module in set(sys.modules.values())]\n"
        "files = [file for file in files if file.startswith(sys.argv[1])]\n"
        "assert len(files) == len(set(files)) > 30\n"
    )
    line = [sys.executable, "-c", script, str(ROOT)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["mnist_compress", "benchmarks.storage"])
def test_python_m_runs_an_experiment_in_a_checkout(name):
    line = [sys.executable, "-m", f"experiments.{name}", "--help"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("folder", ["guides", "models"])
def test_a_folder_of_the_checkout_is_no_package_of_its_own(folder):
    line = [sys.executable, "-c", f"import {folder}"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(f"from pyro_vd import {folder}")


@pytest.mark.parametrize("module", ["experiments.command", "pyro_vd.experiments.command"])
def test_the_command_is_a_module_that_runs(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: pyro-vd EXPERIMENT")


def test_a_module_names_itself_in_its_usage():
    words = [sys.executable, "-m", "experiments.mnist_compress", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m experiments.mnist_compress [-h]")


@pytest.mark.parametrize("name", ["mnist_compress", "cifar_compress", "compress"])
def test_a_paragraph_of_help_flows(name, capsys, monkeypatch):
    """No line ends because a line of the source does: the next word would not have fitted."""
    monkeypatch.setattr(sys, "argv", ["pyro-vd"])
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    printed = capsys.readouterr().out
    assert "By default the protocol's, 3 for noise on units" in printed or name == "compress"
    assert "group_normal_jeffreys, group_horseshoe, structured_log_normal" in printed


def test_help_names_every_scheme(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pyro-vd"])
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("mnist_compress", "cifar_compress"):
        with pytest.raises(SystemExit):
            command.main([name, "--help"])
        assert f"One or more of {', '.join(guides.SCHEMES)}." in capsys.readouterr().out
