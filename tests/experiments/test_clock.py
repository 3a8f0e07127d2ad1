"""The clock counts the epochs of all runs, says what such runs took before, and after an epoch what is left."""

import contextlib
import io

import pytest

from pyro_vd import Training
from pyro_vd.experiments.common import clock as clocks
from pyro_vd.experiments.common.clock import Clock, count_epochs, describe_duration
from pyro_vd.experiments.common.spec import Data, Dense, FineTune, Fit, Lottery, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.inference.progress import TolerantStream, progress_bar


def make_spec(*phases, **fields):
    return Spec(network="lenet300", data=Data(name="digits"), phases=phases, **fields)


def fit(epochs):
    return Fit(scheme="sparse", training=Training(epochs=epochs), threshold=3.0)


PHASES = (Dense(training=Training(epochs=2)), fit(5), FineTune(training=Training(epochs=3)))


@pytest.fixture
def now(monkeypatch):
    """The seconds of the clock, which the test sets."""
    time = [0.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: time[0])
    return time


def test_all_phases_members_and_rounds_count():
    assert count_epochs(make_spec(*PHASES)) == 10
    assert count_epochs(make_spec(fit(4), members=5)) == 20
    assert count_epochs(make_spec(Lottery(sparsity=0.9, training=Training(epochs=3), rounds=4, extra=2))) == 14


def test_it_announces_what_such_runs_took_before(tmp_path, capsys):
    store, spec = Store(tmp_path), make_spec(*PHASES)
    Clock([spec, spec], store).announce()
    assert capsys.readouterr().out == "2 runs, 20 epochs\n"  # nothing is known
    for seed, seconds in enumerate((600.0, 1200.0)):
        store.save(make_spec(*PHASES, seed=seed), {"seconds": seconds})
    Clock([make_spec(*PHASES, seed=7)], store).announce()
    assert capsys.readouterr().out == "1 run, 10 epochs; such runs took 15 minutes on one core\n"
    Clock([spec, make_spec(fit(1))], store).announce()
    assert "took" not in capsys.readouterr().out  # one of them is not known
    Clock([], store).announce()
    assert capsys.readouterr().out == ""


def test_it_says_what_is_left_after_the_second_epoch_of_a_training(now, capsys):
    clock = Clock([make_spec(fit(100))])
    for now[0] in (40.0, 43.0, 46.0):  # the first epoch has the compilation in it
        clock.tick()
    assert capsys.readouterr().out == "about 5 minutes left\n"  # 98 epochs of 3 seconds, said once


def test_it_says_so_at_most_once_a_minute(now, capsys):
    clock = Clock([make_spec(fit(2), fit(2), fit(2))])
    for now[0] in (1.0, 2.0, 3.0, 4.0):
        clock.start() if now[0] in (1.0, 3.0) else None
        clock.tick()
    assert capsys.readouterr().out == "about 4 seconds left\n"
    clock.start()
    for now[0] in (70.0, 71.0):
        clock.tick()
    assert capsys.readouterr().out == ""  # nothing is left


def screen(written):
    """The lines that a terminal shows of it."""
    lines = []
    for line in written.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


@pytest.mark.parametrize("to_file", [False, True])
def test_the_time_left_does_not_stick_to_the_bar(now, to_file):
    """As a command shows both: on a terminal, or what is printed in a file."""
    terminal, file = io.StringIO(), io.StringIO()
    out, error = TolerantStream(file if to_file else terminal), TolerantStream(terminal)
    clock = Clock([make_spec(fit(100))])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), progress_bar(100, 0, shown=True) as bar:
        for now[0] in (40.0, 43.0):
            bar.update()
            bar.refresh()
            clock.tick()
    said = "about 5 minutes left"
    if to_file:
        assert file.getvalue() == f"{said}\n"
    else:
        assert said in screen(terminal.getvalue())
    assert "2/100" in screen(terminal.getvalue())[-2]


def test_durations_are_in_the_unit_that_one_reads():
    assert [describe_duration(s) for s in (0.6, 7.4, 89, 91, 3600, 7200)] == [
        "1 second", "7 seconds", "89 seconds", "2 minutes", "60 minutes", "2.0 hours",
    ]  # fmt: skip
