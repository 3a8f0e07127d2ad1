"""Sphinx configuration. PYRO_VD_DOCS_EXECUTE=off builds the pages without running the notebooks."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The notebooks' kernels are processes of their own: they need the checkout too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

project = "pyro_vd"
author = project_copyright = "The pyro_vd developers"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build", "rendered"]  # the rendered copies are for readers on the web

nb_execution_mode = "off" if os.environ.get("PYRO_VD_DOCS_EXECUTE") == "off" else "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
myst_enable_extensions = ["dollarmath"]

napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass's fields are not documented twice
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "pyro_vd"
