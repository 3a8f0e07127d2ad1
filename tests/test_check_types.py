"""The layout in which types are checked is that of the wheel, and messages have the paths of the checkout."""

from tests.check_types import ROOT, checkout_paths, link_layout


def test_the_layout_is_that_of_the_wheel(tmp_path):
    link_layout(tmp_path)
    for folder in ("guides", "models", "experiments"):
        assert (tmp_path / "pyro_vd" / folder).resolve() == ROOT / folder
    assert (tmp_path / "pyro_vd" / "__init__.py").resolve() == ROOT / "pyro_vd" / "__init__.py"
    assert not (tmp_path / "pyro_vd").is_symlink()
    assert (tmp_path / "examples").resolve() == ROOT / "examples"


def test_messages_have_the_paths_of_the_checkout():
    output = "pyro_vd/guides/l0.py:3: error: a\npyro_vd/kl.py:1: error: in pyro_vd/guides/l0.py\nSuccess\n"
    assert (
        checkout_paths(output) == "guides/l0.py:3: error: a\npyro_vd/kl.py:1: error: in pyro_vd/guides/l0.py\nSuccess\n"
    )
