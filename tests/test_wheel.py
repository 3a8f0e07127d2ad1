"""The wheel holds what it should, and works without the checkout."""

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


def test_it_ships_the_three_packages_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pyro_vd", "guides", "models"}
    assert "pyro_vd/py.typed" in wheel.namelist()
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".json", ".safetensors"))]


def test_every_module_of_the_packages_is_in_it(wheel):
    for package in ("pyro_vd", "guides", "models"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in wheel.namelist()


def test_it_carries_its_licence_and_readme(wheel):
    assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert len(text.split("\n\n", 1)[1].strip()) > 100  # the README


def test_it_works_elsewhere(wheel, tmp_path):
    """Without the checkout on the path, warnings as errors, and without optional packages."""
    site = tmp_path / "site"
    site.mkdir()
    for name in wheel.namelist():
        wheel.extract(name, site)
    script = (
        "import sys, torch, pyro_vd, guides, models\n"
        "assert all(m.__file__.startswith(sys.argv[1]) for m in (pyro_vd, guides, models)), sys.path\n"
        "model = pyro_vd.lift(models.LeNet300(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)\n"
        "guide = guides.sparse.Guide(model)\n"
        "posterior = pyro_vd.fit(model, guide, (torch.rand(4, 1, 28, 28), torch.arange(4)), epochs=1, progress=False)\n"
        "print(tuple(posterior.predict(torch.rand(2, 1, 28, 28), num_samples=3).shape))\n"
        "assert not {'arviz', 'matplotlib', 'tyro', 'sklearn', 'experiments'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(site)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "(3, 2, 10)"
