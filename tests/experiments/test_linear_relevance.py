"""Closed forms against their published numbers and the data against what they promise; the rest is two small runs."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pyro_vd import EmpiricalBayes
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import linear_regression
from pyro_vd.experiments.common.linear_regression import (
    CURVATURE,
    NOISE,
    fit_relevance_vector,
    make_correlated_data,
    make_orthogonal_data,
    optimum,
)
from pyro_vd.experiments.common.spec import key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.linear_relevance import (
    ARD,
    CORRELATED,
    KEYS,
    KINDS,
    LEAST_SQUARES,
    ORTHOGONAL,
    PRIORS,
    Args,
    main,
    make_specs,
    make_tables,
)


# Mutants: any other KL, a factor of it, (1 + alpha) without its square.
@pytest.mark.parametrize(
    ("name", "expected"), [("sparse, exact KL", -4.5740), ("sparse", -4.5816), ("hierarchical", -4.5951)]
)
def test_the_optimum_is_the_known_one(name, expected):
    assert optimum(PRIORS[name], 100.0) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("z2", [1.01, 1.5, 4.0, 25.0, 1e4])
def test_the_optimum_of_the_hierarchical_prior_is_a_logarithm(z2):
    assert optimum(EmpiricalBayes(), z2) == pytest.approx(-math.log(z2 - 1), rel=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_one_standard_error_is_the_border(name):
    assert [optimum(PRIORS[name], z2) for z2 in (0.0, 0.5, 1.0)] == [math.inf] * 3
    roots = [optimum(PRIORS[name], z2) for z2 in (1.001, 1.1, 2.0, 10.0)]
    assert roots == sorted(roots, reverse=True)
    assert roots[0] > 6


def test_orthogonal_data_have_the_solution_and_the_curvature_they_say():
    ols = torch.linspace(0, 0.25, 9, dtype=torch.float64)
    x, y = (part.double() for part in make_orthogonal_data(ols))
    torch.testing.assert_close(x.mT @ x, CURVATURE * NOISE**2 * torch.eye(9, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.lstsq(x, y).solution[:, 0], ols, atol=1e-6, rtol=0)


def test_the_relevance_vector_machine_has_the_optimum_of_the_hierarchical_prior():
    """Evidence and its mean-field bound have one optimum where inputs are orthogonal."""
    z = np.array([0.2, 0.7, 0.9, 1.5, 2.0, 3.0, 4.0, 5.0])
    theta, kept = fit_relevance_vector(*make_orthogonal_data(torch.from_numpy(z) / CURVATURE**0.5))
    closed = [value / (1 + math.exp(optimum(EmpiricalBayes(), value**2))) for value in z]
    np.testing.assert_allclose(theta * CURVATURE**0.5, closed, atol=1e-3)
    assert kept.tolist() == [value > 1 for value in z]


def test_correlated_data_have_the_correlation_and_the_relevant_inputs_they_say():
    truth, x, y = make_correlated_data(inputs=5, relevant=2, examples=20_000, correlation=0.6, seed=1)
    assert (truth != 0).sum() == 2
    expected = 0.6 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_allclose(np.corrcoef(x.numpy().T), expected, atol=0.03)  # five standard errors of 40,000
    assert (y[:, 0].numpy() - x.numpy() @ truth).std() == pytest.approx(NOISE, rel=0.02)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear")
    args = Args(weights=12, inputs=12, relevant=3, examples=60, seeds=1, epochs=300, lr=0.05, engine="eager", out=out)
    main(args)
    return args


def read(args, label):
    return [run for run in Store(args.out, KINDS).runs(KEYS) if run.spec.label == label]


def test_training_finds_the_closed_form(done):
    (run,) = read(done, ORTHOGONAL)
    z = np.array(run["z"])
    for name in PRIORS:
        found = {key: np.array(value) for key, value in run["methods"][name].items()}
        np.testing.assert_allclose(found["theta"], found["closed_theta"], atol=0.4)  # noise of 300 steps
        assert (found["log_alpha"][z < 0.8] > 2).all()
        assert (found["log_alpha"][z > 1.5] < 2).all()


def test_a_run_that_prunes_nothing_has_a_table(done, tmp_path):
    main(dataclasses.replace(done, epochs=2, weights=4, out=tmp_path))
    row = next(line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| sparse "))
    assert [cell.strip() for cell in row.split("|")[4:6]] == ["-", "0.00"]


def test_few_of_the_irrelevant_inputs_stay(done):
    runs = read(done, CORRELATED)
    assert len(runs) == 1
    for run in runs:
        assert run["methods"][LEAST_SQUARES]["false_alarms"] == run["methods"][LEAST_SQUARES]["found"] == 1
        for name in (*PRIORS, ARD):
            judged = run["methods"][name]
            assert judged["false_alarms"] < 0.7
            assert judged["found"] > 0.6
            assert judged["test_mse"] < 3 * NOISE**2


def test_the_tables_and_the_picture_are_there_and_nothing_is_run_twice(done, capsys, monkeypatch):
    assert (done.out / "shrinkage.png").stat().st_size > 10_000
    text = (done.out / "table.md").read_text()
    tables = make_tables(Store(done.out, KINDS), done)
    assert text == "\n\n".join(table.markdown() for table in tables) + "\n"
    assert all(text.count(f"| {name} ") == 2 for name in (*PRIORS, ARD))
    monkeypatch.setattr(linear_regression, "fit", None)
    main(done)
    assert capsys.readouterr().out.count("already finished") == 2


def test_other_arguments_are_other_runs(done):
    changes = ({"lr": 0.1}, {"epochs": 301}, {"threshold": 2.0}, {"weights": 13, "inputs": 13})
    specs = [make_specs(dataclasses.replace(done, **change)) for change in ({}, *changes)]
    for part in zip(*specs, strict=True):
        assert len({key_of(spec) for spec in part}) == len(specs)
    seeds = make_specs(dataclasses.replace(done, seeds=3))
    assert [spec.seed for spec in seeds] == [0, 0, 1, 2]


def test_no_resume_runs_again(done, tmp_path, monkeypatch):
    small = dataclasses.replace(done, epochs=2, weights=4, out=tmp_path)
    main(small)
    calls, fit = [], linear_regression.fit
    monkeypatch.setattr(linear_regression, "fit", lambda *given, **named: calls.append(1) or fit(*given, **named))
    main(dataclasses.replace(small, resume=False))
    assert len(calls) == 2 * len(PRIORS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": 1}, "--weights"),
        ({"relevant": 0}, "--relevant"),
        ({"relevant": 100}, "--inputs"),
        ({"inputs": 301}, "--inputs"),
        ({"correlation": 1.0}, "--correlation"),
        ({"lr": math.nan}, "--lr"),
        ({"lr": 1e30, "epochs": 20, "engine": "eager"}, "lr=1e[+]30 must be a finite number"),
        ({"threshold": math.inf}, "--threshold"),
    ],
)
def test_bad_arguments_are_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main(Args(out=tmp_path, **changes))
    assert not list(tmp_path.iterdir())
