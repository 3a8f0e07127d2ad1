"""One guide under every prior: what is pruned, the table, and the picture."""

import dataclasses

import pytest

from pyro_vd.experiments import prior_swap
from pyro_vd.experiments.common import accuracy_pictures
from pyro_vd.experiments.common.measures import ACCURACY_KEYS
from pyro_vd.experiments.common.priors import WEIGHT_PRIORS
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Store

ROWS = ("EmpiricalBayes()", "Laplace")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    args = prior_swap.Args(
        dataset="digits", out=tmp_path_factory.mktemp("swap"), row=ROWS, epochs=1, num_samples=1, engine="eager"
    )
    prior_swap.main(args)
    return args


def columns_of(args):
    protocol = dataclasses.replace(prior_swap.PROTOCOL, epochs=args.epochs)
    return prior_swap.make_columns(Data(name="digits"), protocol, args.num_samples)


def test_every_prior_has_a_row_and_rows_differ_by_the_prior_alone(done):
    (rows,) = columns_of(done).values()
    assert list(rows) == list(WEIGHT_PRIORS)
    assert {name: spec.main.prior for name, spec in rows.items()} == {name: name for name in rows}
    assert len({dataclasses.replace(spec.main, prior=None) for spec in rows.values()}) == 1


def test_log_alpha_decides_what_is_pruned(done):
    runs = Store(done.out).runs(ACCURACY_KEYS)
    assert sorted(run.spec.main.prior for run in runs) == sorted(ROWS)
    for run in runs:
        counts = run["log_alpha"]["counts"]
        assert sum(counts) == run["weights"]
        quantiles = list(run["log_alpha"]["quantiles"].values())
        assert quantiles == sorted(quantiles)
        kept = sum(counts[: round((3 + 15) / 30 * 60)])
        assert run["sparsity"] == pytest.approx(1 - kept / run["weights"])


def test_the_table_and_the_picture(done):
    table = prior_swap.make_table(columns_of(done), Store(done.out))
    assert (done.out / "table.md").read_text() == table.markdown() + "\n"
    assert [row[0] for row in table.rows] == [f"`{name}`" for name in ROWS]
    assert table.title == "hidden layers of 100-100-100 units, digits (28x28), 1 epoch, cpu"
    assert (done.out / "log_alpha.png").stat().st_size > 5_000


def test_the_picture_has_a_panel_per_prior_that_was_run(done, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(accuracy_pictures, "save_figure", lambda figure, path: figures.append(figure))
    accuracy_pictures.draw_log_alphas(columns_of(done)[prior_swap.NAME], Store(done.out), tmp_path)
    (figure,) = figures
    assert [axis.texts[0].get_text() for axis in figure.axes] == list(ROWS)
    assert not any(axis.spines["left"].get_visible() for axis in figure.axes)
    accuracy_pictures.plt.close(figure)


def test_a_difference_of_seeds_is_shown(tmp_path):
    (rows,) = prior_swap.make_columns(Data(name="digits")).values()
    store = Store(tmp_path)
    for seed, error in enumerate((0.1, 0.2, None)):
        log_alpha = {"quantiles": {"0.5": 1.0 + seed}}
        numbers = {**dict.fromkeys((*ACCURACY_KEYS, "test_error_pruned", "sparsity"), error), "log_alpha": log_alpha}
        made = {"dataset": "digits", "device": "cpu", "diverged": error is None, **numbers}
        store.save(dataclasses.replace(rows["Laplace"], seed=seed), made)
    (row,) = prior_swap.make_table({prior_swap.NAME: rows}, store).rows
    assert row == ("`Laplace`", *["15.00 ± 7.07"] * 4, "1.5 ± 0.7", "2 (+1 diverged)")
