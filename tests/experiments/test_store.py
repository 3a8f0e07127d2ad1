"""A folder of records, found by their specs."""

from dataclasses import dataclass, replace

import pytest

from pyro_vd import Training
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.records import read_record, write_record
from pyro_vd.experiments.common.spec import Data, Fit, Spec, encode, key_of
from pyro_vd.experiments.common.store import ARTIFACT_SUFFIXES, Run, Store, committed

SPEC = Spec(network="lenet300", data=Data(name="mnist"), phases=(Fit(scheme="sparse", training=Training(epochs=3)),))
OTHER = replace(SPEC, num_samples=2)
NUMBERS = {"test_error": 0.5, "diverged": False, "device": "cpu (2 cores, x86_64)"}


def test_a_run_comes_back_by_its_spec(tmp_path):
    store = Store(tmp_path / "new" / "folder")
    assert SPEC not in store
    assert store.load(SPEC) is None
    saved = store.save(SPEC, NUMBERS)
    assert saved.path == store.path(SPEC) == store.folder / f"mnist-lenet300-sparse-{key_of(SPEC)}-s0.json"
    assert SPEC in store
    found = store.load(SPEC, ("test_error",))
    assert found == saved
    assert (found.spec, found["test_error"], found.diverged, found.device) == (SPEC, 0.5, False, "cpu")
    assert found.beside("-filters.png").name == f"{saved.path.stem}-filters.png"
    assert OTHER not in store


def test_unfinished_specs_have_no_record_and_the_others_are_named(tmp_path, capsys):
    store = Store(tmp_path)
    path = store.save(SPEC, NUMBERS).path
    assert list(store.unfinished([SPEC, OTHER], ("test_error",))) == [OTHER]
    assert capsys.readouterr().out == f"{path}: already finished\n"
    with pytest.raises(UserError, match="lacks curve"):
        list(store.unfinished([SPEC], ("curve",)))
    assert list(store.unfinished([SPEC, OTHER], ("test_error",), resume=False)) == [SPEC, OTHER]
    assert not path.exists()


def test_a_finished_run_on_other_data_is_refused(tmp_path):
    store = Store(tmp_path)
    path = store.save(SPEC, {**NUMBERS, "data_sha256": "one"}).path
    assert list(store.unfinished([SPEC, OTHER], (), sha256="one")) == [OTHER]
    with pytest.raises(UserError, match=rf"{path.name}: holds a run on other data of the same name; choose another"):
        list(store.unfinished([OTHER, SPEC], (), sha256="another"))


def test_what_a_record_lacks_is_named(tmp_path):
    store = Store(tmp_path)
    store.save(SPEC, NUMBERS)
    for read in (store.load, store.seeds):
        with pytest.raises(UserError, match=r"-s0\.json: lacks curve"):
            read(SPEC, ("curve",))
    with pytest.raises(UserError, match="lacks curve"):
        store.runs(("curve",))


def test_a_record_without_a_spec_is_no_run(tmp_path):
    write_record(tmp_path / "old.json", {"seed": 0})
    with pytest.raises(UserError, match=r"old\.json: lacks spec"):
        Store(tmp_path).runs()


def test_a_spec_that_is_unknown_is_refused_with_its_file(tmp_path):
    write_record(tmp_path / "run.json", {"spec": {"kind": "Another"}})
    with pytest.raises(UserError, match=r"run\.json: unknown kind of value 'Another'; run its experiment again"):
        Store(tmp_path).runs()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_record_of_another_spec_is_refused(tmp_path, seed):
    """As a file that was renamed, or two specs of one key."""
    store = Store(tmp_path)
    write_record(store.path(replace(SPEC, seed=seed)), {"spec": encode(replace(OTHER, seed=seed)), **NUMBERS})
    with pytest.raises(UserError, match=rf"-s{seed}\.json: holds the run of another spec"):
        store.seeds(SPEC)
    with pytest.raises(UserError, match="holds the run of another spec"):
        store.load(replace(SPEC, seed=seed))


def test_the_record_of_another_seed_is_refused(tmp_path):
    store = Store(tmp_path)
    write_record(store.path(SPEC), {"spec": encode(replace(SPEC, seed=3)), **NUMBERS})
    with pytest.raises(UserError, match="another spec"):
        store.load(SPEC)


def test_seeds_are_those_of_one_spec_in_order(tmp_path):
    store = Store(tmp_path)
    for seed in (10, 2, 0):
        store.save(replace(SPEC, seed=seed), NUMBERS)
    store.save(OTHER, NUMBERS)
    (tmp_path / f"{store.path(SPEC).stem}-filters.png").touch()
    assert [run.spec.seed for run in store.seeds(replace(SPEC, seed=5))] == [0, 2, 10]
    assert [run.spec for run in store.seeds(OTHER)] == [OTHER]
    assert store.seeds(replace(SPEC, members=3)) == []
    assert [run.path.name for run in store.runs()] == sorted(path.name for path in tmp_path.glob("*.json"))


def test_a_folder_with_marks_of_patterns_is_read(tmp_path):
    """Of glob's, which a folder of images may hold in its name."""
    spec = replace(SPEC, data=Data(name="pictures [a]*"))
    store = Store(tmp_path / "out [1]*")
    store.save(spec, NUMBERS)
    assert [run.spec for run in store.seeds(spec)] == [spec]


def test_a_record_is_written_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)
    store.save(SPEC, NUMBERS)
    with pytest.raises(ValueError, match="JSON"):
        store.save(SPEC, {**NUMBERS, "test_error": float("nan")})
    assert store.load(SPEC)["test_error"] == 0.5
    assert len(list(tmp_path.iterdir())) == 1


def test_a_deleted_run_has_no_files_but_pictures(tmp_path):
    store = Store(tmp_path)
    runs = [store.save(spec, NUMBERS) for spec in (SPEC, replace(SPEC, seed=1), OTHER)]
    for run in runs:
        for suffix in (*ARTIFACT_SUFFIXES, "-filters.png"):
            run.beside(suffix).touch()
    store.delete(SPEC)
    left = {path.name for path in tmp_path.iterdir()}
    gone = {runs[0].path.name, *(runs[0].beside(suffix).name for suffix in ARTIFACT_SUFFIXES)}
    assert not gone & left
    assert len(left) == 3 * (2 + len(ARTIFACT_SUFFIXES)) - len(gone)
    store.delete(SPEC)  # nothing is there


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A spec of a study's own."""

    width: int
    seed: int = 0
    label: str = "regression"


def test_a_study_may_have_specs_of_its_own(tmp_path):
    store = Store(tmp_path, {"Regression": Regression})
    store.save(Regression(width=3), {"z": 1})
    assert [run.spec for run in store.seeds(Regression(width=3, seed=7))] == [Regression(width=3)]
    with pytest.raises(UserError, match="unknown kind of value 'Regression'"):
        Store(tmp_path).runs()


def test_a_diverged_run_says_so(tmp_path):
    run = Store(tmp_path).save(SPEC, {**NUMBERS, "diverged": "loss is nan"})
    assert run.diverged
    assert not Run(SPEC, {"diverged": False}, tmp_path).diverged


def test_committed_records_are_beside_the_studies():
    assert committed("tuning").folder.parts[-3:] == ("experiments", "results", "tuning")


def test_the_digest_holds_the_spec_too(tmp_path):
    run = Store(tmp_path).save(SPEC, NUMBERS)
    run.path.write_text(run.path.read_text().replace('"name": "mnist"', '"name": "mnits"'))
    with pytest.raises(UserError, match="digest"):
        read_record(run.path)
