"""Records: strict JSON, written whole, refused by name when they are not what they should be."""

import json
import math
import subprocess
from functools import partial

import pytest
import torch

from experiments.common import records
from experiments.common.records import REQUIRED, circumstances, read_records, write_record
from pyro_vd.errors import UserError


def complete(**changes):
    return {**dict.fromkeys(REQUIRED, 1), **changes}


def test_records_come_back_by_file_name(tmp_path):
    write_record(tmp_path / "b.json", complete(seed=1))
    write_record(tmp_path / "sub" / "c.json", complete(seed=2))
    write_record(tmp_path / "a.json", complete(seed=0, test_error=None))
    (tmp_path / "table.md").write_text("not a record")
    found = read_records(tmp_path)
    assert [record["file"] for record in found] == ["a.json", "b.json"]
    assert [record["seed"] for record in found] == [0, 1]
    assert found[0]["test_error"] is None


def test_an_empty_folder_has_no_records(tmp_path):
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "not json", '{"seed": 1,}', "\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    write_record(tmp_path / "good.json", complete())
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
    record = complete()
    del record[key]
    write_record(tmp_path / "run.json", record)
    with pytest.raises(UserError, match=rf"run\.json: lacks {key};"):
        read_records(tmp_path)


def test_all_missing_keys_are_named(tmp_path):
    write_record(tmp_path / "run.json", {})
    with pytest.raises(UserError, match=", ".join(sorted(REQUIRED))):
        read_records(tmp_path)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_the_old_record_stays(tmp_path, number):
    """NaN is no JSON: another reader would refuse the whole file."""
    path = tmp_path / "run.json"
    write_record(path, complete(seed=5))
    with pytest.raises(ValueError, match="JSON"):
        write_record(path, complete(curve=[{"error": number}]))
    assert json.loads(path.read_text())["seed"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_circumstances_say_what_a_number_depends_on():
    found = circumstances(torch.device("cpu"))
    assert set(found) >= {"torch", "pyro", "python", "revision", "device", "threads"}
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    json.dumps(found, allow_nan=False)


def test_without_git_the_revision_is_unknown(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(records.subprocess, "run", missing)
    assert circumstances(torch.device("cpu"))["revision"] == "unknown"


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
    assert records._revision(tmp_path / "deep") == commit + mark
