"""The experiment end to end on digits with a network of a few hundred weights: records, table, pictures, resumption."""

import dataclasses
import json
import math

import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from pyro_vd import NonFiniteError, checkpoint, compress
from pyro_vd.data import LabeledImages, load
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import compression, fine_tune, pretrain, training
from pyro_vd.experiments.common.compression import THRESHOLDS
from pyro_vd.experiments.common.records import REQUIRED
from pyro_vd.experiments.mnist_compress import Args
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import LeNet300
from tests.tiny import Tiny

SCHEMES = ("none", "sparse", "hierarchical")


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    """In the place of LeNet-300-100, so that a run takes a second; the last test runs the real one."""
    real = mnist_compress.NETWORKS["lenet300"]
    mnist_compress.NETWORKS["lenet300"] = Tiny
    yield real
    mnist_compress.NETWORKS["lenet300"] = real


def arguments(out, **changes):
    return Args(**{"dataset": "digits", "epochs": 2, "device": "cpu", "num_samples": 3, "out": out, **changes})


def strict(path):
    """Python's json accepts NaN, no other reader does."""

    def refuse(name):
        raise AssertionError(f"{path} holds {name}")

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record.pop("digest")  # which is of the seconds too
    return record


def stamp(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done")
    mnist_compress.main(arguments(out))
    return out


@pytest.fixture(scope="module")
def found(done):
    return {record["scheme"]: record for record in map(strict, done.glob("*.json"))}


def test_there_is_one_record_for_each_scheme(found):
    assert set(found) == set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_compressed_network_is_a_file_that_loads(found, done, scheme):
    record = found[scheme]
    (file,) = done.glob(f"*-{scheme}-*.safetensors.xz")
    split = training.load_data("digits", Tiny(), None)
    net = compress.load(file, Tiny()).eval()
    assert error_rate(compute_logits(net, split.test), split.test.labels) == record["test_error"]
    deployment = record["deployment"]
    assert {name: list(sizes) for name, sizes in compress.architecture(net).items()} == deployment["architecture"]
    assert deployment["forms"]["float32"] == {"bytes": file.stat().st_size, "test_error": record["test_error"]}
    assert deployment["dense_parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert ("posterior" in deployment["forms"]) == (scheme != "none")
    assert deployment["forms"]["float16"]["bytes"] < deployment["forms"]["float32"]["bytes"] < deployment["dense_bytes"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_record_holds_everything(found, scheme):
    record = found[scheme]
    assert set(REQUIRED) <= set(record)
    assert record["dataset"].startswith("digits")
    assert record["data_sha256"] == load("digits").sha256
    assert (record["seed"], record["epochs"], record["batch_size"], record["num_samples"]) == (0, 2, 100, 3)
    assert record["weights"] == 64 * 8 + 8 * 10
    assert record["nonzero"] <= record["weights"]
    assert not record["diverged"]
    assert record["seconds"] > 0
    assert len(record["history"]) == 2
    for name in ("test_error", "test_error_unpruned", "test_error_mc"):
        assert 0 <= record[name] <= 1, name
        assert record[name] * 359 == pytest.approx(round(record[name] * 359))  # a fraction of the test set
    assert record["compression"] == pytest.approx(record["weights"] / record["nonzero"])
    sizes = {"fc1.weight": 512, "fc2.weight": 80}
    zeros = sum(record["sparsity_per_layer"][site] * size for site, size in sizes.items())
    assert zeros == pytest.approx(record["weights"] - record["nonzero"])


def test_priors_are_named(found):
    assert {scheme: record["prior"] for scheme, record in found.items()} == {
        "none": "Flat",
        "sparse": "LogUniform",
        "hierarchical": "EmpiricalBayes",
    }


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_curve_is_over_all_thresholds_and_compression_falls(found, scheme):
    curve = found[scheme]["curve"]
    assert [point["threshold"] for point in curve] == list(THRESHOLDS)
    ratios = [point["compression"] or math.inf for point in curve]
    assert ratios == sorted(ratios, reverse=True)
    (own,) = [point for point in curve if point["threshold"] == found[scheme]["threshold"]]
    assert own["error"] == found[scheme]["test_error"]
    assert own["compression"] == found[scheme]["compression"]


def test_the_baseline_is_not_pruned(found):
    assert found["none"]["compression"] == 1
    assert found["none"]["test_error"] == found["none"]["test_error_unpruned"] == found["none"]["test_error_mc"]


def test_the_table_has_a_row_for_each_scheme_and_no_published_number(done):
    """The published numbers are MNIST's; these are digits."""
    accuracy, sizes = (table.splitlines() for table in (done / "table.md").read_text().split("\n\n"))
    assert len(accuracy) == len(sizes) == 2 + len(SCHEMES)
    lines = [*accuracy, *sizes]
    for scheme in SCHEMES:
        line, _ = [line for line in lines if f"| {scheme} " in line]
        assert "digits" in line
        assert "paper" not in line
        assert "68x" not in line


def picture_names(done):
    stems = {scheme: next(done.glob(f"*-{scheme}-*.json")).stem for scheme in SCHEMES}
    yield done / "curves.png"
    for stem in stems.values():
        for kind in ("filters", "heatmap", "training"):
            yield done / f"{stem}-{kind}.png"


def test_there_are_pictures_with_something_in_them(done):
    for path in picture_names(done):
        image = Image.open(path)
        assert image.format == "PNG"
        assert min(image.size) >= 200, path
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 20, path  # kills an empty figure


def test_a_finished_run_is_kept(done, capsys, monkeypatch):
    def no_training(*_, **__):
        raise AssertionError("a finished run is trained again")

    before = stamp(done)
    monkeypatch.setattr(compression, "fit", no_training)
    mnist_compress.main(arguments(done))
    assert stamp(done) == before
    assert capsys.readouterr().out.count("already finished") == len(SCHEMES)


@pytest.mark.parametrize(
    "changed",
    [{"num_samples": 4}, {"lr": 0.002}, {"kl_weight": 0.5}, {"threshold": 2.0}, {"epochs": 3}, {"batch_size": 50}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_protocol_is_another_run_or_refused(done, changed, monkeypatch):
    """Never a finished record under arguments that it was not made with."""

    class Trained(Exception):
        pass

    def note(*_, **__):
        raise Trained

    before = stamp(done)
    monkeypatch.setattr(compression, "fit", note)
    ((name, _),) = changed.items()
    message = None
    try:
        mnist_compress.main(arguments(done, scheme=("sparse",), **changed))
    except Trained:
        pass  # a run of its own, under another file name
    except UserError as error:
        message = str(error)
    else:
        raise AssertionError("the old record was taken")
    assert message is None or (name in message and "--no-resume" in message)
    assert stamp(done) == before


def test_changed_evaluation_is_refused_by_name(done):
    with pytest.raises(UserError, match=r"json holds a run with another num_samples;"):
        mnist_compress.main(arguments(done, num_samples=4))


def test_a_record_from_before_an_argument_existed_had_its_default(tmp_path, monkeypatch, capsys):
    path, record = one(tmp_path, epochs=1)
    del record["validation"]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(compression, "fit", None)
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), epochs=1))
    assert "already finished" in capsys.readouterr().out


def one(out, **changes):
    mnist_compress.main(arguments(out, scheme=("sparse",), **changes))
    (path,) = out.glob("*.json")
    return path, strict(path)


def numbers(record):
    timed = ("seconds", "history")
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in record["history"]]
    return {**{key: value for key, value in record.items() if key not in timed}, "history": rows}


def test_no_resume_starts_over_and_finds_the_same(tmp_path, monkeypatch):
    """And does not pick up the old checkpoint, which would train nothing."""
    path, first = one(tmp_path)
    epochs = []
    fit = compression.fit
    monkeypatch.setattr(compression, "fit", lambda *args, **kw: (epochs.append(kw["checkpoint"]), fit(*args, **kw))[1])
    before = path.stat().st_mtime_ns
    (tmp_path / "checkpoints" / "another-run.json").write_text("mine")
    _, second = one(tmp_path, resume=False)
    assert len(epochs) == 1
    assert path.stat().st_mtime_ns != before
    assert numbers(first) == numbers(second)
    assert (tmp_path / "checkpoints" / "another-run.json").read_text() == "mine"


def test_an_interrupted_experiment_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    _, whole = one(tmp_path / "whole")
    write = compression._evaluate
    with monkeypatch.context() as patch:
        patch.setattr(compression, "_evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path / "run")
    assert compression._evaluate is write
    assert list((tmp_path / "run").glob("*.json")) == []
    (path,) = (tmp_path / "run" / "checkpoints").glob("*.json")
    assert checkpoint.load(path.with_suffix(""))[1]["epoch"] == 2
    _, resumed = one(tmp_path / "run")
    assert numbers(resumed) == numbers(whole)


def test_interrupted_pretraining_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    _, whole = one(tmp_path / "whole", pretrain=3)
    fit, moment = pretrain.fit, []

    def stopping(*args, epochs, lr_schedule, **options):
        """After the first of its epochs."""

        def stop(epoch, posterior):
            moment.append(epoch)
            return {}

        fit(*args, epochs=1, lr_schedule=lr_schedule, on_epoch=stop, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "fit", stopping)
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path / "run", pretrain=3)
    assert moment == [0]
    assert list((tmp_path / "run").glob("*.json")) == []
    _, resumed = one(tmp_path / "run", pretrain=3)
    assert numbers(resumed) == numbers(whole)
    assert whole["history"][0]["loss"] < one(tmp_path / "fresh")[1]["history"][0]["loss"]  # it is worth something


def dense(out):
    """The checkpoints of dense training, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "checkpoints").glob("*-pretraining-*.json")}


def test_runs_in_a_folder_share_their_dense_training(tmp_path):
    """Whatever comes after it, to the numbers of a run alone."""
    first, alone = tmp_path / "shared", tmp_path / "alone"
    mnist_compress.main(arguments(first, scheme=("sparse",), pretrain=2, epochs=1))
    before = dense(first)
    after = {"noise_lr": 0.5, "kl_weight": 0.5, "hold": 0.0, "init": -6.0, "threshold": 2.0, "fine_tune": 1}
    for out in (first, alone):
        mnist_compress.main(arguments(out, scheme=("hierarchical",), pretrain=2, epochs=3, **after))
    assert len(before) == 1
    assert dense(first) == before
    shared, own = (strict(path) for out in (first, alone) for path in out.glob("*-hierarchical-*.json"))
    assert [row["loss"] for row in shared["history"]] == [row["loss"] for row in own["history"]]
    assert (shared["curve"], shared["test_error"]) == (own["curve"], own["test_error"])


@pytest.mark.parametrize(
    "change",
    [{"lr": 2e-3}, {"batch_size": 50}, {"shift": 1}, {"validation": 200}, {"pretrain": 1}, {"seeds": 2}],
    ids=lambda change: next(iter(change)),
)
def test_dense_training_of_another_kind_is_not_shared(tmp_path, change):
    one(tmp_path, pretrain=2, epochs=1)
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), **{"pretrain": 2, "epochs": 1, **change}))
    assert len(dense(tmp_path)) == 2


def test_starting_over_starts_dense_training_over(tmp_path):
    one(tmp_path, pretrain=1, epochs=1)
    before = dense(tmp_path)
    one(tmp_path, pretrain=1, epochs=1, resume=False)
    assert dense(tmp_path).keys() == before.keys()
    assert dense(tmp_path) != before


def test_pretraining_drops_inputs_and_leaves_no_hook(tmp_path):
    net, images = Tiny(), torch.ones(300, 1, 8, 8)
    dropped, forward = [], torch.nn.functional.linear

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is forward:
                dropped.append(float((args[0] == 0).float().mean()))
            return func(*args, **(kwargs or {}))

    train = LabeledImages(images, torch.zeros(300, dtype=torch.int64))
    with Watch():
        pretrain.pretrain(net, train, 1, 300, 1e-3, 0, (0.4, 0.0), tmp_path / "run")
    assert dropped[0] == pytest.approx(0.4, abs=0.02)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_fine_tuning_trains_what_pruning_left(tmp_path):
    """The posterior is the one of the run without it, the zeros are its zeros, and what is deployed is tuned."""
    _, plain = one(tmp_path, threshold=-2.0, epochs=6)
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), threshold=-2.0, epochs=6, fine_tune=20))
    (path,) = tmp_path.glob("*fine_tune=20*.json")
    tuned = strict(path)
    assert 1 < plain["compression"] == tuned["compression"]
    same = ("sparsity_per_layer", "test_error_unpruned", "test_error_mc", "curve")
    assert {name: plain[name] for name in same} == {name: tuned[name] for name in same}
    assert tuned["test_error_pruned"] == plain["test_error"] > tuned["test_error"]
    assert tuned["history"] == plain["history"]  # to its seconds: the posterior was not trained again
    assert len(tuned["fine_tuning"]["history"]) == 20
    assert tuned["fine_tuning"]["history"][-1]["kl"] == 0  # without noise
    split = training.load_data("digits", Tiny(), None)
    net = compress.load(path.with_suffix(".safetensors.xz"), Tiny()).eval()
    assert error_rate(compute_logits(net, split.test), split.test.labels) == tuned["test_error"]


def test_interrupted_fine_tuning_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    changes = {"threshold": -2.0, "fine_tune": 3}
    _, whole = one(tmp_path / "whole", **changes)
    fit = fine_tune.fit

    def stopping(*args, epochs, **options):
        """After the first of its epochs."""
        fit(*args, epochs=1, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fine_tune, "fit", stopping)
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path / "run", **changes)
    _, resumed = one(tmp_path / "run", **changes)
    assert without_seconds(resumed) == without_seconds(whole)


def test_fine_tuning_that_diverges_keeps_how_training_went(tmp_path, monkeypatch):
    rows = [{"epoch": 0, "loss": 1.0, "seconds": 2.5}]

    def diverging(*_, **__):
        raise NonFiniteError("no number", rows)

    monkeypatch.setattr(fine_tune, "fit", diverging)
    _, record = one(tmp_path, fine_tune=3)
    assert record["diverged"]
    assert len(record["history"]) == 2 + 1
    assert record["history"][2:] == rows
    monkeypatch.setattr(compression, "fit", None)
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), fine_tune=3))  # kept


def test_a_run_is_recorded_when_its_pictures_are_drawn(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(compression.pictures, "draw_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path, epochs=1)
    path, _ = one(tmp_path, epochs=1)
    assert path.with_name(f"{path.stem}-filters.png").exists()


def without_seconds(record):
    return {**numbers(record), "fine_tuning": numbers(record["fine_tuning"])}


def test_a_diverged_run_is_a_record_too(tmp_path, capsys, monkeypatch):
    """Counted in the table; nothing of it is a number."""
    digits = load("digits")
    spoilt = digits.train.images.clone()
    spoilt[7] = math.nan
    split = dataclasses.replace(digits, train=LabeledImages(spoilt, digits.train.labels))
    monkeypatch.setattr(mnist_compress, "load_data", lambda *_, **__: split)
    _, record = one(tmp_path)
    assert record["diverged"]
    assert set(REQUIRED) <= set(record)
    assert record["test_error"] is None
    assert record["compression"] is None
    assert "diverged" in capsys.readouterr().out
    assert "(+1 diverged)" in (tmp_path / "table.md").read_text()
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",)))
    assert "already finished" in capsys.readouterr().out


def test_a_diverged_run_keeps_what_it_learnt_before(tmp_path, monkeypatch):
    rows = [{"epoch": 0, "loss": 1.0, "seconds": 2.5}, {"epoch": 1, "loss": 0.5, "seconds": 1.5}]

    def diverging(*_, **__):
        raise NonFiniteError("no number", rows)

    monkeypatch.setattr(compression, "fit", diverging)
    _, record = one(tmp_path)
    assert (record["diverged"], record["seconds"], record["history"]) == (True, 4.0, rows)


def test_a_network_pruned_to_nothing_is_a_record_too(tmp_path):
    _, record = one(tmp_path, threshold=-30.0)
    assert record["nonzero"] == 0
    assert record["compression"] is None
    assert "empty network" in (tmp_path / "table.md").read_text()


def test_a_network_that_cannot_be_shrunk_keeps_its_record(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise UserError("no such network")

    monkeypatch.setattr("pyro_vd.experiments.common.deployment.shrink", refuse)
    _, record = one(tmp_path, epochs=1)
    assert "deployment" not in record
    assert 0 <= record["test_error"] <= 1
    assert "no deployment: no such network" in capsys.readouterr().out
    assert (tmp_path / "table.md").exists()


def test_a_checkpoint_of_other_data_is_not_picked_up(tmp_path, monkeypatch):
    """Two datasets of the same name and size, as two folders of images may be."""
    digits = load("digits")
    mirrored = LabeledImages(digits.train.images.flip(-1), digits.train.labels)
    splits = iter([digits, dataclasses.replace(digits, train=mirrored, sha256="another")])
    monkeypatch.setattr(mnist_compress, "load_data", lambda *_, **__: next(splits))
    with monkeypatch.context() as patch:
        patch.setattr(compression, "_evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path)
    _, record = one(tmp_path)
    assert record["data_sha256"] == "another"
    assert len(list((tmp_path / "checkpoints").glob("*.json"))) == 2


def test_images_are_moved_in_training_alone(tmp_path):
    """In pretraining too; what is measured, and where running averages are taken, is as it was."""
    split = load("digits")
    moving = mnist_compress.table(arguments(tmp_path, shift=2), split, torch.device("cpu")).split
    still = mnist_compress.table(arguments(tmp_path), split, torch.device("cpu")).split
    index = torch.arange(50)
    assert not torch.equal(moving.train.batch(index)[0], split.train.batch(index)[0])
    assert torch.equal(moving.test.batch(index)[0], split.test.batch(index)[0])
    assert torch.equal(moving.train.images, split.train.images)
    assert still is split
    _, record = one(tmp_path, shift=2, pretrain=1)
    assert (record["shift"], record["pretrain"], record["noise_lr"]) == (2, 1, 1.0)


def test_seeds_are_numbered_from_zero_and_differ(tmp_path):
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), seeds=2, epochs=1))
    records = [strict(path) for path in sorted(tmp_path.glob("*.json"))]
    assert [record["seed"] for record in records] == [0, 1]
    assert records[0]["history"][0]["loss"] != records[1]["history"][0]["loss"]
    assert "±" in (tmp_path / "table.md").read_text()


def test_a_validation_split_is_another_dataset(tmp_path):
    path, record = one(tmp_path, validation=200, epochs=1)
    assert "validation 200" in record["dataset"]
    assert record["test_error"] * 200 == pytest.approx(round(record["test_error"] * 200))
    mnist_compress.main(arguments(tmp_path, scheme=("sparse",), epochs=1))
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert strict(path) == record


@pytest.mark.parametrize(
    ("scheme", "changes", "expected"),
    [
        ("sparse", {}, {}),
        ("sparse", {"noise_lr": 0.3}, {"log_sigma2": 0.3}),
        ("sparse", {"noise_lr": 0.3, "parametrization": "log_alpha"}, {"log_alpha": 0.3}),
        ("group_normal_jeffreys", {"noise_lr": 3.0}, {"log_sigma2": 3.0, "z_log_sigma2": 3.0, "z_mu": 3.0}),
        ("none", {"noise_lr": 0.3}, {}),
    ],
)
def test_the_noise_has_a_learning_rate_of_its_own(tmp_path, monkeypatch, scheme, changes, expected):
    """By the change of its parameters in one step of Adam, which is about the rate."""
    fit, moved = compression.fit, []

    def watched(model, guide, *args, lr_scale, **kw):
        assert lr_scale == expected
        start = {name: value.detach().clone() for name, value in guide.named_parameters()}
        posterior = fit(model, guide, *args, lr_scale=lr_scale, **kw)
        moved.append({name: (value - start[name]).abs().max().item() for name, value in guide.named_parameters()})
        return posterior

    monkeypatch.setattr(compression, "fit", watched)
    args = arguments(tmp_path, scheme=(scheme,), epochs=1, batch_size=1438, wait=0, ramp=1, hold=1.0, **changes)
    mnist_compress.main(args)
    (change,) = moved
    for word, factor in {**expected, "theta": 1.0}.items():
        assert change[f"{word}.fc1.weight"] == pytest.approx(factor * args.lr, rel=0.05), word


def test_units_are_pruned_and_trained_as_the_record_says(tmp_path, monkeypatch):
    fit, seen = compression.fit, []

    def watched(*args, threshold, lr_scale, **kw):
        seen.append((threshold, lr_scale))
        return fit(*args, threshold=threshold, lr_scale=lr_scale, **kw)

    monkeypatch.setattr(compression, "fit", watched)
    mnist_compress.main(arguments(tmp_path, scheme=("structured_log_normal",)))
    (path,) = tmp_path.glob("*.json")
    record = strict(path)
    assert (record["threshold"], record["train_masking"], record["noise_lr"]) == (0.0, False, 3.0)
    assert seen == [(None, {"mu": 3.0, "log_sigma": 3.0})]
    (own,) = [point for point in record["curve"] if point["threshold"] == 0.0]
    assert own["compression"] == record["compression"]


def test_auto_says_loudly_that_it_is_not_mnist(tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("pyro_vd.data.download._is_reachable", lambda *_: True)
    split = training.load_data("auto", LeNet300(), tmp_path)
    assert split.name.startswith("digits")
    said = capsys.readouterr().out
    assert "NOT mnist" in said
    assert "unreachable" in said


def test_the_real_network_runs(tmp_path, monkeypatch, tiny_network):
    """LeNet-300-100 on digits of its own size, with log_alpha."""
    monkeypatch.setitem(mnist_compress.NETWORKS, "lenet300", tiny_network)
    path, record = one(tmp_path, epochs=1, parametrization="log_alpha")
    assert record["dataset"] == "digits (28x28)"
    assert record["weights"] == 266_200
    assert (tmp_path / f"{path.stem}-filters.png").exists()
