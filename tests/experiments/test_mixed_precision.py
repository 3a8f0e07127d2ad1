"""Precisions are those of the rows, and are compared seed by seed."""

import dataclasses

import pytest

from pyro_vd.experiments import mixed_precision
from pyro_vd.experiments.common.measures import ACCURACY_KEYS
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.mixed_precision import Args, make_columns, make_table

COLUMNS = make_columns(Data(name="digits"))


def test_rows_train_in_the_precision_that_they_name(tmp_path, capsys):
    """And only seeds of both precisions count."""
    args = Args(dataset="digits", out=tmp_path, epochs=1, engine="eager")
    mixed_precision.main(dataclasses.replace(args, seeds=2, row=("none bfloat16",)))
    mixed_precision.main(dataclasses.replace(args, seeds=1, row=("none float32",)))
    assert "`none`" in capsys.readouterr().out
    runs = Store(tmp_path).runs(ACCURACY_KEYS)
    columns = make_columns(Data(name="digits"), dataclasses.replace(mixed_precision.PROTOCOL, epochs=1))
    table = make_table(columns, Store(tmp_path))
    assert table.title == "LeNet-300-100, digits (28x28), 1 epoch, cpu"
    ((name, *_, difference, pairs),) = table.rows
    assert (name, difference, pairs) == ("`none`", "-", "1")
    losses = {
        run.spec.main.training.matmul_dtype: run["history"][0]["log_likelihood"] for run in runs if not run.spec.seed
    }
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], rel=1e-2)


def test_the_difference_of_precisions_is_bfloat16_minus_float32(tmp_path):
    store = Store(tmp_path)
    for dtype, errors in {"float32": (0.01, 0.03), "bfloat16": (0.02, 0.05, 0.5)}.items():
        for seed, error in enumerate(errors):
            spec = dataclasses.replace(COLUMNS["lenet300"][f"sparse {dtype}"], seed=seed)
            numbers = {**dict.fromkeys(ACCURACY_KEYS, error), "diverged": False}
            store.save(spec, {"dataset": "digits", "device": "cpu", **numbers})
    (row,) = make_table(COLUMNS, store).rows
    assert row[0] == "`sparse`"
    assert row[1] == "2.00 ± 1.41"
    assert row[3].startswith("+1.50 [")
    assert row[4] == "2"
