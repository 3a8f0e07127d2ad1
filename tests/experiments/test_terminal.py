"""Results on the terminal: no wider than it is, complete in a file, and at the end what was written."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pyro_vd.experiments.common.publish import publish, show
from pyro_vd.experiments.common.tables import Table
from pyro_vd.inference.progress import TolerantStream

ROOT = Path(__file__).resolve().parents[2]
LONG = "molchanov2017: KL 1.25, noise 0.3, 30+100 epochs, and all that a run may change in its protocol"
WIDE = Table(
    "LeNet-300-100, mnist, cpu",
    ("#", "scheme", "training", "error %", "compression", "n"),
    (("1", "group_normal_jeffreys", LONG, "1.91 ± 0.13", "118.2 ± 3.2x", "3"), ("2", "none", "", "1.60", "1x", "[b]")),
)
ONE = Table("", WIDE.header, WIDE.rows[:1])


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch):
    """What ``show`` prints on a terminal of this width, or with None to a file."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def run(tables, width=None):
        stream = io.StringIO() if width is None else Terminal()
        monkeypatch.setenv("COLUMNS", str(width or 80))
        monkeypatch.setattr(sys, "stdout", stream)
        show(tables)
        return [line.rstrip() for line in plain(stream.getvalue()).splitlines()]

    return run


def plain(text):
    """Without bold type."""
    return text.replace("\x1b[1m", "").replace("\x1b[0m", "")


def letters(lines):
    return sorted("".join("".join(lines).split()).replace("─", "").replace(":", ""))


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("table", [WIDE, ONE])
def test_a_table_is_no_wider_than_the_terminal_and_loses_nothing(printed, table, width):
    lines = printed([table], width)
    assert max(map(len, lines)) <= width
    first = 1 if table is ONE else 0  # the number of the only row is not shown
    cells = [table.title, *table.header[first:], *(cell for row in table.rows for cell in row[first:])]
    assert letters(lines) == letters(cells)


def test_a_row_is_one_line_where_there_is_room(printed):
    lines = printed([WIDE], 200)
    assert any(LONG in line and "118.2 ± 3.2x" in line for line in lines)
    assert lines[1] == "LeNet-300-100, mnist, cpu:"


def test_in_a_file_every_row_is_a_whole_line(printed):
    """However wide, and without codes for colors."""
    huge = Table("", ("a", "b"), (("x" * 3000, "y" * 3000), ("1", "2")))
    lines = printed([WIDE, huge])
    assert any(LONG in line and "118.2 ± 3.2x" in line for line in lines)
    assert any("x" * 3000 in line and "y" * 3000 in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_one_run_is_shown_by_key_and_value(printed):
    lines = [line.split(None, 1) for line in printed([ONE], 200) if line]
    assert ["scheme", "group_normal_jeffreys"] in lines
    assert ["n", "3"] in lines
    assert len(lines) == len(ONE.header) - 1
    assert "#" not in [name for name, _ in lines]


def test_cells_are_text_and_no_markup(printed):
    (line,) = [line for line in printed([WIDE], 200) if line.startswith("2")]
    assert line.endswith("[b]")
    assert any(":x:" in line for line in printed([Table("", ("a",), ((":x:",), ("b",)))], 80))


def test_a_stream_without_unicode_has_question_marks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", TolerantStream(stream))
    show([WIDE])
    stream.flush()
    assert b"1.91 ? 0.13" in stream.buffer.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_a_real_terminal_tells_its_width(width):
    script = (
        "from pyro_vd.experiments.common.publish import show\n"
        "from tests.experiments.test_terminal import WIDE\n"
        "show([WIDE])\n"
    )
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    environment |= {"TERM": "xterm", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, **streams) as process:
        os.close(follower)
        content = b""
        while chunk := read(leader):
            content += chunk
    os.close(leader)
    assert process.returncode == 0, content
    lines = [line.rstrip("\r") for line in plain(content.decode()).splitlines()]
    assert max(map(len, lines)) <= width
    assert any(LONG in line for line in lines) == (width == 200)


def read(descriptor):
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other side has ended
        return b""


def test_the_last_line_says_what_was_written_and_what_to_do_next(tmp_path, capsys):
    (tmp_path / "curves.png").write_bytes(b"")
    publish([WIDE, ONE], tmp_path, "curves.png", "absent.png", next_step="pyro-vd report x")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written to {tmp_path}: records, table.md, curves.png; more: pyro-vd report x"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text == f"{WIDE.markdown()}\n\n{ONE.markdown()}\n"
    publish([WIDE], tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written to {tmp_path}: records, table.md, pictures of runs (*.png)"
    for name in ("a-heatmap.png", "a.safetensors.xz"):
        (tmp_path / name).write_bytes(b"")
    publish([WIDE], tmp_path, "curves.png", notes=["one", "two"])
    files = "records, table.md, curves.png, pictures of runs (*.png), compressed networks (*.safetensors.xz)"
    last = capsys.readouterr().out.splitlines()[-4:]
    assert last == ["", "note: one", "note: two", f"written to {tmp_path}: {files}"]
    publish([WIDE], tmp_path, "curves.png", "a-heatmap.png", "a.safetensors.xz")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written to {tmp_path}: records, table.md, curves.png, a-heatmap.png, a.safetensors.xz"
