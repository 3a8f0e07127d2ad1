"""What a record says of a trained network, against the network itself."""

import math
from dataclasses import replace

import pytest
import torch

from pyro_vd import Training, compress
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import measures
from pyro_vd.experiments.common.measures import (
    ACCURACY_KEYS,
    COMPRESSION_KEYS,
    THRESHOLDS,
    measure_accuracy,
    measure_compression,
)
from pyro_vd.experiments.common.phases import Job, run_phases
from pyro_vd.experiments.common.runner import Trained
from pyro_vd.metrics import compute_logits, error_rate
from tests.runs import FIT, GRADUAL, TUNE, make_spec
from tests.tiny import Tiny

SPECS = {
    "sparse": make_spec(replace(FIT, training=Training(epochs=3, batch_size=500))),
    "tuned": make_spec(FIT, TUNE),
    "none": make_spec(replace(FIT, scheme="none", threshold=3.0)),
    "magnitude": make_spec(GRADUAL),
    "empty": make_spec(replace(FIT, threshold=-30.0)),
    "units": make_spec(replace(FIT, scheme="group_normal_jeffreys", threshold=0.0)),
    "accuracy": make_spec(replace(FIT, threshold=None)),
}


@pytest.fixture(scope="module")
def split():
    return load("digits")


@pytest.fixture(scope="module")
def trained(split, tmp_path_factory):
    """Name -> a trained spec; those with the same beginning share it."""
    folder, made = tmp_path_factory.mktemp("measures"), {}

    def make(name):
        if name not in made:
            spec = replace(SPECS[name], num_samples=3)
            torch.manual_seed(0)
            state = run_phases(Job(spec, split, Tiny, folder, "eager"), Tiny())
            made[name] = Trained(spec, split, (state,), Tiny, folder / name)
        return made[name]

    return make


@pytest.fixture(scope="module")
def measured(trained):
    made = {}

    def make(name):
        if name not in made:
            torch.manual_seed(0)
            made[name] = measure_compression(trained(name))
        return made[name]

    return make


def error_of(net, split):
    return error_rate(compute_logits(net, split.test), split.test.labels)


@pytest.mark.parametrize("name", ["sparse", "tuned", "none", "magnitude", "units"])
def test_a_record_holds_everything(name, measured, trained, split):
    record = measured(name)
    assert set(COMPRESSION_KEYS) <= record.keys()
    assert record["weights"] == 64 * 8 + 8 * 10
    assert record["nonzero"] == sum(
        int((weight != 0).sum()) for weight in trained(name).state.net.parameters() if weight.ndim > 1
    )
    assert record["compression"] == pytest.approx(record["weights"] / record["nonzero"])
    assert record["test_error"] == error_of(trained(name).state.net, split)
    sizes = {"fc1.weight": 512, "fc2.weight": 80}
    zeros = sum(record["sparsity_per_layer"][site] * size for site, size in sizes.items())
    assert zeros == pytest.approx(record["weights"] - record["nonzero"])


@pytest.mark.parametrize("name", ["sparse", "none", "units"])
def test_the_curve_is_over_all_thresholds_and_compression_falls(name, measured, trained, split):
    record, posterior = measured(name), trained(name).state.posterior
    assert [point["threshold"] for point in record["curve"]] == list(THRESHOLDS)
    ratios = [point["compression"] or math.inf for point in record["curve"]]
    assert ratios == sorted(ratios, reverse=True)
    assert record["curve"][0]["error"] == error_of(posterior.mean(posterior.masks(THRESHOLDS[0])), split)
    assert record["test_error_unpruned"] == error_of(posterior.mean(), split)


def test_the_deployed_network_is_on_the_curve(measured):
    """At the threshold of units, which is one of the curve's."""
    record = measured("units")
    (own,) = [point for point in record["curve"] if point["threshold"] == 0.0]
    assert (own["error"], own["compression"]) == (record["test_error"], record["compression"])


def test_fine_tuning_changes_what_is_deployed_alone(measured):
    plain, tuned = measured("sparse"), measured("tuned")
    same = ("sparsity_per_layer", "test_error_unpruned", "test_error_mc", "curve", "compression")
    assert {name: plain[name] for name in same} == {name: tuned[name] for name in same}
    assert tuned["test_error_pruned"] == plain["test_error"]
    assert tuned["test_error"] != plain["test_error"]
    assert "test_error_pruned" not in plain


def test_a_baseline_has_no_posterior(measured):
    record = measured("magnitude")
    assert (record["test_error_unpruned"], record["test_error_mc"], record["curve"]) == (None, None, [])
    assert record["compression"] == 4
    none = measured("none")
    assert none["compression"] == 1
    assert none["test_error"] == none["test_error_unpruned"] == none["test_error_mc"]


def test_a_network_pruned_to_nothing_has_no_ratio(measured):
    record = measured("empty")
    assert (record["nonzero"], record["compression"]) == (0, None)
    assert 0 < record["test_error"] < 1


@pytest.mark.parametrize("name", ["sparse", "tuned", "none", "magnitude"])
def test_the_compressed_network_is_a_file_that_loads(name, measured, trained, split):
    record = measured(name)
    file = trained(name).stem.with_name(f"{name}.safetensors.xz")
    net = compress.load(file, Tiny()).eval()
    assert error_of(net, split) == record["test_error"]
    deployment = record["deployment"]
    assert {layer: list(sizes) for layer, sizes in deployment["architecture"].items()} == {
        layer: list(sizes) for layer, sizes in compress.architecture(net).items()
    }
    forms = deployment["forms"]
    assert forms["float32"] == {"bytes": file.stat().st_size, "test_error": record["test_error"]}
    assert deployment["dense_parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert ("posterior" in forms) == (name in ("sparse", "tuned"))
    assert forms["float16"]["bytes"] < forms["float32"]["bytes"] < deployment["dense_bytes"]


def test_a_network_that_cannot_be_shrunk_keeps_its_numbers(trained, monkeypatch, capsys):
    def refuse(*_):
        raise UserError("no such network")

    monkeypatch.setattr("pyro_vd.experiments.common.deployment.shrink", refuse)
    record = measure_compression(trained("sparse"))
    assert "deployment" not in record
    assert 0 <= record["test_error"] <= 1
    assert "no deployment: no such network" in capsys.readouterr().out


def test_pictures_are_drawn_of_schemes(measured, trained):
    for name, drawn in (("sparse", True), ("magnitude", False)):
        measured(name)
        stem = trained(name).stem
        found = [stem.with_name(f"{name}-{kind}.png").exists() for kind in ("filters", "heatmap", "training")]
        assert found == [drawn] * 3


def test_accuracy_is_of_the_last_and_the_best_epoch(trained, split):
    one = trained("accuracy")
    rows = [{**row, "error": error} for row, error in zip(one.state.history, (0.5, 0.1, 0.3), strict=True)]
    record = measure_accuracy(replace(one, states=(replace(one.state, history=tuple(rows)),)))
    assert set(ACCURACY_KEYS) <= record.keys()
    assert (record["test_error"], record["test_error_best"]) == (0.3, 0.1)
    posterior = one.state.posterior
    assert record["train_error"] == error_rate(compute_logits(posterior.mean(), split.train), split.train.labels)
    assert record["weights"] == 592
    assert measure_accuracy(one)["test_error"] == error_of(posterior.mean(), split)


def test_the_distribution_of_log_alpha_counts_every_weight(trained, split):
    posterior = trained("accuracy").state.posterior
    record = measure_accuracy(trained("accuracy"))
    values = torch.cat([value.flatten() for value in posterior.log_alpha().values()])
    found = record["log_alpha"]
    assert sum(found["counts"]) == 592
    assert found["quantiles"]["0.5"] == pytest.approx(float(values.median()), abs=1e-5)
    assert record["sparsity"] == float((values >= measures.THRESHOLD).double().mean())
    assert record["test_error_pruned"] == error_of(posterior.mean(posterior.masks(measures.THRESHOLD)), split)


def test_without_log_alpha_there_is_no_sparsity(trained):
    assert "log_alpha" not in measure_accuracy(trained("none"))


def test_draws_are_as_many_as_the_spec_says(trained, monkeypatch):
    one, asked = trained("sparse"), []
    kind = type(one.state.posterior)
    real = kind.predict
    monkeypatch.setattr(kind, "predict", lambda self, x, count, **how: (asked.append(count), real(self, x, count))[1])
    measure_accuracy(one)
    measure_compression(replace(one, spec=replace(one.spec, num_samples=2)))
    assert asked == [3, 2]
