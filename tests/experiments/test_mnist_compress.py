"""The experiment end to end on digits with a network of a few hundred weights: records, tables, pictures."""

import json

import pytest
from PIL import Image

import pyro_vd
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import compression, phases, runner
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS, THRESHOLDS
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.mnist_compress import Args
from pyro_vd.models import NETWORKS
from tests.runs import without_times
from tests.tiny import Tiny

SCHEMES = ("none", "sparse", "hierarchical")


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    """In the place of LeNet-300-100, so that a run takes a second; the last test runs the real one."""
    real = NETWORKS["lenet300"]
    NETWORKS["lenet300"] = Tiny
    yield real
    NETWORKS["lenet300"] = real


def arguments(out, **changes):
    usual = {"dataset": "digits", "epochs": 2, "device": "cpu", "engine": "eager", "num_samples": 3, "out": out}
    return Args(**{**usual, "batch_size": 500, **changes})


def strict(path):
    """Python's json accepts NaN, no other reader does."""

    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


def one(out, **changes):
    """The only record, of one scheme."""
    mnist_compress.main(arguments(out, **{"scheme": ("sparse",), **changes}))
    (path,) = out.glob("*.json")
    return path, strict(path)


def stamp(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done")
    mnist_compress.main(arguments(out))
    return out


@pytest.fixture(scope="module")
def found(done):
    return {run.spec.method: run for run in Store(done).runs(COMPRESSION_KEYS)}


def test_there_is_one_record_for_each_scheme(found):
    assert set(found) == set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_record_holds_everything(found, scheme):
    run = found[scheme]
    record = strict(run.path)
    assert (record["experiment"], record["protocol"]) == ("mnist_compress", "digits")
    assert record["changes"] == {"batch_size": 500, "epochs": 2}
    assert record["data_sha256"] == load("digits").sha256
    assert (run.spec.seed, run.spec.num_samples, run.spec.network) == (0, 3, "lenet300")
    assert record["weights"] == 64 * 8 + 8 * 10
    assert not record["diverged"]
    for name in ("test_error", "test_error_unpruned", "test_error_mc"):
        assert 0 <= record[name] <= 1, name
        assert record[name] * 359 == pytest.approx(round(record[name] * 359))  # a fraction of the test set
    (own,) = [point for point in record["curve"] if point["threshold"] == run.spec.main.threshold]
    assert (own["error"], own["compression"]) == (record["test_error"], record["compression"])
    assert [point["threshold"] for point in record["curve"]] == list(THRESHOLDS)


def test_the_tables_have_a_row_for_each_scheme_and_no_published_number(done):
    """The published numbers are MNIST's; these are digits."""
    text = (done / "table.md").read_text()
    errors = text.split("\n\n")[1].splitlines()
    assert len(errors) == 2 + len(SCHEMES)
    assert text.startswith("lenet300, digits")
    for scheme in SCHEMES:
        assert sum(f"| {scheme} " in line for line in errors) == 1
    assert "published" not in text
    assert "68x" not in text


def picture_names(done):
    yield done / "curves.png"
    for scheme in SCHEMES:
        for kind in ("filters", "heatmap", "training"):
            yield done / f"{next(done.glob(f'*-{scheme}-*.json')).stem}-{kind}.png"


def test_there_are_pictures_with_something_in_them(done):
    for path in picture_names(done):
        image = Image.open(path)
        assert image.format == "PNG"
        assert min(image.size) >= 200, path
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 20, path  # kills an empty figure


def test_the_end_says_what_was_written_and_what_is_next(tmp_path, capsys):
    one(tmp_path, epochs=1)
    last = capsys.readouterr().out.splitlines()[-1]
    files = "records, table.md, curves.png, pictures of runs (*.png), compressed networks (*.safetensors.xz)"
    assert last == f"written to {tmp_path}: {files}; more: pyro-vd report {tmp_path}"


def test_a_finished_run_is_kept(done, capsys, monkeypatch):
    def no_training(*_, **__):
        raise AssertionError("a finished run is trained again")

    before = stamp(done)
    monkeypatch.setattr(phases.pyro_vd, "fit", no_training)
    mnist_compress.main(arguments(done))
    assert stamp(done) == before
    assert capsys.readouterr().out.count("already finished") == len(SCHEMES)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_samples": 4}, {"lr": 0.002}, {"kl_weight": 0.5}, {"threshold": 2.0}, {"epochs": 3}, {"batch_size": 50},
        {"shift": 1}, {"validation": 200}, {"noise_lr": 0.3}, {"hold": 0.1},
        {"ramp": 1.0}, {"parametrization": "log_alpha"}, {"init": -5.0}, {"pretrain": 1}, {"fine_tune": 1},
        {"wait": 0.9}, {"train_masking": False},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_another_argument_is_another_run(done, changed, monkeypatch):
    """Never a finished record under arguments that it was not made with."""

    class Trained(Exception):
        pass

    def note(*_, **__):
        raise Trained

    before = stamp(done)
    monkeypatch.setattr(phases.pyro_vd, "fit", note)
    with pytest.raises(Trained):
        mnist_compress.main(arguments(done, scheme=("sparse",), **changed))
    assert stamp(done) == before


def test_what_decides_nothing_is_no_other_run(done, monkeypatch):
    monkeypatch.setattr(phases.pyro_vd, "fit", None)
    mnist_compress.main(arguments(done, scheme=("sparse",), engine="compiled", threads=1))


@pytest.mark.parametrize("stop", range(1, 7))
def test_an_interrupted_experiment_goes_on_to_the_same_numbers(tmp_path, monkeypatch, stop, whole):
    """In dense training, in the scheme's, and in fine-tuning."""
    counts = [0]

    def tick(self):
        counts[0] += 1
        if counts[0] == stop:
            raise KeyboardInterrupt

    changes = {"pretrain": 2, "fine_tune": 2, "threshold": -4.0}
    with monkeypatch.context() as patch:
        patch.setattr(runner.Clock, "tick", tick)
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path, **changes)
    assert list(tmp_path.glob("*.json")) == []
    assert without_times(one(tmp_path, **changes)[1]) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    changes = {"pretrain": 2, "fine_tune": 2, "threshold": -4.0}
    return without_times(one(tmp_path_factory.mktemp("whole"), **changes)[1])


def test_runs_in_a_folder_share_their_dense_training(tmp_path):
    """Whatever comes after it, to the numbers of a run alone."""
    first, alone = tmp_path / "shared", tmp_path / "alone"
    one(first, pretrain=2, epochs=1)
    dense = {path: path.stat().st_mtime_ns for path in (first / "checkpoints").glob("1-phases-*")}
    assert dense
    after = {"noise_lr": 0.5, "kl_weight": 0.5, "hold": 0.0, "init": -6.0, "threshold": 2.0, "fine_tune": 1}
    for out in (first, alone):
        mnist_compress.main(arguments(out, scheme=("hierarchical",), pretrain=2, epochs=3, **after))
    assert {path: path.stat().st_mtime_ns for path in (first / "checkpoints").glob("1-phases-*")} == dense
    shared, own = (strict(path) for out in (first, alone) for path in out.glob("*-hierarchical-*.json"))
    times = [row.pop("seconds") for record in (shared, own) for row in record["history"]]
    assert times
    assert without_times({**shared, "history": []}) == without_times({**own, "history": []})
    assert shared["history"] == own["history"]


def test_pretraining_is_worth_something(tmp_path):
    rows = [one(tmp_path / str(count), pretrain=count)[1]["history"] for count in (0, 3)]
    plain, pretrained = (next(row for row in part if row["phase"] == "fit") for part in rows)
    assert pretrained["loss"] < plain["loss"]


def test_fine_tuning_leaves_the_posterior(tmp_path):
    """The run without it is not trained again, and what is deployed is tuned."""
    changes = {"threshold": -2.0, "epochs": 6, "batch_size": 100}
    _, plain = one(tmp_path, **changes)
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), fine_tune=20, **changes))
    (tuned,) = [run for run in Store(tmp_path).runs() if len(run.spec.phases) == 2]
    assert 1 < plain["compression"] == tuned["compression"]
    same = ("sparsity_per_layer", "test_error_unpruned", "test_error_mc", "curve")
    assert {name: plain[name] for name in same} == {name: tuned[name] for name in same}
    assert tuned["test_error_pruned"] == plain["test_error"] > tuned["test_error"]
    assert tuned["history"][:6] == plain["history"]  # to its seconds


def test_a_diverged_run_is_a_record_too(tmp_path, capsys, monkeypatch):
    """Counted in the table; nothing of it is a number."""

    def diverging(*_, **__):
        raise pyro_vd.NonFiniteError("loss is nan", [{"epoch": 0, "loss": 1.0, "seconds": 2.5}])

    monkeypatch.setattr(phases.pyro_vd, "fit", diverging)
    _, record = one(tmp_path)
    assert (record["diverged"], record["seconds"]) == ("loss is nan", 2.5)
    assert record["history"] == [{"phase": "fit", "epoch": 0, "loss": 1.0, "seconds": 2.5}]
    assert set(COMPRESSION_KEYS) <= set(record)
    assert record["test_error"] is record["compression"] is None
    said = capsys.readouterr().out
    assert "diverged: loss is nan" in said
    assert "(+1 diverged)" in (tmp_path / "table.md").read_text()
    assert f"written to {tmp_path}: records, table.md; more" in said  # there is no curve
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",)))
    assert "already finished" in capsys.readouterr().out


def test_a_network_pruned_to_nothing_is_a_record_too(tmp_path):
    _, record = one(tmp_path, threshold=-30.0, epochs=1)
    assert record["nonzero"] == 0
    assert record["compression"] is None
    assert "empty network" in (tmp_path / "table.md").read_text()


def test_seeds_are_numbered_from_zero_and_differ(tmp_path):
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), seeds=2, epochs=1))
    runs = Store(tmp_path).runs()
    assert [run.spec.seed for run in runs] == [0, 1]
    assert runs[0]["history"][0]["loss"] != runs[1]["history"][0]["loss"]
    assert "±" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scheme": ()}, "--scheme needs at least one name"),
        ({"scheme": ("sprase",)}, "did you mean 'sparse'"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"seeds": 0}, "--seeds"),
        ({"num_samples": 0}, "--num-samples"),
        ({"pretrain": -1}, "--pretrain"),
        ({"wait": 1.5}, "shares of the epochs"),
        ({"ramp": -0.1}, "shares of the epochs"),
        ({"hold": float("nan")}, "shares of the epochs"),
        ({"threshold": float("nan")}, "--threshold must be finite"),
        ({"threshold": 2.0, "scheme": ("sparse", "l0")}, "--threshold is not for l0"),
        ({"init": 100.0}, r"--init must lie in \[-"),
        ({"init": -5.0, "scheme": ("none", "l0")}, "--parametrization and --init"),
        ({"lr": 0.0}, "--lr"),
        ({"noise_lr": float("inf")}, "--noise-lr"),
        ({"kl_weight": -1.0}, "--kl-weight"),
        ({"shift": 9}, "--shift 9"),
        ({"validation": 5000}, "does not fit"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        mnist_compress.main(arguments(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_the_real_network_runs(tmp_path, monkeypatch, tiny_network):
    """LeNet-300-100 on digits of its own size, with log_alpha."""
    monkeypatch.setitem(NETWORKS, "lenet300", tiny_network)
    path, record = one(tmp_path, epochs=1, parametrization="log_alpha")
    assert record["dataset"] == "digits (28x28)"
    assert record["weights"] == 266_200
    assert (tmp_path / f"{path.stem}-filters.png").exists()
    assert compression.DIVERGED.keys() == set(COMPRESSION_KEYS)
