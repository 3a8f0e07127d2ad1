"""The progress bar: whatever happens to the terminal, training goes on."""

import contextlib
import io
import os
import sys

import pytest
import torch
from torch import nn

from pyro_vd import Categorical, LogUniform, fit, guides, lift
from pyro_vd.inference.loop import _progress_numbers
from pyro_vd.inference.progress import TolerantStream, progress_bar


def trained():
    torch.manual_seed(0)
    model = lift(nn.Linear(4, 3), LogUniform, Categorical, num_data=20)
    data = torch.randn(20, 4), torch.randint(3, (20,))
    return fit(model, guides.sparse.Guide(model), data, epochs=3, engine="eager", progress=True)


class Failing(io.StringIO):
    """Fails from the ``good``-th call on, in writing or in flushing."""

    def __init__(self, error, call="write", good=0):
        super().__init__()
        self.error, self.call, self.good = error, call, good

    def _maybe_fail(self, call):
        if call == self.call:
            self.good -= 1
            if self.good < 0:
                raise self.error

    def write(self, text):
        self._maybe_fail("write")
        return super().write(text)

    def flush(self):
        self._maybe_fail("flush")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def broken():
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "broken pipe": broken,
    "full": lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1),
    "full when flushed": lambda: Failing(OSError(28, "No space left on device"), "flush"),
    "gone at once": lambda: Failing(OSError(5, "Input/output error")),
    "gone later": lambda: Failing(BrokenPipeError(32, "Broken pipe"), good=3),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_terminal_that_fails_ends_no_training(kind, monkeypatch):
    stream = STREAMS[kind]()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        assert len(trained().history) == 3
    finally:
        with contextlib.suppress(OSError):  # of what it could not write
            if stream is not None:
                stream.close()


def test_a_terminal_that_works_shows_the_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    trained()
    assert "3/3" in stream.getvalue()
    assert "eager" in stream.getvalue()


def test_what_the_encoding_lacks_becomes_a_question_mark():
    raw = io.BytesIO()
    stream = TolerantStream(io.TextIOWrapper(raw, encoding="ascii"))
    assert stream.write("1.0 ± 0.1\n") == len("1.0 ± 0.1\n")
    stream.flush()
    assert raw.getvalue() == b"1.0 ? 0.1\n"
    assert stream.failure is None


def test_a_stream_is_silent_from_its_first_failure_on():
    target = Failing(OSError(28, "No space left on device"), good=1)
    stream = TolerantStream(target)
    for text in ("a", "b", "c"):
        stream.write(text)
    stream.flush()
    assert stream.failure is target.error
    assert (target.getvalue(), target.good) == ("a", -1)  # asked twice, not three times


def test_a_streams_other_attributes_are_its_own():
    stream = TolerantStream(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert stream.encoding == "latin-1"
    assert not stream.isatty()


@pytest.fixture
def line_of(monkeypatch):
    """The bar at 100 of 200 epochs on a terminal of this width, with the numbers of this row of the history."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def draw(row, width):
        with progress_bar(200, 100, shown=True) as bar:
            bar.ncols, bar.dynamic_ncols = width, None
            bar.set_description("compiled")
            bar.set_postfix(_progress_numbers([row]))
            return str(bar)

    return draw


ROW = {"epoch": 99, "loss": 12.345678, "log_likelihood": -0.1, "kl": 259.2345, "beta": 1.0, "lr": 0.001, "seconds": 3.0}
FOUND = {"error": 0.0854231, "sparsity": 0.991234}


def test_the_numbers_of_on_epoch_come_first_and_are_whole_at_80_columns(line_of):
    assert line_of(ROW | FOUND, 80).endswith(", error=0.08542, sparsity=0.9912, loss=12.35")
    assert line_of(ROW | FOUND, 120).endswith(", error=0.08542, sparsity=0.9912, loss=12.35, kl=259.2")
    assert line_of(ROW, 80).endswith(", loss=12.35, kl=259.2")


@pytest.mark.parametrize("width", range(30, 130, 7))
def test_the_bar_is_no_wider_than_the_terminal_and_cuts_no_number(line_of, width):
    line = line_of(ROW | FOUND, width)
    assert len(line) <= width
    assert set(line.split(", ")[1:]) <= {"error=0.08542", "sparsity=0.9912", "loss=12.35", "kl=259.2"}
