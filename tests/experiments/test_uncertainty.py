"""The numbers of predictions against counted ones, runs that are their schemes', tables and pictures of them."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
import tyro

from pyro_vd import NonFiniteError, metrics
from pyro_vd.data import LabeledImages
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments import uncertainty
from pyro_vd.experiments.common import runner, uncertainty_pictures
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.predictive import ood_auroc, quality, risk_coverage, rotate_images, scaled_quality
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.common.uncertainty_tables import make_tables
from pyro_vd.experiments.uncertainty import KEYS, MEMBERS, ROWS, Args, main, make_columns
from pyro_vd.guides import SCHEMES
from pyro_vd.models import MLP

TINY = Protocol(name="tiny", epochs=2, batch_size=200, lr=1e-2, ramp=1.0)
ENSEMBLE = f"deep ensemble of {MEMBERS}"


def test_every_scheme_has_a_row():
    (specs,) = make_columns(Data(name="mnist"), "lenet300").values()
    assert list(specs) == list(ROWS)
    assert {spec.method for spec in specs.values()} == set(SCHEMES) - {"ard"}  # another name of hierarchical
    assert {name: spec.members for name, spec in specs.items() if spec.members > 1} == {ENSEMBLE: MEMBERS}


def test_quality_counts_what_it_says():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]])
    labels = torch.tensor([0, 1, 1])
    found = quality(logits, labels)
    average = logits.softmax(-1).mean(0)
    assert found["error"] == pytest.approx(1 / 3)
    assert found["nll"] == pytest.approx(-average[range(3), labels].log().mean().item(), rel=1e-6)
    assert sum(found["reliability"]["examples"]) == 3
    assert found["expected_calibration_error"] == pytest.approx(metrics.expected_calibration_error(average, labels))


def sharpen(factor, size=20_000):
    """Logits ``factor`` times the calibrated ones, and labels: (1, size, 3), (size,)."""
    torch.manual_seed(0)
    calibrated = torch.randn(size, 3)
    return factor * calibrated[None], torch.distributions.Categorical(logits=calibrated).sample()


def test_scaling_undoes_overconfidence():
    logits, labels = sharpen(3.0)
    found, calibrated = scaled_quality(logits, labels), quality(logits / 3, labels)
    assert found["temperature"] == pytest.approx(3, rel=0.05)
    assert found["nll"] == pytest.approx(calibrated["nll"], abs=2e-4)
    assert found["nll"] < quality(logits, labels)["nll"] - 0.3
    assert found["expected_calibration_error"] < 0.02 < quality(logits, labels)["expected_calibration_error"]


def test_the_temperature_of_a_half_is_that_of_the_other_half():
    """With its own, each half would do better: the labels here say opposite things about the confidence."""
    (logits, labels), odd = sharpen(1.0), torch.arange(20_000) % 2 == 1
    logits[:, odd] *= 4
    found = scaled_quality(logits, labels)
    temperatures = [metrics.fit_temperature(logits[0, half], labels[half]).value for half in (odd, ~odd)]
    scaled = logits.clone()
    scaled[:, ~odd] /= temperatures[0]
    scaled[:, odd] /= temperatures[1]
    assert found["temperature"] == pytest.approx(sum(temperatures) / 2, rel=1e-6)
    assert found["nll"] == pytest.approx(quality(scaled, labels)["nll"], rel=1e-5)
    assert found["nll"] > quality(logits, labels)["nll"]


def test_draws_are_averaged_before_they_are_scaled():
    logits = torch.stack([sharpen(2.0)[0][0], torch.zeros(20_000, 3)])
    labels = sharpen(2.0)[1]
    average = metrics.predictive_probabilities(logits).log()[None]
    assert scaled_quality(logits, labels) == pytest.approx(scaled_quality(average, labels), rel=1e-5)


def test_perfect_predictions_have_no_temperature():
    labels = torch.arange(10) % 2
    assert scaled_quality(9 * torch.nn.functional.one_hot(labels).float()[None], labels) is None


def test_the_surest_are_answered_first():
    logits = torch.zeros(1, 100, 2)
    logits[0, :, 0] = torch.linspace(5, 0.1, 100)  # ever less sure of class 0
    labels = (torch.arange(100) >= 80).long()  # and wrong at the end
    curve = risk_coverage(logits, labels)
    assert curve["80"] == 0
    assert curve["90"] == pytest.approx(10 / 90)
    assert curve["100"] == pytest.approx(0.2)


def test_draws_that_disagree_are_not_answered_first():
    """Each is sure, and they contradict each other: what counts is the entropy of their average."""
    divided = torch.tensor([[9.0, 0.0], [0.0, 9.0]])[:, None].expand(2, 50, 2)
    agreed = torch.tensor([1.0, 0.0]).expand(2, 50, 2)
    logits = torch.cat([divided, agreed], dim=1)
    labels = torch.cat([torch.ones(50), torch.zeros(50)]).long()
    assert risk_coverage(logits, labels)["50"] == 0


def test_outsiders_are_told_by_each_part_of_the_doubt():
    inside = metrics.Uncertainty(torch.tensor([0.1, 0.2]), torch.tensor([0.1, 0.0]), torch.tensor([0.0, 0.2]))
    outside = metrics.Uncertainty(torch.tensor([0.3, 0.4]), torch.tensor([0.2, 0.3]), torch.tensor([0.1, 0.1]))
    assert ood_auroc(inside, outside) == {"total": 1.0, "epistemic": 0.5}


def test_images_are_turned_by_the_angle():
    images = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    images[0, 0, 0, 2] = 200  # up
    assert rotate_images(images, 0) is images
    assert rotate_images(images, 90)[0, 0].nonzero().tolist() == [[2, 0]]  # to the left
    assert rotate_images(images, 180)[0, 0].nonzero().tolist() == [[4, 2]]
    assert rotate_images(images, 90).dtype == torch.uint8
    shades = torch.rand(1, 1, 5, 5)  # digits are floats
    torch.testing.assert_close(rotate_images(shades, 90), shades.rot90(1, (2, 3)))


def load_only_digits(data, *args):
    if data.name not in ("same", "inverted", "digits"):
        raise DataError(f"{data.name} is not here")
    split = load_images(dataclasses.replace(data, name="digits"), *args)
    if data.name != "inverted":
        return split
    return dataclasses.replace(split, test=LabeledImages(1 - split.test.images, split.test.labels))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "PROTOCOL", TINY)
        patch.setitem(uncertainty.NETWORKS, "lenet300", partial(MLP, hidden=(12,)))
        patch.setattr(uncertainty, "NUM_ROTATED", 50)
        patch.setattr(uncertainty, "load_images", load_only_digits)
        args = Args(
            dataset="digits", row=("none", ENSEMBLE, "Monte Carlo dropout", "sparse"), seeds=1,
            ood_datasets=("same", "inverted", "fashion_mnist"), num_samples=6, engine="eager",
            out=tmp_path_factory.mktemp("runs"),
        )  # fmt: skip
        main(args)
        yield args


def columns_of(args):
    return make_columns(Data(name="digits"), "lenet300", TINY, args.num_samples)


def by_row(args):
    (specs,) = columns_of(args).values()
    runs = {row: Store(args.out).load(spec, KEYS) for row, spec in specs.items()}
    return {row: run for row, run in runs.items() if run}


def tables_of(args, **columns):
    return make_tables({**columns_of(args), **columns}, Store(args.out), KEYS)


def test_a_record_for_every_row(done):
    runs = by_row(done)
    assert set(runs) == set(done.row)
    histories = {row: {epoch.get("member") for epoch in run["history"]} for row, run in runs.items()}
    assert histories.pop(ENSEMBLE) == set(range(MEMBERS))
    assert all(members == {None} for members in histories.values())
    for run in runs.values():
        assert run["ood_datasets"].keys() == {"same", "inverted"}  # the other is not there
        assert [point["angle"] for point in run["rotated"]] == list(uncertainty.ANGLES)
        upright, little, *_, down = (point["error"] for point in run["rotated"])
        assert upright <= little < down


def test_images_of_the_distribution_are_not_detected(done):
    """The same images on both sides: entropies differ by the noise of the draws alone."""
    for run in by_row(done).values():
        assert run["auroc"]["same"]["total"] == pytest.approx(0.5, abs=0.02)
        assert abs(run["auroc"]["inverted"]["total"] - 0.5) > 0.05


def test_only_noise_has_an_epistemic_part(done):
    parts = {row: run["uncertainty"]["epistemic"] for row, run in by_row(done).items()}
    assert parts.pop("none") == 0
    assert min(parts.values()) > 1e-6


def test_the_mean_is_the_network_without_noise(done):
    for row, run in by_row(done).items():
        if row != ENSEMBLE:
            assert run["mean"]["error"] == run["history"][-1]["error"]
            assert (run["mean"]["nll"] == run["draws"]["nll"]) is (row == "none")


def test_an_ensemble_averages_networks_of_its_own_seeds(done):
    run = by_row(done)[ENSEMBLE]
    ends = [epoch for epoch in run["history"] if epoch["epoch"] == TINY.epochs - 1]
    assert len({epoch["loss"] for epoch in ends}) == MEMBERS
    assert run["mean"] is None
    assert run["draws"]["error"] < max(epoch["error"] for epoch in ends)


def test_the_log_scores_are_those_of_the_record(done):
    for run in by_row(done).values():
        with np.load(run.beside(".npz")) as stored:
            scores = stored["log_score"].astype(float)
        assert -scores.mean() == pytest.approx(run["draws"]["nll"], rel=2e-3)  # float16


def test_the_tables_and_pictures(done, capsys):
    tables = tables_of(done)
    assert (done.out / "table.md").read_text() == "\n\n".join(table.markdown() for table in tables) + "\n"
    assert [{row[0] for row in table.rows} for table in tables] == [set(done.row)] * 5
    assert tables[0].title.startswith("lenet300, digits (28x28), 2 epochs, cpu")
    best = min(by_row(done).items(), key=lambda row: row[1]["draws"]["nll"])[0]
    assert (tables[0].rows[0][0], tables[0].rows[0][5]) == (best, "0 ± 0")
    for name in ("reliability", "rotation", "risk_coverage"):
        assert (done.out / f"lenet300-digits-{name}.png").stat().st_size > 10_000
    capsys.readouterr()
    main(done)
    printed = capsys.readouterr().out
    assert printed.count("already finished") == 4
    assert "without fashion_mnist: fashion_mnist is not here" in printed


def test_errors_and_scores_are_means_over_seeds_in_their_columns(done, tmp_path):
    store, (spec, run) = Store(tmp_path), (by_row(done)["sparse"].spec, by_row(done)["sparse"])
    for seed in (0, 1):
        parts = {kind: {**run[kind], "error": 0.01 * (1 + seed + step), "nll": 0.5 + seed + step}
                 for step, kind in enumerate(("mean", "draws"))}  # fmt: skip
        store.save(dataclasses.replace(spec, seed=seed), {**run.record, **parts})
    (row,) = make_tables(columns_of(done), store, KEYS)[0].rows
    assert row == (
        "sparse", "1.50 ± 0.71", "2.50 ± 0.71", "1.0000 ± 0.7071", "2.0000 ± 0.7071", "-", "2"
    )  # fmt: skip


def test_networks_have_tables_of_their_own(done, tmp_path):
    """And their rows are ranked among themselves."""
    store, (specs,) = Store(tmp_path), columns_of(done).values()
    other = {row: dataclasses.replace(spec, network="cifar_cnn") for row, spec in specs.items()}
    for row, run in by_row(done).items():
        for spec, worse in ((run.spec, 0), (other[row], 3)):
            draws = {**run["draws"], "nll": run["draws"]["nll"] + worse}
            numbers = {key: value for key, value in run.record.items() if key != "spec"}
            saved = store.save(spec, {**numbers, "draws": draws})
            with np.load(run.beside(".npz")) as stored:
                np.savez(saved.beside(".npz"), log_score=stored["log_score"] - worse)
    columns = {"lenet300": specs, "cifar_cnn": other}
    tables = make_tables(columns, store, KEYS)
    assert tables[:5] == tables_of(done)
    assert tables[5].title.startswith("cifar_cnn, ")
    assert sum(row[5] == "0 ± 0" for row in tables[5].rows) == 1


def test_a_row_is_ranked_if_all_its_runs_have_left_their_scores(done, tmp_path):
    for path in done.out.glob("*.[jn][sp][oz]*"):
        if "sparse" not in path.name or path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    ranks = {row[0]: row[5] for row in tables_of(dataclasses.replace(done, out=tmp_path))[0].rows}
    assert ranks.pop("sparse") == "-"
    assert all(" ± " in rank for rank in ranks.values())


def test_without_other_datasets_there_is_no_table_of_their_detection(done, tmp_path):
    args = dataclasses.replace(done, row=("none",), ood_datasets=(), out=tmp_path)
    main(args)
    titles = [table.title for table in tables_of(args)]
    assert len(titles) == 4
    assert not any("AUROC" in title for title in titles)
    assert all(max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH for table in tables_of(args))


def test_rows_without_scaled_predictions_are_left_out(done, tmp_path):
    """Older records have none, and a prediction without errors has no temperature."""
    store = Store(tmp_path)
    for row, run in by_row(done).items():
        numbers = {key: value for key, value in run.record.items() if key != "spec"}
        if row == "sparse":
            del numbers["scaled"]
        if row == "none":
            numbers["scaled"] = {"mean": None, "draws": None}
        store.save(run.spec, numbers)
    scaled = next(
        table for table in make_tables(columns_of(done), store, KEYS) if "after temperature scaling" in table.title
    )
    assert {row[0] for row in scaled.rows} == {ENSEMBLE, "Monte Carlo dropout"}
    cells = {row[0]: row[1:] for row in scaled.rows}
    found = by_row(done)[ENSEMBLE]["scaled"]["draws"]
    assert cells[ENSEMBLE] == (
        "-", f"{found['nll']:.4f}", "-", f"{100 * found['expected_calibration_error']:.2f}", "-",
        f"{found['temperature']:.2f}",
    )  # fmt: skip


def test_another_dataset_has_a_column_and_outsiders_of_its_own():
    (name,) = make_columns(Data(name="fashion_mnist"), "lenet300")
    assert name == "lenet300-fashion_mnist"
    for dataset in ("mnist", "fashion_mnist", "cifar10"):
        assert dataset not in uncertainty.choose_ood_datasets(dataset)


def test_the_training_set_is_not_out_of_distribution(done, tmp_path):
    with pytest.raises(UserError, match="digits is the training set"):
        main(dataclasses.replace(done, ood_datasets=("digits",), out=tmp_path))


def test_records_with_other_datasets_are_refused(done):
    """They are not part of the spec, and a table must not mix them."""
    with pytest.raises(UserError, match=r"has other --ood-datasets \(same, inverted\); choose another"):
        main(dataclasses.replace(done, ood_datasets=()))


def test_a_diverged_run_is_counted(done, tmp_path, monkeypatch):
    def explode(*_):
        raise NonFiniteError("nan", [])

    monkeypatch.setattr(runner, "run_phases", explode)
    args = dataclasses.replace(done, row=("sparse",), out=tmp_path)
    main(args)
    (run,) = Store(tmp_path).runs(KEYS)
    assert run.diverged
    assert "0 (+1 diverged)" in (tmp_path / "table.md").read_text()
    assert not list(tmp_path.glob("*.png"))
    main(dataclasses.replace(args, ood_datasets=()))  # it has no datasets that could differ


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="sparse"):
        main(Args(dataset="digits", out=tmp_path, row=("spares",)))
    with pytest.raises(SystemExit) as stopped:
        tyro.cli(Args, args=["--network", "lenet3000"])
    assert stopped.value.code == 2


# --- pictures


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of their files."""
    drawn = []
    monkeypatch.setattr(uncertainty_pictures, "save_figure", lambda figure, path: drawn.append(figure))
    yield drawn
    for figure in drawn:
        uncertainty_pictures.plt.close(figure)


def texts(axis):
    return [text.get_text().partition(":")[0] for text in axis.texts]


def test_lines_have_their_names_and_one_color_per_scheme(done, figures, tmp_path):
    runs = by_row(done)
    uncertainty_pictures.draw_risk_coverage(runs, tmp_path)
    uncertainty_pictures.draw_rotation(runs, tmp_path)
    coverage, (_, entropy, epistemic) = figures[0].axes[0], figures[1].axes
    assert set(texts(coverage)) == set(texts(entropy)) == set(done.row)
    assert set(texts(epistemic)) == set(done.row) - {"none"}  # which has no such part
    for axis in (coverage, entropy):
        lines = {line.get_label(): line for line in axis.lines}
        assert lines["sparse"].get_color() == uncertainty_pictures.color_of("sparse")
        assert lines["none"].get_color() == lines[ENSEMBLE].get_color()
        assert lines["none"].get_linestyle() != lines[ENSEMBLE].get_linestyle()


def test_no_panel_for_what_is_absent(done, figures, tmp_path):
    runs = by_row(done)
    uncertainty_pictures.draw_reliability(runs, tmp_path)
    uncertainty_pictures.draw_rotation({"none": runs["none"]}, tmp_path)
    panels = {axis.get_title(): texts(axis) for axis in figures[0].axes}
    assert panels == {
        "none": ["mean"], ENSEMBLE: ["draws"], "Monte Carlo dropout": ["mean", "draws"], "sparse": ["mean", "draws"]
    }  # fmt: skip
    assert [axis.get_ylabel() for axis in figures[1].axes] == ["error, %", "entropy, nats"]
