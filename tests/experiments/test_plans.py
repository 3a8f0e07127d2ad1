"""The plan of the committed tables: what is in it, and that its runs are those of the studies."""

import pytest

from pyro_vd.experiments import ablation, cifar_reference, mnist_compress, plans, pruning_baselines, tuning
from pyro_vd.experiments.common import accuracy
from pyro_vd.experiments.common.clock import count_epochs
from pyro_vd.experiments.common.spec import Data, Gradual, Lottery
from pyro_vd.experiments.common.store import RESULTS, committed
from pyro_vd.experiments.plans import PLAN

STUDIES = {cell.study for cell in PLAN}


def test_the_plan_has_every_run_once():
    assert len({(cell.study, cell.spec) for cell in PLAN}) == len({str(cell) for cell in PLAN}) == len(PLAN) > 500
    tables = {path.name for path in RESULTS.iterdir() if path.is_dir()}
    own = {"gradient_variance", "linear_relevance", "landscape", "lora_ranks", "digit_recognizer", "uci", "certificate"}
    assert tables - own - {"torchvision_network"} <= STUDIES
    assert all(cell.notes["experiment"] in (cell.study, pruning_baselines.STUDY) for cell in PLAN)


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_the_committed_records_are_those_of_the_plan(study):
    """With the notes that the study's own command writes."""
    planned = {cell.spec: cell.notes.plain() for cell in PLAN if cell.study == study}
    unplanned = []
    for run in committed(study).runs():
        if run.spec not in planned:
            unplanned.append(run.path.name)
            continue
        notes, changes = planned[run.spec], run.record.get("changes", {})
        assert notes.get("protocol") == run.record.get("protocol"), run.path.name
        if study == tuning.STUDY:  # a trial names all values of its grid
            assert changes.items() <= notes["changes"].items(), run.path.name
        else:
            assert notes.get("changes", {}) == changes, run.path.name
    before_tuning = ["mnist-lenet300-lottery-c474a5d5-s0.json"] if study == pruning_baselines.STUDY else []
    assert unplanned == before_tuning


def test_a_baseline_has_the_epochs_of_the_row_that_it_is_compared_with():
    def epochs_of(study, network, shift):
        chosen = [c.spec for c in PLAN if (c.study, c.spec.network, c.spec.data.shift) == (study, network, shift)]
        return {count_epochs(spec) for spec in chosen}

    fine_tuned = next(cell.spec for cell in PLAN if cell.notes.get("protocol") == "fine-tuned")
    assert epochs_of(pruning_baselines.STUDY, "lenet5", 1) == {count_epochs(fine_tuned)}
    rows = epochs_of(mnist_compress.STUDY, "lenet300", 0)
    assert epochs_of(pruning_baselines.STUDY, "lenet300", 0) <= rows


def test_the_tables_of_the_reference_are_planned():
    for scale, seeds in ((1.0, 3), (1.5, 1), (2.0, 1)):
        columns = cifar_reference.make_columns(Data(name="cifar10"), (scale,))
        wanted = set(accuracy.seeds_of(columns, seeds))
        assert wanted <= {cell.spec for cell in PLAN if cell.study == cifar_reference.STUDY}
        assert {spec.main.training.epochs for spec in wanted} == {100}


def test_baselines_run_as_their_trials_were_best():
    runs = committed(tuning.STUDY).runs()
    for method, kind in (("magnitude", Gradual), ("lottery", Lottery)):
        trials = [run for run in runs if run.spec.method == method]
        best = min(trials, key=lambda run: run["test_error"]).spec.main
        planned = [c.spec.main for c in PLAN if c.study == pruning_baselines.STUDY and isinstance(c.spec.main, kind)]
        assert {phase.training.lr for phase in planned} == {best.training.lr}
        shape = (lambda phase: phase.end) if kind is Gradual else (lambda phase: phase.rounds)
        assert {shape(phase) for phase in planned} == {shape(best)}
    fewest = min((run for run in runs if run.spec.method == "l0"), key=lambda run: run["test_error"])
    fit = fewest.spec.main
    assert {
        "kl_weight": fit.training.kl_schedule.weight,
        "noise_lr": fit.noise_lr,
    } == plans.BEST_GATE_CHANGES


def test_every_factor_of_the_ablation_is_planned():
    for network, epochs in (("lenet300", 60), ("lenet5", 30)):
        wanted = set(ablation.make_specs("mnist", network, epochs).values())
        assert wanted <= {cell.spec for cell in PLAN if cell.study == ablation.STUDY}
