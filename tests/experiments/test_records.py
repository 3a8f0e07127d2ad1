"""Records: strict JSON, written whole, refused by name when they are not what they should be."""

import json
import math
import os
import subprocess
from functools import partial

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import environment as environments
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.records import read_record, read_records, write_record

REQUIRED = ("seed", "network", *COMPRESSION_KEYS)
EXAMPLE = {"seed": 1, "network": "lenet", **dict.fromkeys(COMPRESSION_KEYS, 1), "sparsity_per_layer": {}, "curve": []}


def test_records_come_back_by_file_name(tmp_path):
    write_record(tmp_path / "b.json", {**EXAMPLE, "seed": 1})
    write_record(tmp_path / "sub" / "c.json", {**EXAMPLE, "seed": 2})
    write_record(tmp_path / "a.json", {**EXAMPLE, "seed": 0, "test_error": None})
    (tmp_path / "table.md").write_text("not a record")
    found = read_records(tmp_path)
    assert [record["file"] for record in found] == ["a.json", "b.json"]
    assert [record["seed"] for record in found] == [0, 1]
    assert found[0]["test_error"] is None


def test_an_empty_folder_has_no_records(tmp_path):
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "not json", '{"seed": 1,}', "\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    write_record(tmp_path / "good.json", dict(EXAMPLE))
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=r"bad\.json: not a JSON record"):
        read_records(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"text"', b"\xff\xfe\x00"])
def test_json_that_is_no_record_is_named(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_records(tmp_path)


@pytest.mark.parametrize("key", REQUIRED)
def test_every_missing_key_is_named(tmp_path, key):
    record = dict(EXAMPLE)
    del record[key]
    write_record(tmp_path / "run.json", record)
    with pytest.raises(UserError, match=rf"run\.json: lacks {key};"):
        read_records(tmp_path, REQUIRED)


@pytest.mark.parametrize("content", ["NaN", "Infinity", "-Infinity", "1e999", '{"a": 1, "a": 2}', "9" * 5000])
def test_json_that_others_would_not_read_is_no_record(tmp_path, content):
    """Of a name that stands twice, which holds is another reader's choice."""
    (tmp_path / "bad.json").write_text(f'{{"seed": {content}}}')
    with pytest.raises(UserError, match=r"bad\.json: not a JSON record"):
        read_records(tmp_path, ())


def test_deep_nesting_is_no_record(tmp_path):
    (tmp_path / "bad.json").write_text(100_000 * "[" + 100_000 * "]")
    with pytest.raises(UserError, match=r"bad\.json: not a JSON record"):
        read_records(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "large"])
def test_what_is_no_file_of_a_records_size_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "bad.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"bad\.json: cannot be read \((not a regular file|larger than)"):
        read_records(tmp_path)


def test_every_bit_that_flips_is_found_or_changes_nothing(tmp_path):
    record = {"seed": 3, "test_error": 0.0123, "name": "a ± b", "sparsity": {"fc1": 0.5}, "curve": [1, 2.5, None]}
    path = tmp_path / "run.json"
    write_record(path, record)
    content, refused = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = read_record(path, ())
        except UserError:
            refused += 1
        else:
            assert {name: found.get(name) for name in record} == record
    assert refused > 0.9 * 8 * len(content)


@pytest.mark.parametrize("digest", [None, "0" * 64, 3])
def test_an_altered_or_older_record_is_named(tmp_path, digest):
    path = tmp_path / "run.json"
    write_record(path, {**EXAMPLE, "test_error": 0.5})
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"test_error": 0.4}))
    with pytest.raises(UserError, match=r"run\.json: its digest does not match its content: altered, or of an older"):
        read_records(tmp_path)
    path.write_text(json.dumps(body | {"digest": digest}))
    with pytest.raises(UserError, match=r"run\.json: its digest does not match"):
        read_records(tmp_path)
    path.write_text(json.dumps(body))
    assert read_records(tmp_path) == [{**EXAMPLE, "test_error": 0.5, "file": "run.json"}]


def test_a_record_has_an_entry_and_a_row_per_line(tmp_path):
    """A difference of two versions is read by line."""
    write_record(tmp_path / "run.json", {"seed": 1, "history": [{"epoch": 0}, {"epoch": 1}], "empty": [], "pair": [1]})
    lines = (tmp_path / "run.json").read_text().splitlines()
    rows = [' "history": [', '  {"epoch": 0},', '  {"epoch": 1}', " ],"]
    assert lines[:8] == ["{", ' "seed": 1,', *rows, ' "empty": [],', ' "pair": [1],']


def test_a_digest_is_of_the_record_as_it_is_read(tmp_path):
    """Tuples become lists, and numbers as names text, whose order is another."""
    write_record(tmp_path / "run.json", {"sizes": {10: (1, 2), 9: 0.1}, "half": 0.5})
    assert read_record(tmp_path / "run.json", ())["sizes"] == {"10": [1, 2], "9": 0.1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "0"),
        ("seed", True),
        ("seed", None),
        ("test_error", "0.5"),
        ("test_error", [0.5]),
        ("test_error", True),
        ("network", 3),
        ("network", ["lenet"]),
        ("sparsity_per_layer", [1, 2]),
        ("diverged", None),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, name, value):
    write_record(tmp_path / "run.json", {**EXAMPLE, "diverged": False, name: value})
    with pytest.raises(UserError, match=rf"run\.json: {name} is .*, expected "):
        read_records(tmp_path, (*REQUIRED, "diverged"))


def test_a_diverged_runs_record_is_one(tmp_path):
    """It has no numbers; its weights were not counted."""
    empty = {**EXAMPLE, **dict.fromkeys(COMPRESSION_KEYS), "sparsity_per_layer": {}, "diverged": "loss is nan"}
    write_record(tmp_path / "run.json", empty)
    assert read_record(tmp_path / "run.json", (*REQUIRED, "diverged"))["weights"] is None


def test_all_missing_keys_are_named(tmp_path):
    write_record(tmp_path / "run.json", {})
    with pytest.raises(UserError, match=", ".join(sorted(REQUIRED))):
        read_records(tmp_path, REQUIRED)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_the_old_record_stays(tmp_path, number):
    """NaN is no JSON: another reader would refuse the whole file."""
    path = tmp_path / "run.json"
    write_record(path, {**EXAMPLE, "seed": 5})
    with pytest.raises(ValueError, match="JSON"):
        write_record(path, {**EXAMPLE, "curve": [{"error": number}]})
    assert json.loads(path.read_text())["seed"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_the_environment_says_what_a_number_depends_on():
    found = environment(torch.device("cpu"))
    assert set(found) >= {"torch", "pyro", "python", "revision", "device", "threads"}
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    json.dumps(found, allow_nan=False)


def test_without_git_the_revision_is_unknown(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(environments.subprocess, "run", missing)
    assert environment(torch.device("cpu"))["revision"] == "unknown"


@pytest.mark.parametrize(
    ("changed", "mark"), [(None, ""), ("deep/code.py", "+"), ("results/run.json", ""), ("deep/new.py", "+")]
)
def test_changed_code_is_marked(tmp_path, changed, mark):
    """A number from code that no commit holds must not look as if one did; a record made again is no code."""
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    for file in ("deep/code.py", "results/run.json"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("1")
    git(["git", "init"])
    git(["git", "add", "."])
    git(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "all"])
    if changed:
        (tmp_path / changed).write_text("2")
    commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
    assert environments._revision(tmp_path / "deep") == commit + mark


def test_the_repository_of_another_project_says_nothing(tmp_path):
    """An environment in its folder holds the package, and no commit of it does."""
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    installed = tmp_path / "environment" / "experiments"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("1")
    (tmp_path / "own.py").write_text("1")
    git(["git", "init"])
    git(["git", "add", "own.py"])
    git(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "own"])
    assert environments._revision(installed) == "unknown"


def test_the_hardware_of_a_benchmark_is_a_line():
    assert hardware({"device": "cpu", "threads": 1, "torch": "2.1"}) == "cpu, 1 thread, torch 2.1"
    assert hardware({"device": "H", "threads": 2, "torch": "2.1"}) == "H, 2 threads, torch 2.1"
