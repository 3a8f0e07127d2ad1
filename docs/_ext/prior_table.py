"""The line ``{prior-table}`` becomes the priors that each scheme takes, found by computing the KL."""

from types import ModuleType

import torch
from sphinx.application import Sphinx
from torch import nn
from torch.distributions import Distribution

from pyro_vd import AnalyticELBO, Categorical, MonteCarloKL, guides, lift
from pyro_vd.experiments.common.priors import PRIORS

MARKER = "{prior-table}\n"


def describe() -> str:
    """A row per scheme: priors with a closed-form KL, and those inside ``MonteCarloKL``."""
    rows = []
    for name, scheme in guides.SCHEMES.items():
        taken = [label for label, prior in PRIORS.items() if takes(scheme, prior)]
        sampled = [label for label in taken if isinstance(PRIORS[label], MonteCarloKL)]
        closed = [label for label in taken if label not in sampled]
        inner = [label.removeprefix("MonteCarloKL(")[:-1] for label in sampled]
        cells = (
            ", ".join(f"`{label}`" for label in labels) for labels in (closed, inner)
        )
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    header = (
        "| scheme | KL in closed form | inside `MonteCarloKL` |\n| --- | --- | --- |"
    )
    return "\n".join([header, *rows]) + "\n"


def takes(scheme: ModuleType, prior: Distribution) -> bool:
    """Whether the KL from the scheme's posterior to the prior is known."""
    model = lift(nn.Linear(2, 2), prior, Categorical, num_data=1)
    x, y = torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)
    try:
        AnalyticELBO().terms(model, scheme.Guide(model), x, y)
    except NotImplementedError:
        return False
    except ValueError as error:  # the cubic holds for alpha <= 1 only
        if "kingma" not in str(error):
            raise
        return False
    return True


def add_table(app: Sphinx, docname: str, source: list[str]) -> None:
    if MARKER in source[0]:
        source[0] = source[0].replace(MARKER, describe())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_table)
    return {"parallel_read_safe": True}
