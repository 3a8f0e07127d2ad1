"""Sphinx configuration.

``PYRO_VD_DOCS_EXECUTE=off`` builds the pages without running the notebooks.
``PYRO_VD_DOCS_LINKS=on`` links the types of Pyro, PyTorch and ArviZ to their
documentation. Nothing else of the build needs the web.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]
# The kernels of the notebooks are processes of their own, which also need the checkout.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
)

project = "pyro_vd"
author = project_copyright = "The pyro_vd developers"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # formulas without the web
    "sphinx_copybutton",
    "command_line",
    "prior_table",
    "doctest_end",
    "summary",
]
exclude_patterns = ["_build"]

nb_execution_mode = (
    "off" if os.environ.get("PYRO_VD_DOCS_EXECUTE") == "off" else "force"
)
nb_execution_timeout = 900  # seconds a cell, on a busy machine
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass's fields are not documented twice
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autosummary_generate = False
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

if os.environ.get("PYRO_VD_DOCS_LINKS") == "on":
    intersphinx_mapping = {
        "pyro": ("https://docs.pyro.ai/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "arviz": ("https://python.arviz.org/en/stable", None),
    }

# Copy what a reader types, not prompts and not the output of a notebook.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output) > div.highlight > pre"

html_theme = "furo"
html_title = "pyro_vd"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
