"""Runs the notebooks and keeps them with their pictures in docs/rendered, for readers who run nothing.

``python docs/render.py`` builds the documentation and copies the executed notebooks; tests/test_notebooks.py fails
where one of them is not made of its source any more.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "html"
        subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", HERE, html], check=True)
        executed = Path(folder) / "jupyter_execute" / "notebooks"
        shutil.rmtree(HERE / "rendered", ignore_errors=True)
        (HERE / "rendered").mkdir()
        for source in sorted((HERE / "notebooks").glob("*.md")):
            notebook = json.loads((executed / f"{source.stem}.ipynb").read_text())
            for cell in notebook["cells"]:
                cell["metadata"] = {}  # when each cell ran is nothing to keep
            (HERE / "rendered" / f"{source.stem}.ipynb").write_text(json.dumps(notebook, indent=1) + "\n")


if __name__ == "__main__":
    main()
