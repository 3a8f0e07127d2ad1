"""Every committed record of the studies with rows and columns is in the tables of its study, which fit a page."""

import pytest

from pyro_vd.experiments import (
    cifar_accuracy,
    cifar_reference,
    dropout_exercises,
    gradient_variance,
    linear_relevance,
    lora_ranks,
    mixed_precision,
    mnist_accuracy,
    prior_swap,
    random_labels,
    uci,
    uncertainty,
)
from pyro_vd.experiments.common import lora_runs
from pyro_vd.experiments.common.accuracy import find_runs
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.lora_rows import make_rows
from pyro_vd.experiments.common.lora_tables import find_rows
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import RESULTS, Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.common.uci_tables import write_scores

MNIST = Data(name="mnist")
WIDTHS = mnist_accuracy.make_columns(MNIST, mnist_accuracy.Args.hidden)
REFERENCE = cifar_reference.make_columns(Data(name="cifar10"))
SHORT = cifar_accuracy.make_columns("cifar10", cifar_accuracy.SHORT)
PRECISIONS, PRIORS = mixed_precision.make_columns(MNIST), prior_swap.make_columns(MNIST)
SHARES, WEIGHTS = random_labels.make_shares("mnist"), random_labels.make_weights("mnist")
EXERCISES = dropout_exercises.make_columns(Data(name="fashion_mnist"))
SCHEMES = {
    **uncertainty.make_columns(MNIST, "lenet300"),
    **uncertainty.make_columns(Data(name="fashion_mnist"), "lenet300"),
}
GRADIENTS, LINEAR = gradient_variance.make_specs(MNIST), linear_relevance.Args()

COLUMNS = {
    mnist_accuracy.STUDY: (WIDTHS, 42),
    cifar_accuracy.STUDY: (SHORT, 54),
    cifar_reference.STUDY: (REFERENCE, 16),
    dropout_exercises.STUDY: (EXERCISES, 105),
    mixed_precision.STUDY: (PRECISIONS, 17),
    prior_swap.STUDY: (PRIORS, 10),
    random_labels.STUDY: ({**SHARES, **WEIGHTS}, 30),
    uncertainty.STUDY: (SCHEMES, 61),
}
"""Study -> the columns of its command without arguments, and the number of committed records."""
TABLES = {
    mnist_accuracy.STUDY: lambda store: accuracy_tables(WIDTHS, store, "kingma2015", mnist_accuracy.find_published),
    cifar_accuracy.STUDY: lambda store: accuracy_tables(SHORT, store, "short"),
    cifar_reference.STUDY: lambda store: accuracy_tables(REFERENCE, store, "reference", cifar_reference.find_published),
    mixed_precision.STUDY: lambda store: [mixed_precision.make_table(PRECISIONS, store)],
    prior_swap.STUDY: lambda store: [prior_swap.make_table(PRIORS, store)],
    random_labels.STUDY: lambda store: [
        random_labels.make_table("labels shuffled", SHARES, store),
        random_labels.make_table("KL weight", WEIGHTS, store),
    ],
    uncertainty.STUDY: lambda store: uncertainty.make_tables(SCHEMES, store, uncertainty.KEYS),
    gradient_variance.STUDY: lambda store: [gradient_variance.make_table(GRADIENTS, store)],
    linear_relevance.STUDY: lambda store: linear_relevance.make_tables(store, LINEAR),
}


def open_store(study):
    return Store(RESULTS / study, *([linear_relevance.KINDS] if study == linear_relevance.STUDY else []))


@pytest.mark.parametrize("study", COLUMNS)
def test_every_committed_record_is_found_by_the_default_columns(study):
    columns, count = COLUMNS[study]
    store = open_store(study)
    found = {run.path.name for rows in columns.values() for runs in find_runs(store, rows, ()).values() for run in runs}
    assert found == {path.name for path in store.folder.glob("*.json")}
    assert len(found) == count


def test_the_scores_of_uci_are_those_of_the_records(tmp_path):
    store = Store(RESULTS / uci.STUDY, uci.KINDS)
    write_scores(store, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_bytes() == (store.folder / "scores.csv").read_bytes()
    assert {uci.make_spec(run["row"], run.spec.dataset, run.spec.splits) for run in store.runs()} == {
        run.spec for run in store.runs()
    }


def test_the_other_studies_find_theirs_too():
    gradients, linear = open_store(gradient_variance.STUDY), open_store(linear_relevance.STUDY)
    found = {gradients.load(spec).path for spec in GRADIENTS}
    assert found == {run.path for run in gradients.runs(gradient_variance.KEYS)}
    orthogonal, correlated, *_ = linear_relevance.make_specs(LINEAR)
    assert len(linear.seeds(correlated)) == LINEAR.seeds
    assert len(linear.seeds(orthogonal) + linear.seeds(correlated)) == len(linear.runs(linear_relevance.KEYS))
    adapters = Store(RESULTS / lora_ranks.STUDY, lora_runs.KINDS)
    ranks = [run.path for runs in find_rows(make_rows(), adapters).values() for run in runs]
    assert sorted(ranks) == sorted(adapters.folder.glob("*.json"))
    assert len(ranks) == 27


@pytest.mark.parametrize("study", TABLES)
def test_tables_of_committed_records_fit_a_page_and_have_rows(study):
    tables = TABLES[study](open_store(study))
    assert tables
    for table in tables:
        assert table.rows
        assert max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH
