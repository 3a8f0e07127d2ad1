"""torchvision's ResNet-18 end to end: lift, fit on a folder of images, prune, shrink, export to ONNX.

``python -m examples.resnet18 FOLDER`` needs ``FOLDER/train`` and ``FOLDER/test``, each with a folder of images per
class. ``python -m experiments.compress`` does the same for any network, with records, schedules and resumption; this
file shows the steps in code of your own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torchvision
import tyro

import pyro_vd
from pyro_vd import compress, guides
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.inference.schedules import WarmUp
from pyro_vd.metrics import compute_logits, error_rate


@dataclass(frozen=True)
class Args:
    """Sparsifies ResNet-18 on a folder of images."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with train/ and test/, each with a folder of images per class."""
    size: int = 64
    """Pixels per side."""
    epochs: int = 20
    sparsity: float = 0.7
    """Share of pruned weights in every layer except the first."""
    out: Path = Path("resnet18.onnx")


def main(args: Args) -> None:
    if not 0 <= args.sparsity < 1:
        raise UserError("--sparsity must lie between 0 and 1: a share of the weights")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    split = load(str(args.folder)).to_rgb().resize(args.size)
    run = args.out.with_name(f"{args.out.stem}-{args.size}-{args.epochs}-{split.sha256[:8]}")  # one per dataset
    net = torchvision.models.resnet18(num_classes=split.classes)
    scheme = guides.group_normal_jeffreys  # a noise scale per input channel, so that whole channels go
    model = pyro_vd.lift(net, prior=scheme.prior, likelihood=pyro_vd.Categorical, num_data=len(split.train))
    posterior = pyro_vd.fit(
        model,
        scheme.Guide(model),
        split.train,
        epochs=args.epochs,
        batch_size=min(32, len(split.train)),
        kl_schedule=WarmUp(0, args.epochs),
        checkpoint=run,  # an interrupted run resumes
    )
    scores = compress.log_snr(posterior)
    scores["conv1.weight"].fill_(math.inf)  # its input channels are the three colors
    masks = compress.top_k_masks(scores, args.sparsity, per_layer=True)
    pruned = posterior.mean(masks, inputs=split.train.images)  # recomputes the running averages of the pruned network
    images, _ = split.train.batch(torch.arange(min(8, len(split.train))))
    small = compress.shrink(pruned, images)
    compress.to_onnx(small, images, args.out)
    error = error_rate(compute_logits(small, split.test), split.test.labels)
    parameters = [sum(p.numel() for p in each.parameters()) for each in (net, small)]
    print(f"error {error:.2%}; {parameters[0]:,} parameters, {parameters[1]:,} after shrinking; {args.out}")


if __name__ == "__main__":
    cli.run(Args, main)
