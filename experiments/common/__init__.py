"""What experiments share: the command line, records, published numbers, tables, pictures.

Needs the packages of the extra ``experiments``.
"""

import importlib.util

for _package in ("tyro", "rich", "matplotlib", "jinja2", "scipy", "sklearn"):
    if importlib.util.find_spec(_package) is None:
        raise ModuleNotFoundError(f"experiments need {_package}; pip install 'pyro-vd[experiments]'", name=_package)
