"""Breaks the library on purpose, one line at a time, and fails if the tests do not notice.

``python -m tests.mutants`` runs, for each mutant, the tests that ought to kill it, on a copy of the tree;
``python -m tests.mutants pretraining masks`` for those whose name holds one of these words.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from tests.mutants import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", default=[""], help="part of the names of those to run; by default all")
    words = parser.parse_args().words
    chosen = [mutant for mutant in MUTANTS if any(word in mutant.what for word in words)]
    if not chosen:
        parser.error(f"no mutant's name holds {' or '.join(words)}")
    survivors = [mutant.what for mutant in tqdm(chosen) if not killed(mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    if survivors:
        print("survived: " + "; ".join(survivors))
        raise SystemExit(1)


def killed(mutant: Mutant) -> bool:
    """Whether the mutant's tests fail on a tree that holds it.

    Raises:
        ValueError: when the mutant no longer fits the code.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "runs", "results", "__pycache__", ".*_cache"))
        path = tree / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"mutant {mutant.what!r}: its text stands {text.count(mutant.old)} times in {mutant.file}")
        path.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
        return subprocess.run(command, cwd=tree, capture_output=True).returncode == 1


if __name__ == "__main__":
    main()
