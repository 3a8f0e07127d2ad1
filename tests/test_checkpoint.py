"""Checkpoints: what is read back is what was written, anything else is refused, a failed write costs nothing."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch

from pyro_vd import checkpoint
from pyro_vd.errors import CheckpointError

META = {"epoch": 3, "history": [{"loss": 0.1}], "name": "naïve", "none": None, "on": True}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def tiny(path, value=1.0, meta=None):
    checkpoint.save(path, {"w": torch.tensor([value])}, meta or {"v": value})


def json_of(path):
    return path.with_name(path.name + ".json")


def tensors_of(path):
    (file,) = path.parent.glob(f"{path.name}-*.safetensors")
    return file


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def refused(path, *reasons):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for reason in (str(path.parent), *reasons):
        assert reason in message, message


def rewrite(path, **changes):
    """Alters the JSON and gives it a digest that fits, as a forger would."""
    body = json.loads(json_of(path).read_text())
    body.pop("digest")
    body.update(changes)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    json_of(path).write_text(json.dumps({**body, "digest": digest}))


# --- round trip


def test_tensors_come_back_bit_for_bit(path):
    tensors = {
        "f32": torch.tensor([[1.5, -0.0], [float("inf"), float("nan")]]),
        "f64": torch.tensor([1 / 3, 5e-324], dtype=torch.float64),
        "u8": torch.arange(256, dtype=torch.uint8),
        "i64": torch.tensor([-(2**63), 2**63 - 1]),
        "bool": torch.tensor([True, False]),
        "0-dim": torch.tensor(7.25),
        "empty": torch.empty(0, 3),
        "model.fc1.weight": torch.randn(2, 3, 4, 5),
    }
    checkpoint.save(path, tensors, META)
    loaded, meta = checkpoint.load(path)
    assert meta == META
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert loaded[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_parameters_and_views_are_saved_by_value(path):
    base = torch.arange(12.0).reshape(3, 4)
    checkpoint.save(path, {"t": base.t(), "p": torch.nn.Parameter(base.clone()), "row": base.clone()[1]}, {})
    loaded, _ = checkpoint.load(path)
    assert torch.equal(loaded["t"], base.t())
    assert torch.equal(loaded["p"], base)
    assert not loaded["p"].requires_grad
    assert torch.equal(loaded["row"], base[1])


def test_no_tensors_is_a_checkpoint_too(path):
    checkpoint.save(path, {}, META)
    assert checkpoint.load(path) == ({}, META)


def test_a_checkpoint_is_two_files_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "run"
    assert not checkpoint.exists(path)
    tiny(path)
    assert checkpoint.exists(path)
    names = files(path.parent)
    assert len(names) == 2
    assert names[1] == "run.json"
    assert names[0].startswith("run-")
    assert names[0].endswith(".safetensors")


def test_a_name_with_a_dot_keeps_it(tmp_path):
    """Path.with_suffix would make run-0.5 and run-0.9 the same file."""
    tiny(tmp_path / "run-0.5", 5.0)
    tiny(tmp_path / "run-0.9", 9.0)
    assert checkpoint.load(tmp_path / "run-0.5")[0]["w"].item() == 5.0
    assert checkpoint.load(tmp_path / "run-0.9")[0]["w"].item() == 9.0


def test_old_tensor_files_go_and_other_files_stay(path):
    tiny(path, 1.0)
    first = tensors_of(path)
    (path.parent / "notes.txt").write_text("mine")
    tiny(path.with_name("other"), 4.0)
    tiny(path, 3.0)
    assert first.exists()  # of the generation before
    tiny(path, 2.0)
    assert not first.exists()
    assert (path.parent / "notes.txt").exists()
    assert checkpoint.load(path)[1] == {"v": 2.0}
    assert checkpoint.load(path.with_name("other"))[1] == {"v": 4.0}


def test_saving_does_not_touch_a_checkpoint_whose_name_begins_the_same(tmp_path):
    """``sparse`` and ``sparse-s1`` side by side: cleaning up by the pattern ``sparse-*`` takes the other's tensors."""
    tiny(tmp_path / "sparse-s1", 1.0)
    tiny(tmp_path / "sparse", 2.0)
    tiny(tmp_path / "sparse", 3.0)
    assert checkpoint.load(tmp_path / "sparse-s1")[0]["w"].item() == 1.0
    assert checkpoint.load(tmp_path / "sparse")[0]["w"].item() == 3.0


@pytest.mark.parametrize("name", ["run[1]", "run*", "what?"])
def test_a_name_that_looks_like_a_pattern_is_only_a_name(tmp_path, name):
    """Kills glob with an unescaped name: old tensor files would stay, or another run's would go."""
    tiny(tmp_path / "run1", 7.0)
    for value in (1.0, 2.0, 3.0):
        tiny(tmp_path / name, value)
    assert checkpoint.load(tmp_path / name)[1] == {"v": 3.0}
    assert checkpoint.load(tmp_path / "run1")[1] == {"v": 7.0}
    assert len(files(tmp_path)) == 2 + 4


def test_saving_the_same_again_keeps_it(path):
    """The tensor file has the same name then, and must not be cleaned up as old."""
    tiny(path)
    tiny(path)
    assert checkpoint.load(path)[0]["w"].item() == 1.0
    assert files(path.parent) == [tensors_of(path).name, "run.json", "run.json.previous"]


def test_the_same_tensors_with_another_meta(path):
    tiny(path, meta={"v": 1})
    tiny(path, meta={"v": 2})
    assert checkpoint.load(path)[1] == {"v": 2}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused_in_meta(path, number):
    """JSON has no such number; the previous checkpoint must survive the refusal."""
    tiny(path)
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(path, {"w": torch.tensor([2.0])}, {"history": [{"loss": number}]})
    assert checkpoint.load(path)[1] == {"v": 1.0}


# --- damage


def test_every_flipped_bit_of_the_json_is_refused(path):
    tiny(path)
    content = json_of(path).read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[position] ^= 1 << bit
            json_of(path).write_bytes(altered)
            refused(path, "run.json")


def test_every_flipped_byte_of_the_tensors_is_refused(path):
    tiny(path)
    file = tensors_of(path)
    content = file.read_bytes()
    for position in range(len(content)):
        for mask in (0x01, 0x80):
            altered = bytearray(content)
            altered[position] ^= mask
            file.write_bytes(altered)
            refused(path, "SHA-256")


def test_every_truncation_is_refused(path):
    tiny(path)
    for file in (json_of(path), tensors_of(path)):
        content = file.read_bytes()
        for length in range(len(content)):
            file.write_bytes(content[:length])
            refused(path)
        file.write_bytes(content)
    checkpoint.load(path)


def test_extra_bytes_are_refused(path):
    tiny(path)
    for file in (json_of(path), tensors_of(path)):
        content = file.read_bytes()
        file.write_bytes(content + b"x")
        refused(path)
        file.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"digest"',
        b"{}",
        b'{"digest": 1}',
        b'["digest"]',
        b"\xff\xfe",
        b"<html>",
        b"NaN",
        b'{"digest": "x", "format": NaN}',
        b'{"digest": "x", "meta": 1e999}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
def test_other_files_under_the_name_are_refused(path, content):
    json_of(path).write_bytes(content)
    refused(path, "run.json")


@pytest.mark.parametrize("missing", ["format", "tensors", "sha256", "meta"])
def test_a_json_that_lacks_a_key_is_refused(path, missing):
    """With a digest that fits: written by another program, or by hand."""
    tiny(path)
    body = json.loads(json_of(path).read_text())
    del body["digest"], body[missing]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    json_of(path).write_text(json.dumps({**body, "digest": digest}))
    refused(path, "run.json")


@pytest.mark.parametrize("version", [1, 0, 3, "2", None])
def test_another_format_is_refused(path, version):
    tiny(path)
    rewrite(path, format=version)
    refused(
        path,
        f"format {version}, this version reads format 2",
        "update" if version == 3 else "choose another checkpoint",
    )


def test_a_missing_checkpoint_and_a_missing_tensor_file_are_refused(path):
    refused(path, "No such file")
    tiny(path)
    tensors_of(path).unlink()
    assert checkpoint.exists(path)
    refused(path, "safetensors", "incomplete")


def test_a_directory_under_the_name_is_refused(path):
    json_of(path).mkdir(parents=True)
    refused(path, "run.json")


def test_tensors_that_are_no_safetensors_are_refused_even_with_a_fitting_digest(path):
    tiny(path)
    content = b"\xff" * 64
    tensors_of(path).write_bytes(content)
    rewrite(path, sha256=hashlib.sha256(content).hexdigest())
    refused(path, "not a safetensors file")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/{absolute}", "a/../../secret.safetensors"])
def test_the_tensor_file_cannot_lie_elsewhere(tmp_path, name):
    secret = tmp_path / "secret.safetensors"
    payload = safetensors.torch.save({"w": torch.ones(1)})
    secret.write_bytes(payload)
    path = tmp_path / "runs" / "run"
    tiny(path)
    name = str(secret) if "absolute" in name else name
    rewrite(path, tensors=name, sha256=hashlib.sha256(payload).hexdigest())
    refused(path)


@pytest.mark.parametrize("name", ["", ".", "..", "/", None, 3, [], "x\0y"])
def test_a_strange_tensor_file_name_is_refused(path, name):
    tiny(path)
    rewrite(path, tensors=name)
    refused(path)


# --- two generations


def generations(path):
    tiny(path, 1.0)
    older = tensors_of(path)
    tiny(path, 2.0)
    (newer,) = set(path.parent.glob("run-*.safetensors")) - {older}
    return older, newer


@pytest.mark.parametrize("spoil", ["flip", "truncate", "delete", "replace by a folder"])
@pytest.mark.parametrize("which", ["json", "tensors"])
def test_a_damaged_generation_falls_back_to_the_one_before_it(which, spoil, path):
    """One flipped bit no longer costs the run, and it is said."""
    _, newer = generations(path)
    file = json_of(path) if which == "json" else newer
    content = bytearray(file.read_bytes())
    file.unlink()
    if spoil == "flip":
        content[-10] ^= 1
        file.write_bytes(content)
    elif spoil == "truncate":
        file.write_bytes(content[:-1])
    elif spoil == "replace by a folder":
        file.mkdir()
    if (which, spoil) == ("json", "delete"):  # who deletes the JSON has deleted the checkpoint
        refused(path, "No such file")
        return
    with pytest.warns(UserWarning, match=r"using the previous generation, run\.json\.previous") as caught:
        tensors, meta = checkpoint.load(path)
    assert (tensors["w"].item(), meta) == (1.0, {"v": 1.0})
    assert len(caught) == 1
    assert str(file) in str(caught[0].message)
    assert "\n" not in str(caught[0].message)


@pytest.mark.filterwarnings("ignore:.*using the previous generation")
def test_a_damaged_generation_does_not_push_out_a_whole_one(path):
    """Saving goes on from the one before: what was damaged is no generation."""
    older, newer = generations(path)
    newer.write_bytes(b"damaged")
    tiny(path, 3.0)
    assert older.exists()
    assert not newer.exists()
    tensors_of_3 = json.loads(json_of(path).read_text())["tensors"]
    (path.parent / tensors_of_3).write_bytes(b"damaged too")
    assert checkpoint.load(path)[1] == {"v": 1.0}


def test_both_generations_damaged_are_refused_by_the_newer(path):
    older, newer = generations(path)
    older.write_bytes(b"damaged")
    newer.write_bytes(b"damaged")
    refused(path, newer.name, "SHA-256")


@pytest.mark.parametrize("content", [b"\x80", b"PK\x03"])
def test_a_pickle_is_refused_whatever_was_before_it(path, content):
    generations(path)
    json_of(path).write_bytes(content)
    refused(path, "pickle")


def test_a_deleted_run_leaves_no_generation_to_a_new_one(path):
    generations(path)
    json_of(path).unlink()
    tiny(path, 9.0)
    assert len(files(path.parent)) == 2
    tensors_of(path).write_bytes(b"damaged")
    refused(path, "SHA-256")


def test_a_disk_that_gives_back_other_bytes_costs_nothing(path, monkeypatch):
    """The new tensors are read again before the old ones lose their place."""
    tiny(path, 1.0)
    write = checkpoint.write_atomically
    monkeypatch.setattr(checkpoint, "write_atomically", lambda file, content: write(file, content[:-1] + b"x"))
    with pytest.raises(OSError, match="bytes read back are not") as caught:
        tiny(path, 2.0)
    assert caught.value.filename.startswith(str(path))
    assert checkpoint.load(path)[1] == {"v": 1.0}


def test_partial_files_of_dead_processes_go_and_others_stay(path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = process.pid, os.getppid()
    names = [f"run-{'0' * 16}.safetensors", "run.json", "run.json.previous"]
    for name in (*names, "run-s1.json", "notes.txt"):
        for number in (dead, alive):
            path.with_name(f"{name}.{number}.7.part").touch()
    tiny(path)
    left = {file.name for file in path.parent.glob("*.part")}
    assert left == {f"{name}.{alive}.7.part" for name in names} | {
        f"{name}.{number}.7.part" for name in ("run-s1.json", "notes.txt") for number in (dead, alive)
    }


def test_a_reader_beside_a_writer_reads_a_whole_checkpoint(path, monkeypatch):
    """Between the JSON and its tensors two saves may come, which delete the tensors."""
    tiny(path, 1.0)
    read, calls = checkpoint.read_file, []

    def overtaken(file, limit):
        content = read(file, limit)
        calls.append(file)
        if len(calls) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(checkpoint, "read_file", read)
                for value in (2.0, 3.0, 4.0):
                    tiny(path, value)
        return content

    monkeypatch.setattr(checkpoint, "read_file", overtaken)
    tensors, meta = checkpoint.load(path)
    assert (tensors["w"].item(), meta) == (4.0, {"v": 4.0})


@pytest.mark.parametrize("which", ["json", "tensors"])
def test_what_is_no_regular_file_is_refused_at_once(which, path):
    """A pipe would wait for a writer for ever, and /dev/zero has no end."""
    tiny(path)
    file = json_of(path) if which == "json" else tensors_of(path)
    for make in (os.mkfifo, lambda file: os.symlink("/dev/zero", file)):
        file.unlink()
        make(file)
        refused(path, "not a regular file")


def test_scalars_of_numpy_and_pytorch_are_numbers(path):
    meta = {"seed": np.int64(3), "n": torch.tensor(50), "row": [{"accuracy": np.float32(0.5), "kl": torch.tensor(2.0)}]}
    tiny(path, meta=meta)
    assert checkpoint.load(path)[1] == {"seed": 3, "n": 50, "row": [{"accuracy": 0.5, "kl": 2.0}]}
    with pytest.raises(TypeError, match="of type set cannot be written as JSON"):
        tiny(path, meta={"v": {1}})


# --- pickles


class Canary:
    """Unpickling one of these leaves a file behind."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.mkdir, (self.file,)


@pytest.fixture
def canary(tmp_path):
    file = tmp_path / "the canary sang"
    yield Canary(file)
    assert not file.exists(), "a pickle was executed"


def pickles(canary, tmp_path):
    torch.save({"w": canary}, tmp_path / "zip.pt")
    torch.save({"w": canary}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    yield (tmp_path / "zip.pt").read_bytes()
    yield (tmp_path / "legacy.pt").read_bytes()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(canary, protocol)


def test_a_pickle_under_the_json_name_is_refused_and_not_run(tmp_path, canary):
    path = tmp_path / "run"
    for content in pickles(canary, tmp_path):
        json_of(path).write_bytes(content)
        refused(path, *(["pickle"] if content[:1] in b"\x80P" else []))


def test_a_pickle_under_the_tensors_name_is_refused_and_not_run(tmp_path, canary):
    path = tmp_path / "run"
    tiny(path)
    file = tensors_of(path)
    for content in pickles(canary, tmp_path):
        file.write_bytes(content)
        refused(path, file.name)
        rewrite(path, sha256=hashlib.sha256(content).hexdigest())  # even where the digest was made to fit
        refused(path, file.name, "not a safetensors file")


def test_the_canary_sings(tmp_path):
    """Else the two tests above show nothing."""
    pickle.loads(pickle.dumps(Canary(tmp_path / "song")))  # noqa: S301
    assert (tmp_path / "song").is_dir()


# --- writes that fail


class Failing:
    """Raises at the k-th call of a function, counted from 0."""

    def __init__(self, function, k, code=errno.EIO):
        self.function, self.left, self.code, self.fired = function, k, code, False

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == -1:
            self.fired = True
            raise OSError(self.code, os.strerror(self.code))
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_anywhere_leaves_a_whole_checkpoint(path, function, monkeypatch):
    """At every call until none is left to fail: the old state or the new one, whole, and no partial file."""
    fired = []
    for k in range(10):
        tiny(path, 1.0)
        failing = Failing(getattr(os, function), k)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, failing)
            with contextlib.suppress(OSError):
                tiny(path, 2.0)
        assert list(path.parent.glob("*.part")) == []
        tensors, meta = checkpoint.load(path)
        assert tensors["w"].item() == meta["v"]
        fired.append(failing.fired)
        if not failing.fired:
            break
        if function == "replace":
            assert meta == {"v": 1.0}
    assert sum(fired) >= 2  # the tensors and the JSON
    assert not fired[-1]
    assert meta == {"v": 2.0}
    assert len(files(path.parent)) == 4  # what failed writes left has gone with the next success


def test_a_first_write_that_fails_leaves_no_checkpoint(path, monkeypatch):
    monkeypatch.setattr(os, "replace", Failing(os.replace, 1))
    with pytest.raises(OSError, match="Input/output"):
        tiny(path)
    assert not checkpoint.exists(path)
    assert list(path.parent.glob("*.part")) == []


def test_the_file_is_synced_before_it_is_renamed(path, monkeypatch):
    """Kills fsync after replace, and its omission: after a power cut the new name would hold nothing."""
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, n=name, f=function: (calls.append(n), f(*args))[1])
    tiny(path)
    writes = "".join(name[0] for name in calls)
    assert writes in ("frffrf", "frfr", "frfrf"), writes


class FullDisk:
    """A file that takes the first bytes and then no more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *args):
        return self.file.__exit__(*args)

    def write(self, content):
        self.file.write(content[: self.room])
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")  # as Python has it, without a name
        return len(content)

    def __getattr__(self, name):
        return getattr(self.file, name)


def open_on_full_disk(room, *args, **options):
    file = open(*args, **options)  # noqa: SIM115
    return FullDisk(file, room) if "wb" in args else file


@pytest.mark.parametrize("room", [0, 10, 100])
def test_a_full_disk_says_so_and_costs_nothing(path, room, monkeypatch):
    tiny(path, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("pyro_vd.files.open", partial(open_on_full_disk, room), raising=False)
        with pytest.raises(OSError, match="No space left on device") as caught:
            tiny(path, 2.0)
    assert caught.value.filename.startswith(str(path))
    assert list(path.parent.glob("*.part")) == []
    assert checkpoint.load(path)[1] == {"v": 1.0}


def test_an_interrupted_write_leaves_no_partial_file(path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    tiny(path, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tiny(path, 2.0)
    assert list(path.parent.glob("*.part")) == []
    assert checkpoint.load(path)[1] == {"v": 1.0}


SAVING = """
import sys, torch
from pathlib import Path
from pyro_vd import checkpoint
for _ in range(100):
    checkpoint.save(Path(sys.argv[1]), {"w": torch.ones(1000)}, {"v": 1.0})
"""


@pytest.mark.fault
def test_two_processes_may_save_the_same_checkpoint(path):
    processes = [subprocess.Popen([sys.executable, "-c", SAVING, str(path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    tensors, meta = checkpoint.load(path)
    assert torch.equal(tensors["w"], torch.ones(1000))
    assert meta == {"v": 1.0}
    assert list(path.parent.glob("*.part")) == []
