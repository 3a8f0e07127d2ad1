"""The exercises on dropout: what the rows are, that dropout of outputs is dropout, and what tables and pictures say."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import dropout_exercises
from pyro_vd.experiments.common import dropout_pictures, dropout_tables
from pyro_vd.experiments.common.accuracy import seeds_of
from pyro_vd.experiments.common.dropout_tables import CLAIMS, RATE_CLAIMS, SOURCE, make_tables
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.spec import Data, Fit, decode, encode
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.dropout_exercises import DECAY, ROWS, SITES, Args, main, make_columns
from pyro_vd.posteriors import MultiplicativeNoise

COLUMNS = make_columns(Data(name="fashion_mnist"))
ROW_SPECS = COLUMNS["rows"]


# --- rows


def test_rows_are_different_runs_but_for_those_that_are_the_same_network():
    specs = list(ROW_SPECS.values())
    assert len(set(specs)) == len(specs) - 1
    assert ROW_SPECS["dropout"] == ROW_SPECS["dropout of outputs"]
    assert COLUMNS["first rate"]["0.2"] == COLUMNS["second rate"]["0.5"] == ROW_SPECS["dropout"]
    assert len(seeds_of(COLUMNS, 3)) == 3 * (17 + 9 + 9)
    assert all(decode(encode(spec)) == spec for spec in specs)


def test_the_training_is_that_of_the_exercise():
    for rows in COLUMNS.values():
        for spec in rows.values():
            training = spec.main.training
            assert (training.epochs, training.batch_size, training.lr) == (40, 256, 0.1)
            assert (training.optimizer.momentum, training.lr_schedule(39)) == (0.0, 1.0)
            assert (spec.data.num_train, spec.options["hidden"]) == (None, (256, 256))
    decayed = [row for row, spec in ROW_SPECS.items() if spec.main.training.optimizer.weight_decay]
    assert decayed == ["dropout and decay", "decay"]
    assert ROW_SPECS["decay"].main.training.optimizer.weight_decay == DECAY


def test_weights_start_with_the_standard_deviation_of_the_exercise_but_for_one_row():
    stds = {row: spec.options["std"] for row, spec in ROW_SPECS.items()}
    assert [row for row, std in stds.items() if std != 0.01] == ["neither, usual init"]
    assert ROW_SPECS["noise, std 0.1"].options["noise"] == pytest.approx(math.sqrt(0.01))


def rates_of(spec):
    return dict(spec.main.options["p"])


def test_one_rate_varies_and_the_other_is_fixed():
    assert rates_of(ROW_SPECS["swapped rates"]) == {"fc2.weight": 0.5, "fc3.weight": 0.2}
    first, second = ([rates_of(spec) for spec in COLUMNS[name].values()] for name in ("first rate", "second rate"))
    assert [p["fc2.weight"] for p in first] == [p["fc3.weight"] for p in second] == [n / 10 for n in range(10)]
    assert {p["fc3.weight"] for p in first} == {0.5}
    assert {p["fc2.weight"] for p in second} == {0.2}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_pair_whose_noise_is_behind_the_first_layer(row):
    spec = ROW_SPECS[row]
    torch.manual_seed(0)
    pair = make_pair(network_maker(spec)(10), spec.main, 100)
    assert tuple(pair.model.priors) == SITES
    net, x = pair.mean(), torch.rand(4, 1, 28, 28)
    assert net(x).shape == (4, 10)


@pytest.mark.parametrize("start", [0.05, 0.4])
def test_learned_rates_start_where_their_name_says(start):
    for scheme in ("variational A", "concrete"):
        spec = ROW_SPECS[f"{scheme}, {start:g}"]
        pair = make_pair(network_maker(spec)(10), spec.main, 100)
        for site in SITES:
            q = pair.guide.q(site)
            assert isinstance(q, MultiplicativeNoise)
            rate = q.noise.variance / (1 + q.noise.variance)
            assert rate.mean().item() == pytest.approx(start, abs=0.003)
            assert len(rate.unique()) == 1


def test_dropout_of_outputs_is_dropout_of_the_units():
    """A mask times the outputs of a weight matrix, then ReLU, as the original has it."""
    spec = ROW_SPECS["dropout of outputs"]
    torch.manual_seed(0)
    net, x = network_maker(spec)(10), load("digits").resize(28).train.batch(torch.arange(50))[0].flatten(1)
    masks = [F.dropout(torch.ones(50, 256), p) for p in (0.2, 0.5)]
    z1 = net.fc1(x)
    outputs = net.fc3((masks[1] * net.fc2((masks[0] * z1).relu())).relu())
    units = net.fc3(masks[1] * net.fc2(masks[0] * z1.relu()).relu())
    torch.testing.assert_close(outputs, units)


# --- tables and pictures


def history(row, epochs=12):
    return [
        {"phase": "fit", "epoch": epoch, "error": row["test_error"] + 0.01 * (epoch == 0), "train_error": 0.08,
         "gradient_norm": 1.0 + epoch, "largest_gradient_norm": 2.0 + epoch, "variance_fc2": 0.5, "variance_fc3": 1.5,
         "noisy_variance_fc2": 0.75, "rate_fc2": row["rate"], "rate_fc3": row["rate"], "seconds": 1.0}
        for epoch in range(epochs)
    ]  # fmt: skip


@pytest.fixture
def pretended(tmp_path):
    """A store with three runs of every row and rate; dropout has the lowest error, and learned rates are 0.19."""
    store = Store(tmp_path)
    for spec in seeds_of(COLUMNS, 3):
        better = spec == dataclasses.replace(ROW_SPECS["dropout"], seed=spec.seed)
        numbers = {
            "test_error": 0.1 + 0.001 * spec.seed if better else 0.12 + 0.002 * spec.seed,
            "rate": 0.19 + 0.001 * spec.seed,
        }
        store.save(spec, {
            "dataset": "fashion_mnist", "device": "cpu", "diverged": False, "test_error_best": 0.1,
            "test_error_mc": 0.1, "train_error": 0.09, "history": history(numbers), "test_error": numbers["test_error"],
        })  # fmt: skip
    return store


def test_tables_have_every_row_and_fit_a_page(pretended):
    tables = make_tables(COLUMNS, pretended)
    errors, conclusions, sweep, learned, found, gradients, variances = tables
    for table in tables:
        assert max(map(len, table.markdown().splitlines()[2:])) <= PAGE_WIDTH
    assert [row[0] for row in errors.rows] == [row[0] for row in gradients.rows] == list(ROWS)
    assert errors.rows[1] == ("dropout", "9.00 ± 0.00", "10.10 ± 0.10", "10.10 ± 0.10", "-2.10 [-2.35, -1.85]", "3",
                "9.75/12.45")  # fmt: skip
    assert len(conclusions.rows) == len(CLAIMS)
    assert conclusions.rows[0] == ("Dropout has a lower test error than neither.", "-2.10 ± 0.06", "3", "yes")
    assert [row[0] for row in sweep.rows] == [f"{n / 10:g}" for n in range(10)]
    assert sweep.rows[2] == ("0.2", "9.00 ± 0.00", "10.10 ± 0.10", "3", "9.00 ± 0.00", "12.20 ± 0.20", "3")
    assert [row[1] for row in learned.rows] == ["0.191 ± 0.001"] * 6
    assert [row[-1] for row in found.rows] == ["yes, within 0.05", "no"] * 3
    assert gradients.rows[0] == ("neither", "1.00 ± 0.00", "12.00 ± 0.00", "12.00 ± 0.00", "3")
    assert variances.rows[0] == ("neither", "0.50 ± 0.00", "0.75 ± 0.00", "1.50 ± 0.00", "-")


def test_original_numbers_are_shown_for_the_same_data_only(pretended):
    originals = {row[0]: row[-1] for row in make_tables(COLUMNS, pretended)[0].rows}
    assert originals["noise, std 0.01"] == originals["noise, std 0.1"] == "8.47/12.11"
    assert originals["dropout of outputs"] == "9.58/13.95"
    assert originals["Gaussian W"] == "-"
    shown = {name for name, numbers in originals.items() if numbers != "-"}
    assert len({number.method for number in find(source=SOURCE)}) == len(shown) - 1 == 7
    assert len(make_tables(COLUMNS, pretended, published=False)[0].header) == 6


def test_a_diverged_run_is_counted_and_not_averaged(pretended):
    spec = dataclasses.replace(ROW_SPECS["neither"], seed=1)
    pretended.save(spec, {"dataset": "fashion_mnist", "device": "cpu", "diverged": "non-finite", "history": [],
                          "test_error": None, "test_error_best": None, "test_error_mc": None})  # fmt: skip
    errors, conclusions, *_ = make_tables(COLUMNS, pretended)
    assert errors.rows[0][2:] == ("12.20 ± 0.28", "12.20 ± 0.28", "-", "2 (+1 diverged)", "8.57/13.59")
    assert conclusions.rows[0][2] == "2"


def test_without_runs_there_are_no_tables_and_no_pictures(tmp_path):
    assert make_tables(COLUMNS, Store(tmp_path)) == []
    dropout_pictures.draw(COLUMNS, Store(tmp_path))
    assert not list(tmp_path.glob("*.png"))


def test_claims_are_about_rows(pretended):
    assert {row for claim in (*CLAIMS, *RATE_CLAIMS) for row in (*claim.first, *claim.second)} <= set(ROWS)


def test_pictures_show_every_row_that_they_are_about(pretended, monkeypatch):
    figures = {}
    monkeypatch.setattr(dropout_pictures, "save_figure", lambda figure, path: figures.update({path.name: figure}))
    assert dropout_pictures.draw(COLUMNS, pretended) == tuple(figures) == tuple(dropout_pictures.PICTURES)
    labels = {
        name: [[text.get_text() for text in axis.texts] for axis in figure.axes] for name, figure in figures.items()
    }
    assert labels["rates.png"] == [["after the first layer", "after the second layer"]] * 2
    assert {label for label in labels["activations.png"][0] if "noisy" not in label} == set(dropout_pictures.DRAWN)
    learned = [row for row in ROWS if row.startswith(dropout_tables.LEARNED)]
    assert labels["learned.png"] == [[*learned, "the exercise"]] * 2
    assert [axis.lines[-1].get_ydata()[0] for axis in figures["learned.png"].axes] == [0.2, 0.5]
    assert labels["gradients.png"] == [["dropout", "neither", "neither, usual init"]]
    (line, *_) = figures["rates.png"].axes[1].lines
    assert line.get_ydata()[2] == pytest.approx(100 - 10.1)
    for figure in figures.values():
        dropout_pictures.plt.close(figure)


# --- the command


def test_the_command_trains_records_and_draws(tmp_path, capsys):
    rows = ("neither", "dropout", "concrete, 0.4", "noise, std 0.01", "0.2", "0.9")
    args = Args(dataset="digits", out=tmp_path, row=rows, seeds=1, epochs=2, num_samples=1, engine="eager")
    main(args)
    runs = Store(tmp_path).runs()
    assert len(runs) == 3 + 4
    assert all(isinstance(run.spec.main, Fit) and not run.diverged for run in runs)
    assert all(run["history"][-1]["gradient_norm"] > 0 for run in runs)
    (learned,) = (run for run in runs if run.spec.method == "concrete")
    first, last = (row["rate_fc2"] for row in learned["history"])
    assert first != last
    text = (tmp_path / "table.md").read_text()
    assert "original" not in text.partition("\n\n")[2].partition("\n\n")[0]  # digits are other data
    assert {path.name for path in tmp_path.glob("*.png")} == set(dropout_pictures.PICTURES)
    capsys.readouterr()
    main(args)
    assert capsys.readouterr().out.count("already finished") == 7


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"dataset": "digits"}, False), ({"epochs": 1}, False), ({"validation": 10}, False)],
)
def test_original_numbers_need_the_same_data_and_epochs(changes, expected, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(dropout_exercises.accuracy, "run_columns", lambda *_: Store(tmp_path))
    monkeypatch.setattr(dropout_exercises, "make_tables", lambda *arguments: given.append(arguments[-1]) or ())
    main(Args(**{"dataset": "fashion_mnist", "out": tmp_path, **changes}))
    assert given == [expected]


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown row 'dropuot'"):
        main(Args(dataset="digits", out=tmp_path, row=("dropuot",)))
