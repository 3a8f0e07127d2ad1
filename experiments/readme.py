"""Writes the README's tables and picture from the committed records and from guides.SCHEMES.

``python -m experiments.readme`` rewrites what stands between the README's markers and draws curves.png beside the
records; ``--check`` changes nothing and fails where the README differs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import get_args

import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import Distribution

import guides
from experiments.common import cli, pictures
from experiments.common.records import read_records
from experiments.common.tables import compression_table, to_markdown
from pyro_vd import AnalyticELBO, Categorical, EmpiricalBayes, Flat, LogUniform, lift
from pyro_vd.checkpoint import write_atomically
from pyro_vd.distributions.log_uniform import Form
from pyro_vd.errors import UserError

ROOT = Path(__file__).parent.parent
RESULTS = "experiments/results/mnist_compress"
PRIORS: dict[str, Distribution] = {
    "`Flat`": Flat(),
    **{f'`LogUniform("{form}")`': LogUniform(form) for form in get_args(Form)},
    "`EmpiricalBayes`": EmpiricalBayes(),
    "`Normal`": dist.Normal(0.0, 1.0),
}


@dataclass(frozen=True)
class Args:
    """Rewrites the README's generated blocks."""

    check: bool = False
    """Change nothing; fail where the README differs from the records."""


def main(args: Args) -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    fresh = filled(text)
    if args.check and fresh != text:
        raise UserError("README.md differs from the records; run python -m experiments.readme")
    if not args.check:
        write_atomically(path, fresh.encode())
        pictures.draw_curves(read_records(ROOT / RESULTS), ROOT / RESULTS / "curves.png")


def filled(text: str) -> str:
    """``text`` with every generated block replaced.

    Raises:
        UserError: where a block has no marker to stand between.
    """
    for name, table in {"compression": compression(), "schemes": schemes(), "priors": priors()}.items():
        block = f"<!-- {name}: python -m experiments.readme -->\n{table}\n<!-- end -->"
        pattern = rf"<!-- {name}: [^>]*-->.*?<!-- end -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise UserError(f"README.md has no block <!-- {name}: ... --> ... <!-- end -->")
        text = re.sub(pattern, block.replace("\\", r"\\"), text, count=1, flags=re.DOTALL)
    return text


def compression() -> str:
    """The compression table of the committed records."""
    return to_markdown(compression_table(read_records(ROOT / RESULTS), RESULTS))


def schemes() -> str:
    """One row per scheme: what its module says of itself, its own prior, its file."""
    rows = [("scheme", "what it is", "its prior")]
    for name, module in guides.SCHEMES.items():
        file = module.__name__.replace(".", "/")
        summary = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
        if not file.endswith(f"/{name}"):
            summary = f"another name of `{file.rpartition('/')[2]}`"
        rows.append((f"[`{name}`]({file}.py)", summary, f"`{module.prior.__name__}`"))
    return to_markdown(rows)


def priors() -> str:
    """Scheme by prior: which pairs have a KL, found by asking for it."""
    rows = [("", *PRIORS)]
    for name, module in guides.SCHEMES.items():
        rows.append((f"`{name}`", *("yes" if _fits(module, prior) else "" for prior in PRIORS.values())))
    return to_markdown(rows)


def _fits(scheme: ModuleType, prior: Distribution) -> bool:
    model = lift(nn.Linear(2, 2), prior, Categorical, n=1)
    try:
        AnalyticELBO().terms(model, scheme.Guide(model), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    except NotImplementedError:
        return False
    except ValueError as error:
        if "kingma" not in str(error):
            raise
        return False
    return True


if __name__ == "__main__":
    cli.run(Args, main)
