"""The page of the benchmarks, from their committed records."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from pyro_vd.experiments.benchmarks import c_code, compact, inference, kernels, lora, scaling, selection, step, storage
from pyro_vd.experiments.benchmarks.pictures import draw_inference, draw_scaling, draw_step
from pyro_vd.experiments.common.records import Record, read_records

__all__ = ["RESULTS", "draw", "make_page_parts"]

RESULTS = Path(__file__).parent / "results"
SECTIONS: dict[str, tuple[ModuleType, str]] = {
    "One training step": (step, ""),
    "Parts of a compiled step": (kernels, "kernels"),
    "Weights, batch sizes and seeds": (scaling, "scaling"),
    "Speed of compressed networks": (inference, "inference"),
    "Compressed networks in C": (c_code, "c_code"),
    "Size by coding": (storage, "storage"),
    "Compact files": (compact, "compact"),
    "Gathered inputs": (selection, "selection"),
    "Noise on LoRA ranks": (lora, "lora"),
}
"""Heading -> the benchmark and the folder of its records below ``RESULTS``."""
PICTURES = {
    "step-lenet300-cpu.png": "Milliseconds of one training step of LeNet-300-100 in every implementation",
    "scaling/cpu.png": "Milliseconds of a step against the number of weights, the batch size and the number of seeds",
    "inference/times.png": "How many times faster than the dense network each compressed network is, by form",
}


def make_page_parts() -> list[str]:
    """What the page has below its marker: pictures, then a heading and tables per benchmark, as Markdown."""
    parts = [f"![{text}]({name})" for name, text in PICTURES.items()]
    for heading, (benchmark, folder) in SECTIONS.items():
        tables = benchmark.make_tables(_read(benchmark, folder))
        parts += [f"## {heading}", *(table.markdown() for table in tables)]
    return parts


def draw() -> None:
    """Draws the pictures of all committed records beside them."""
    for record in _read(step, ""):
        draw_step(record, (RESULTS / record["file"]).with_suffix(".png"))
    for record in _read(scaling, "scaling"):
        draw_scaling(record, (RESULTS / "scaling" / record["file"]).with_suffix(".png"))
    draw_inference(_read(inference, "inference"), RESULTS / "inference" / "times.png")


def _read(benchmark: ModuleType, folder: str) -> list[Record]:
    return read_records(RESULTS / folder, benchmark.REQUIRED)
