"""The progress bar: whatever happens to the terminal, training goes on."""

import contextlib
import io
import os
import sys

import pytest
import torch
from torch import nn

from pyro_vd import Categorical, LogUniform, fit, guides, lift
from pyro_vd.inference.progress import TolerantStream


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
