"""The command line: one line and the right exit code for everything a user can get wrong."""

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from pyro_vd import guides
from pyro_vd.errors import CheckpointError, DataError, UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.mnist_compress import Args
from tests.inference.test_progress import STREAMS

ROOT = Path(__file__).resolve().parents[2]

BUFFERED = {"PYTHONUNBUFFERED": ""}  # so that something is left to write as Python ends


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Runs the experiment in this process: exit code and the lines of stderr. What it starts, it must not train."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # cli.run replaces it

    def no_training(*_, **__):
        raise AssertionError("training began before the arguments were checked")

    monkeypatch.setattr("pyro_vd.fit", no_training)

    def run(*argv):
        with pytest.raises(SystemExit) as caught:
            cli.run(Args, mnist_compress.main, ["--out", str(tmp_path / "out"), "--device", "cpu", *argv])
        return caught.value.code, capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize(
    ("argv", "wrong", "right"),
    [
        (["--scheme", "sprase"], "scheme 'sprase'", "'sparse'"),
        (["--scheme", "none", "hierarchic"], "scheme 'hierarchic'", "'hierarchical'"),
        (["--network", "lenet-300"], "network 'lenet-300'", "'lenet300'"),
        (["--dataset", "digit"], "dataset 'digit'", "'digits'"),
        (["--parametrization", "log_sigma"], "parametrization 'log_sigma'", "'log_sigma2'"),
        (["--engine", "compile"], "engine 'compile'", "'compiled'"),
        (["--engine=compile"], "engine 'compile'", "'compiled'"),
        (["--protocol", "fine-tune"], "protocol 'fine-tune'", "'fine-tuned'"),
    ],
)
def test_an_unknown_name_ends_with_the_nearest_one(command, argv, wrong, right):
    code, lines = command("--dataset", "digits", *argv)
    assert code == 2
    (line,) = lines
    assert line.startswith("error: ")
    assert wrong in line
    assert f"did you mean {right}" in line


@pytest.mark.parametrize(
    "argv",
    [
        ["--seeds", "0"],
        ["--batch-size", "0"],
        ["--num-samples", "-1"],
        ["--epochs", "0"],
        ["--epochs", "-3"],
        ["--lr", "0"],
        ["--lr", "-0.1"],
        ["--lr", "nan"],
        ["--lr", "inf"],
        ["--noise-lr", "0"],
        ["--noise-lr", "inf"],
        ["--kl-weight", "-1"],
        ["--kl-weight", "nan"],
        ["--kl-weight", "inf"],
        ["--threshold", "nan"],
        ["--threads", "-1"],
        ["--threads", "1000"],
        ["--threads", "100000"],
        ["--validation", "-1"],
        ["--fine-tune", "-1"],
        ["--validation", "100000"],
        ["--init", "5"],
        ["--init", "nan"],
        ["--hold", "1.5"],
        ["--wait", "-0.1"],
        ["--ramp", "5"],
    ],
    ids=" ".join,
)
def test_a_bad_number_is_refused_by_name(command, argv):
    """Before anything is trained or written."""
    code, lines = command("--dataset", "digits", "--scheme", "sparse", *argv)
    assert code == 2, lines
    (line,) = lines
    assert line.startswith("error: ")
    assert argv[0].lstrip("-") in line.replace("_", "-")


@pytest.mark.parametrize("argv", [["--scheme", "x"], ["--network", "transformer"], ["--dataset", "imagenet"]])
def test_a_name_near_none_suggests_none(command, argv):
    code, (line,) = command("--dataset", "digits", *argv)
    assert code == 2
    assert "did you mean" not in line
    assert "(known: " in line


@pytest.mark.parametrize(
    "argv", [["--network"], ["--network", "--seeds", "2"], ["--epochs", "many"], ["--wordy"]], ids=" ".join
)
def test_what_tyro_refuses_has_the_same_exit_code(command, argv):
    code, lines = command(*argv)
    assert code == 2
    assert argv[0] in "\n".join(lines)


def test_a_choice_may_be_written_as_in_help(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    parsed = []
    cli.run(Args, parsed.append, ["--protocol", "None", "--network=lenet5", "--parametrization", "log_alpha"])
    (args,) = parsed
    assert (args.protocol, args.network, args.parametrization) == (None, "lenet5", "log_alpha")


@pytest.mark.parametrize("out", ["taken/out", "x" * 256, "link", "/proc/out"])
def test_a_folder_that_cannot_be_made_is_refused_before_training(command, tmp_path, out):
    (tmp_path / "taken").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "taken")
    code, (line,) = command("--dataset", "digits", "--out", str(tmp_path / out))
    assert code == 2
    assert f"--out {tmp_path / out}: cannot be written (" in line


def test_a_refused_command_leaves_no_folder(command, tmp_path):
    command("--dataset", "imagenet", "--out", str(tmp_path / "deep" / "out"))
    assert not (tmp_path / "deep").exists()
    (tmp_path / "mine").mkdir()
    command("--dataset", "imagenet", "--out", str(tmp_path / "mine"))
    assert (tmp_path / "mine").is_dir()


def test_a_folder_that_cannot_be_written_is_refused_before_training(command, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    code, (line,) = command("--dataset", "digits")
    assert code == 2
    assert f"--out {tmp_path / 'out'}: cannot be written (Read-only file system)" in line


def test_an_unknown_device_is_refused(command):
    code, (line,) = command("--dataset", "digits", "--device", "tpu9x")
    assert code == 2
    assert "tpu9x" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(command):
    code, (line,) = command("--dataset", "digits", "--device", "cuda")
    assert code == 2
    assert "--device cpu" in line


def test_missing_data_says_what_to_do(command, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("pyro_vd.data.download._is_reachable", lambda *_: True)
    code, (line,) = command("--dataset", "mnist", "--data", str(tmp_path / "nowhere"))
    assert code == 7
    for part in (str(tmp_path / "nowhere"), "unreachable", "--dataset digits", "PYRO_VD_DATA"):
        assert part in line


def test_an_empty_image_folder_is_named(command, tmp_path):
    code, (line,) = command("--dataset", str(tmp_path))
    assert code == 7
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (UserError("a"), 2, "error: a"),
        (CheckpointError("b"), 5, "error: b"),
        (DataError("c"), 7, "error: c"),
        (OSError(28, "No space left on device", "/full/disk"), 6, "error: /full/disk: No space left on device"),
        (UserError("two\nlines"), 2, "error: two lines"),
        (MemoryError(), 6, "error: out of memory (MemoryError); choose a smaller network, --batch-size or dataset"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to\nx"), 6, "error: out of memory (CUDA out of memory. Tri"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), 6, "error: out of memory (DefaultCPUAlloc"),
        (KeyboardInterrupt("stopped at epoch 3"), 130, "stopped at epoch 3"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_has_its_exit_code(error, code, shown, capsys, monkeypatch):
    def main(_):
        raise error

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as caught:
        cli.run(Args, main, [])
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(shown)


def test_pytorch_runs_out_of_memory_as_it_is_known_to():
    """In the words that are looked for."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert any(part in str(caught.value) for part in cli.OUT_OF_MEMORY)


@pytest.mark.parametrize("bug", [KeyError("a bug"), RuntimeError("a bug")])
def test_a_bug_is_not_dressed_up_as_a_users_error(bug, monkeypatch):
    def main(_):
        raise bug

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(type(bug)):
        cli.run(Args, main, [])


def test_arguments_arrive():
    parsed = []
    before = warnings.showwarning
    try:
        words = "--scheme none sparse --no-resume --train-masking False --init -6"
        cli.run(Args, parsed.append, words.split())
    finally:
        warnings.showwarning = before
    (args,) = parsed
    assert args.scheme == ("none", "sparse")
    assert (args.resume, args.train_masking, args.init) == (False, False, -6.0)
    assert args.epochs is None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_terminal_that_fails_costs_no_run(stream, kind, monkeypatch):
    """What is written to files is written, whatever becomes of what is shown."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    done = []

    def main(_):
        for _ in range(5):
            print("error 1.0 ± 0.1 %")
            print("warning ±", file=sys.stderr)
        sys.stdout.flush()
        done.append(True)

    target = STREAMS[kind]()
    monkeypatch.setattr(sys, stream, target)
    is_lost = stream == "stdout" and kind not in ("none", "ascii")
    try:
        if is_lost:
            with pytest.raises(SystemExit) as caught:
                cli.run(Args, main, [])
            assert caught.value.code == 1
        else:
            cli.run(Args, main, [])
        assert done == [True]
        assert getattr(sys, stream) is target
    finally:
        with contextlib.suppress(OSError):
            if target is not None:
                target.close()


@pytest.mark.parametrize(
    ("environment", "redirection", "code", "left"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "", 0, ("1.0 ? 0.1\n", "")),
        ({"PYTHONIOENCODING": "ascii"}, ">&-", 0, ("", "")),
        ({}, ">/dev/full", 1, ("", "error: standard output: No space left on device; files are complete\n")),
        ({}, "noisy 2>/dev/full", 0, ("1.0 ± 0.1\n", "")),
        ({}, "noisy 2>&-", 0, ("1.0 ± 0.1\n", "")),
    ],
)
def test_a_process_ends_as_its_run_did(environment, redirection, code, left, tmp_path):
    script = "\n".join(
        [
            "import sys",
            "from dataclasses import dataclass",
            "from experiments.common import cli",
            "@dataclass",
            "class Args: pass",
            "def main(_):",
            "    print('1.0 ± 0.1')",
            "    if sys.argv[1:]: print('shown to nobody', file=sys.stderr)",
            f"    open({str(tmp_path / 'done')!r}, 'w').close()",
            "cli.run(Args, main, [])",
        ]
    )
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    command = ["sh", "-c", f"exec {sys.executable} {tmp_path / 'script.py'} {redirection}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", **BUFFERED, **environment}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, *left)
    assert (tmp_path / "done").exists()


def start(*argv, **arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pyro_vd.experiments.mnist_compress", "--dataset", "digits", *argv]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **arguments
    )


def test_the_process_ends_with_one_line(tmp_path):
    process = start("--scheme", "hierarchicl", "--out", str(tmp_path / "out"), cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert err.splitlines() == [
        f"error: unknown scheme 'hierarchicl'; did you mean 'hierarchical'? (known: {', '.join(guides.SCHEMES)})"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_had_enough_is_told_nothing():
    code = "\n".join(
        [
            "from dataclasses import dataclass",
            "from experiments.common import cli",
            "@dataclass",
            "class Args: pass",
            "cli.run(Args, lambda args: print('line\\n' * 100_000), [])",
        ]
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **BUFFERED}, **pipes, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_an_interrupted_process_says_how_to_go_on(tmp_path):
    process = start("--scheme", "none", "--epochs", "100000", "--out", str(tmp_path / "out"), "--engine", "eager")
    assert process.stdout.readline()
    while not list((tmp_path / "out" / "checkpoints").glob("*.json")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert "saved, run the same command again to go on" in last
    assert "Traceback" not in err
