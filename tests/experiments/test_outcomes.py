"""Rows that are no results are named below the tables; rows that are results are not."""

from dataclasses import replace

import pytest

from pyro_vd import Training
from pyro_vd.experiments.common.outcomes import PRUNING, describe_failures
from pyro_vd.experiments.common.spec import Data, Fit, Spec
from pyro_vd.experiments.common.store import Store, committed

PAGE = "docs/how_to/everything_or_nothing_was_pruned.md"


@pytest.fixture
def save(tmp_path):
    """Writes and returns a run of the scheme."""

    def run(scheme, error, compression, seed=0, **entries):
        fit = Fit(scheme=scheme, training=Training(epochs=5), threshold=3.0)
        spec = Spec(network="lenet300", data=Data(name="digits"), phases=(fit,), seed=seed)
        record = {"dataset": "digits", "device": "cpu", "diverged": False, "test_error": error}
        return Store(tmp_path).save(spec, {**record, "compression": compression, **entries})

    return run


def test_a_row_with_far_more_error_than_another_is_named(save):
    runs = [save("none", 0.0752, 1.0), save("sparse", 0.8552, 30.0), save("hierarchical", 0.9, None)]
    assert describe_failures(runs) == [
        f"{method} has {error} % error, none has 7.52 %: too few epochs or too much KL; see {PAGE}"
        for method, error in (("sparse", "85.52"), ("hierarchical", "90.00"))
    ]
    assert describe_failures(runs[1:2]) == []  # nothing to compare it with


def test_a_row_is_compared_with_the_network_before(save):
    (line,) = describe_failures([save("sparse", 0.9, 5.0, test_error_dense=0.02)])
    assert "sparse has 90.00 % error, the network before has 2.00 %" in line


def test_a_row_that_pruned_nothing_is_named_if_its_scheme_prunes(save):
    runs = [save(scheme, 0.08, 1.01) for scheme in ("none", "bernoulli", "variational_b", "sparse", "l0")]
    assert describe_failures(runs) == [
        f"{scheme} pruned hardly any weight: too few epochs or too little KL; see {PAGE}" for scheme in ("sparse", "l0")
    ]


def test_seeds_are_one_row_and_other_data_another_matter(save):
    seeds = [save("sparse", 0.5, 9.0, seed) for seed in (0, 1)]
    (line,) = describe_failures([save("none", 0.02, 1.0), *seeds])
    assert "sparse has 50.00 % error" in line
    elsewhere = [replace(run, record={**run.record, "dataset": "mnist"}) for run in seeds]
    assert describe_failures([save("none", 0.02, 1.0), *elsewhere]) == []


def test_runs_that_diverged_are_left_out(save):
    assert describe_failures([save("none", 0.02, 1.0), save("sparse", None, None, diverged="loss is nan")]) == []
    assert describe_failures([]) == []


@pytest.mark.parametrize("study", ["mnist_compress", "pruning_baselines"])
def test_a_committed_row_of_a_scheme_that_prunes_is_a_result(study):
    assert [line for line in describe_failures(committed(study).runs()) if line.startswith(PRUNING)] == []
