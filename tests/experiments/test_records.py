"""Records: strict JSON, written whole, refused by name when they are not what they should be."""

import json
import math
import os
import subprocess
from functools import partial

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import records
from pyro_vd.experiments.common.records import REQUIRED, environment, read_record, read_records, write_record
from tests.records import complete


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


def test_an_older_record_is_read_under_the_present_names(tmp_path):
    """Its digest is that of the names it was written with, and the file stays as it is."""
    path = tmp_path / "run.json"
    old = {
        "protocol": "variant of headline: parametrisation=log_alpha",
        "prior": "BoundedLogUniform",
        "mc_samples": 5,
        "options": {"parametrisation": "log_alpha"},
        "draws": {"calibration_error": 0.1},
    }
    write_record(path, old)
    content = path.read_bytes()
    assert read_record(path, ("num_samples",)) == {
        "protocol": "variant of headline: parametrization=log_alpha",
        "prior": "TruncatedLogUniform",
        "num_samples": 5,
        "options": {"parametrization": "log_alpha"},
        "draws": {"expected_calibration_error": 0.1},
        "file": "run.json",
    }
    assert path.read_bytes() == content
    path.write_bytes(content.replace(b"mc_samples", b"num_samples"))
    with pytest.raises(UserError, match="digest"):
        read_record(path, ())


def test_an_altered_record_is_named_and_an_older_one_is_read(tmp_path):
    path = tmp_path / "run.json"
    write_record(path, complete(test_error=0.5))
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"test_error": 0.4}))
    with pytest.raises(UserError, match=r"run\.json: its digest does not match its content; altered"):
        read_records(tmp_path)
    del body["digest"]
    path.write_text(json.dumps(body))
    (record,) = read_records(tmp_path)
    assert record == complete(test_error=0.5, file="run.json")


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
    write_record(tmp_path / "run.json", complete(**{name: value}))
    with pytest.raises(UserError, match=rf"run\.json: {name} is .*, expected "):
        read_records(tmp_path)


def test_a_long_name_is_shortened_to_what_a_file_may_have():
    name = "ä" * 150 + "-s0"
    short = records.slug(name)
    assert len(short.encode()) <= records.NAME_LIMIT
    assert short.startswith("ä" * 75 + "-")
    assert short != records.slug("ä" * 150 + "-s1")
    assert records.slug("a" * 150 + "-s0") == "a" * 150 + "-s0"


def test_a_run_on_a_folder_of_a_long_name_has_files(tmp_path):
    """A folder may be named with 255 bytes, and a run's files have more than its name."""
    path, checkpoint = records.run_paths(tmp_path, records.slug("x" * 255 + "-sparse-s0"), {})
    write_record(path, {})
    longest = checkpoint.with_name(f"{checkpoint.name}-pretraining-0123456789abcdef.safetensors.1234567.part")
    longest.parent.mkdir()
    longest.touch()
    assert read_record(path, ())["file"] == path.name


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
    found = environment(torch.device("cpu"))
    assert set(found) >= {"torch", "pyro", "python", "revision", "device", "threads"}
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    json.dumps(found, allow_nan=False)


def test_without_git_the_revision_is_unknown(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(records.subprocess, "run", missing)
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
    assert records._revision(tmp_path / "deep") == commit + mark
