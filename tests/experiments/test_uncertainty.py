"""The numbers of predictions against counted ones, runs that are their schemes', tables and pictures of them."""

import dataclasses
from functools import partial

import pytest
import torch

from pyro_vd import metrics
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments import uncertainty
from pyro_vd.experiments.common.accuracy import Protocol
from pyro_vd.experiments.common.predictive import ood_auroc, quality, risk_coverage, rotate_images
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.common.training import load_data
from pyro_vd.experiments.common.uncertainty_tables import tables
from pyro_vd.experiments.uncertainty import ENSEMBLE, MEMBERS, REQUIRED, ROWS, Args, log_scores, main
from pyro_vd.guides import SCHEMES
from pyro_vd.models import MLP

TINY = Protocol("tiny", epochs=2, batch_size=200, lr=1e-2, hold=0.5, wait=0.0, ramp=1.0)


def test_every_scheme_has_a_row():
    assert {row.scheme for row in ROWS} == set(SCHEMES) - {"ard"}  # another name of hierarchical
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_quality_counts_what_it_says():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]])
    labels = torch.tensor([0, 1, 1])
    found = quality(logits, labels)
    average = logits.softmax(-1).mean(0)
    assert found["error"] == pytest.approx(1 / 3)
    assert found["nll"] == pytest.approx(-average[range(3), labels].log().mean().item(), rel=1e-6)
    assert sum(found["reliability"]["examples"]) == 3
    assert found["expected_calibration_error"] == pytest.approx(metrics.expected_calibration_error(average, labels))


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


def only_digits(name, *args, **options):
    if name == "same":
        return load_data("digits", *args, **options)
    if name != "digits":
        raise DataError(f"{name} is not here")
    return load_data(name, *args, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "PROTOCOL", TINY)
        patch.setattr(uncertainty, "NETWORK_DATASETS", {"lenet300": "digits"})
        patch.setitem(uncertainty.NETWORKS, "lenet300", partial(MLP, hidden=(12,)))
        patch.setattr(uncertainty, "NUM_ROTATED", 50)
        patch.setattr(uncertainty, "load_data", only_digits)
        args = Args(
            dataset="digits", row=("none", f"{ENSEMBLE} of {MEMBERS}", "Monte Carlo dropout", "sparse"), seeds=1,
            ood_datasets=("same", "fashion_mnist"), num_samples=6, engine="eager", out=tmp_path_factory.mktemp("runs"),
        )  # fmt: skip
        main(args)
        yield args


def by_row(args):
    return {record["row"]: record for record in read_records(args.out, REQUIRED)}


def test_a_record_for_every_row(done):
    records = by_row(done)
    assert list(records) == sorted(done.row, key=lambda row: records[row]["file"])
    assert [records[row]["members"] for row in done.row] == [1, MEMBERS, 1, 1]
    assert len(records[f"{ENSEMBLE} of {MEMBERS}"]["history"]) == MEMBERS
    for record in records.values():
        assert record["ood_datasets"].keys() == {"same"}  # the other is not there
        assert [point["angle"] for point in record["rotated"]] == list(uncertainty.ANGLES)
        upright, little, *_, down = (point["error"] for point in record["rotated"])
        assert upright <= little < down


def test_insiders_are_no_outsiders(done):
    """The same images on both sides: entropies differ by the noise of the draws alone."""
    for record in by_row(done).values():
        assert record["auroc"]["same"]["total"] == pytest.approx(0.5, abs=0.02)


def test_only_noise_has_an_epistemic_part(done):
    parts = {row: record["uncertainty"]["epistemic"] for row, record in by_row(done).items()}
    assert parts.pop("none") == 0
    assert min(parts.values()) > 1e-6


def test_an_ensemble_averages_networks_of_its_own_seeds(done):
    record = by_row(done)[f"{ENSEMBLE} of {MEMBERS}"]
    ends = [history[-1]["error"] for history in record["history"]]
    assert len({history[-1]["loss"] for history in record["history"]}) == MEMBERS
    assert record["mean"] is None
    assert record["draws"]["error"] < max(ends)


def test_the_log_scores_are_those_of_the_record(done):
    records = read_records(done.out, REQUIRED)
    scores = log_scores(records, done.out)
    for record in records:
        assert -scores[record["file"]].mean().item() == pytest.approx(record["draws"]["nll"], rel=2e-3)  # float16


def test_the_tables_and_pictures(done, capsys):
    text = (done.out / "table.md").read_text()
    assert text.count("| none ") == text.count("| sparse ") == 2
    best = min(by_row(done).values(), key=lambda record: record["draws"]["nll"])["row"]
    first = text.splitlines()[4]
    assert first.startswith(f"| {best} ")
    assert "| 0 ± 0 " in first
    for name in ("reliability", "turned", "rejection"):
        (picture,) = done.out.glob(f"lenet300-digits*-{name}.png")
        assert picture.stat().st_size > 10_000
    capsys.readouterr()
    main(done)
    printed = capsys.readouterr().out
    assert printed.count("already finished") == 4
    assert "without fashion_mnist: fashion_mnist is not here" in printed


def test_networks_in_one_folder_have_tables_of_their_own(done):
    """And their rows are ranked among themselves."""
    records = read_records(done.out, REQUIRED)
    scores = log_scores(records, done.out)
    alone = tables(records, scores)
    others = []
    for record in records:
        worse = {**record["draws"], "nll": record["draws"]["nll"] + 3}
        others.append({**record, "column": "cifar_cnn", "draws": worse, "file": f"other-{record['file']}"})
        scores[f"other-{record['file']}"] = scores[record["file"]] - 6 * torch.rand(len(scores[record["file"]]))
    first, second = tables([*records, *others], scores).split("\n\ncifar_cnn, ")
    assert first == alone
    assert sum("| 0 ± 0 " in line for line in second.splitlines()) == 1


def test_a_row_is_ranked_where_all_its_runs_have_left_their_scores(done):
    records = read_records(done.out, REQUIRED)
    scores = log_scores(records, done.out)
    lost = records[0]
    del scores[lost["file"]]
    rows = [line for line in tables(records, scores).splitlines() if line.startswith("| ") and " ± " in line]
    assert len(rows) == 1 + len(records) - 1  # the header has one too
    assert not any(line.startswith(f"| {lost['row']} ") for line in rows)


def test_what_is_trained_on_is_no_outsider(done, tmp_path):
    with pytest.raises(UserError, match="digits is the training set"):
        main(dataclasses.replace(done, ood_datasets=("digits",), out=tmp_path))


def test_a_diverged_run_is_counted(done, tmp_path, monkeypatch):
    def explode(*_):
        raise uncertainty.NonFiniteError("nan", [])

    monkeypatch.setattr(uncertainty.accuracy, "train", explode)
    args = dataclasses.replace(done, row=("sparse",), ood_datasets=(), out=tmp_path)
    main(args)
    (record,) = read_records(tmp_path, REQUIRED)
    assert record["diverged"]
    assert "0 (+1 diverged)" in (tmp_path / "table.md").read_text()


def test_unknown_names_are_refused(tmp_path):
    for changes, message in (({"network": "lenet3000"}, "lenet300"), ({"row": ("spares",)}, "sparse")):
        with pytest.raises(UserError, match=message):
            main(Args(dataset="digits", out=tmp_path, **changes))
