"""Older records become specs: the right ones, without another number, and all of a folder or none."""

from dataclasses import replace

import pytest

from pyro_vd import Training
from pyro_vd.errors import UserError
from pyro_vd.experiments import gradient_variance, linear_relevance, migrate, mnist_accuracy, mnist_compress
from pyro_vd.experiments.common.records import write_record
from pyro_vd.experiments.common.spec import KINDS, Data, Dense, FineTune, Gradual, Lottery, Options, Spec, key_of
from pyro_vd.experiments.common.store import RESULTS, Store
from pyro_vd.experiments.migrate import migrate_folder
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from tests.old_records import (
    BAD,
    ENVIRONMENT,
    NUMBERS,
    baseline_record,
    put,
    row_record,
    row_spec,
    rows,
    scheme_record,
    scheme_spec,
)


def migrated(folder, record):
    """The only run of a folder that held this record."""
    put(folder, record)
    migrate_folder(folder)
    kinds = {**KINDS, **gradient_variance.KINDS, **linear_relevance.KINDS}
    (run,) = Store(folder, kinds).runs()
    assert run.path == Store(folder, kinds).path(run.spec)
    return run


def test_a_scheme_is_a_fit(tmp_path):
    run = migrated(tmp_path, scheme_record())
    assert run.spec == scheme_spec()
    assert (run["protocol"], run["changes"]) == ("molchanov2017", {"epochs": 40})
    assert {name: run[name] for name in (*ENVIRONMENT, "test_error", "compression", "dataset", "experiment")} == {
        **ENVIRONMENT, "test_error": 0.02, "compression": 50.0, "dataset": "mnist", "experiment": "mnist_compress",
    }  # fmt: skip
    first = run["history"][0]
    assert first == {"phase": "fit", "epoch": 0, "lr": 0.001, "beta": 0, "seconds": 0.5, "sparsity": 0.5, "error": 0.1}
    assert len(run["history"]) == 40
    assert run["seconds"] == 20.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_samples": 5, "mc_samples": 5}, {"num_samples": 5}),
        ({"dataset": "mnist (validation 10000)", "validation": 10_000},
         {"data": Data(name="mnist", validation=10_000)}),
        ({"parametrisation": "log_alpha"}, {"fit": {"options": Options(parametrization="log_alpha")}}),
        ({"init": -5.0}, {"fit": {"options": Options(init=-5)}}),
        ({"noise_lr": 0.3}, {"fit": {"noise_lr": 0.3}}),
        ({"train_masking": False}, {"training": {"threshold": None}}),
        ({"threshold": 2.0}, {"training": {"threshold": 2}, "fit": {"threshold": 2}}),
        ({"shift": 1}, {"data": Data(name="mnist", shift=1)}),
        ({"lr": 0.01, "history": rows(40, 0.01, 20, 1, 3)}, {"training": {"lr": 0.01}}),
        ({"kl_weight": 0.5, "history": rows(40, 0.001, 20, 1, 3, 0.5)},
         {"training": {"kl_schedule": WarmUp(1, 3, 0.5)}}),
        ({"wait": 4, "ramp": 10, "history": rows(40, 0.001, 20, 4, 10)}, {"training": {"kl_schedule": WarmUp(4, 10)}}),
        ({"wait": 0, "ramp": 1, "history": rows(40, 0.001, 20)}, {"training": {"kl_schedule": WarmUp(0, 1)}}),
        ({"hold": 0.9, "history": rows(40, 0.001, 36, 1, 3)}, {"training": {"lr_schedule": HoldThenDecay(36, 40)}}),
    ],
    ids=lambda change: "-".join(change) if "data" not in change else "data",
)  # fmt: skip
def test_what_was_changed_is_in_the_spec(tmp_path, changes, expected):
    assert migrated(tmp_path, scheme_record(**changes)).spec == scheme_spec(**expected)


def test_dense_training_and_fine_tuning_are_phases(tmp_path):
    """With the error before fine-tuning, and one history."""
    tuning = {"history": [{**row, "beta": 1.0} for row in rows(6, 0.001, 0)]}
    record = scheme_record(pretrain=10, fine_tune=6, test_error_pruned=0.03, fine_tuning=tuning)
    del record["history"][0]["accuracy"]
    run = migrated(tmp_path, record)
    dense, fit, tune = run.spec.phases
    assert dense == Dense(training=Training(epochs=10, lr_schedule=HoldThenDecay(0, 10)), dropout=(0.2, 0.3))
    assert (fit,) == scheme_spec().phases
    assert tune == FineTune(training=Training(epochs=6, lr_schedule=HoldThenDecay(0, 6)))
    assert run["test_error_pruned"] == 0.03
    assert [row["phase"] for row in run["history"]] == ["fit"] * 40 + ["fine_tune"] * 6
    assert "error" not in run["history"][0]
    assert run["seconds"] == 23.0


def test_a_record_older_than_an_argument_ran_without_it(tmp_path):
    """Also where the protocol has another value today; the first rates fell from the start."""
    record = scheme_record(
        protocol="fine-tuned", network="lenet5", kl_weight=1.25, history=rows(40, 0.001, 0, 0, 5, 1.25)
    )
    for name in ("noise_lr", "pretrain", "shift", "validation", "hold", "wait", "ramp"):
        record.pop(name, None)
    run = migrated(tmp_path, record)
    schedules = {"lr_schedule": HoldThenDecay(0, 40), "kl_schedule": WarmUp(0, 5, 1.25)}
    assert run.spec == scheme_spec(network="lenet5", training=schedules)
    assert run["changes"] == {"epochs": 40, "pretrain": 0, "fine_tune": 0, "shift": 0, "noise_lr": 1.0, "hold": 0.0}


def test_names_of_protocols_are_todays(tmp_path):
    for number, (old, new) in enumerate(migrate.PROTOCOL_NAMES.items()):
        own = {**mnist_compress.PROTOCOLS}[new]
        schedule = own.kl_schedule
        record = scheme_record(
            protocol=old, epochs=own.epochs, kl_weight=own.kl_weight, noise_lr=own.noise_lr, pretrain=own.pretrain,
            shift=own.shift, fine_tune=0, dataset="digits (28x28)" if new == "digits" else "mnist",
            history=rows(own.epochs, 0.001, own.epochs // 2, schedule.wait, schedule.ramp, own.kl_weight),
        )  # fmt: skip
        run = migrated(tmp_path / str(number), record)
        assert (run["protocol"], run["changes"]) == (new, {})


def test_units_and_gates_keep_what_their_scheme_changes(tmp_path):
    units = {"noise_lr": 3.0, "threshold": 0.0, "train_masking": False}
    run = migrated(tmp_path, scheme_record(scheme="group_normal_jeffreys", **units))
    assert run.spec == scheme_spec(
        fit={"scheme": "group_normal_jeffreys", "threshold": 0.0, "noise_lr": 3.0}, training={"threshold": None}
    )
    assert run["changes"] == {"epochs": 40}


def test_the_vgg_has_options_and_parts_of_the_data(tmp_path):
    record = scheme_record(
        experiment="cifar_compress", protocol="variant of short: epochs=40", network="vgg x 0.25", augment=True,
        dataset="cifar10 (JPEG) (5,000 and 2,000 images)", history=rows(40, 0.001, 20, 3, 24),
    )  # fmt: skip
    run = migrated(tmp_path, record)
    data = Data(name="cifar10", num_train=5000, num_test=2000, augment=True)
    kl_schedule = {"kl_schedule": WarmUp(3, 24)}
    assert run.spec == scheme_spec(network="vgg", options=Options(scale=0.25), data=data, training=kl_schedule)
    assert run["dataset"] == "cifar10 (JPEG) (5,000 and 2,000 images)"


def test_gradual_pruning_is_a_phase(tmp_path):
    history = [{**row, "beta": 1.0} for row in rows(20, 0.002, 10)]
    run = migrated(tmp_path, baseline_record("magnitude, 99.10%", history, start=0.0, end=0.4, shift=1))
    dense, gradual = run.spec.phases
    assert dense == Dense(training=Training(epochs=5, lr=0.002, lr_schedule=HoldThenDecay(0, 5)), dropout=(0.2, 0.3))
    training = Training(epochs=20, lr=0.002, lr_schedule=HoldThenDecay(10, 20))
    assert gradual == Gradual(sparsity=0.991, training=training, end=0.4)
    assert run.spec.data == Data(name="mnist", shift=1)
    assert run["changes"] == {"end": 0.4, "lr": 0.002, "shift": 1}
    assert {row["phase"] for row in run["history"]} == {"gradual"}


def test_the_lottery_is_a_phase(tmp_path):
    """Whose last round has the rest of the epochs."""
    history = [{**row, "beta": 1.0, "round": 0} for row in rows(8, 0.002, 4)]
    run = migrated(tmp_path, baseline_record("lottery, 98.00%", history, rounds=3))
    training = Training(epochs=8, lr=0.002, lr_schedule=HoldThenDecay(4, 8))
    assert run.spec.phases == (Lottery(sparsity=0.98, training=training, rounds=3, extra=1),)
    assert run["changes"] == {"rounds": 3, "lr": 0.002}
    assert run["history"][3]["round"] == 0


SMALL = Data(name="mnist", num_train=5000, num_test=2000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"column": "300-100", "options": {}}, {"options": Options(hidden=(300, 100)), "fit": {"options": Options()}}),
        ({"column": "widths x 0.5"}, {"network": "cifar_cnn", "options": Options(scale=0.5, size=16)}),
        ({"column": "lenet300"}, {"network": "lenet300", "options": Options()}),
        ({"sites": ["fc1.weight"]}, {"fit": {"select": ("fc1.weight",)}}),
        ({"local": False}, {"training": {"estimator": "weights"}}),
        ({"precision": "bfloat16"}, {"training": {"matmul_dtype": "bfloat16"}}),
        ({"options": {"parametrisation": "log_alpha"}}, {"fit": {"options": Options(parametrization="log_alpha")}}),
        ({"experiment": "prior_swap", "row": "Normal(0, 1)"}, {"fit": {"prior": "Normal(0, 1)"}}),
        ({"column": "50 % shuffled", "dataset": "mnist (5,000 and 2,000 images) (50 % shuffled)"},
         {"network": "lenet300", "options": Options(), "data": replace(SMALL, shuffled=0.5)}),
        ({"column": "0 % shuffled", "dataset": "mnist (5,000 and 2,000 images)"},
         {"network": "lenet300", "options": Options(), "data": SMALL}),
    ],
    ids=["plain", "hidden", "widths", "network", "select", "weights", "dtype", "options", "prior", "shuffled", "part"],
)  # fmt: skip
def test_a_row_of_a_table_is_a_fit(tmp_path, changes, expected):
    assert migrated(tmp_path, row_record(**changes)).spec == row_spec(**expected)


def test_an_ensemble_has_the_history_of_its_members(tmp_path):
    """And its measures under the names of today, at any depth."""
    part = row_record()["history"]
    doubt = {"doubt": {"total": 0.1}, "draws": {"calibration_error": 0.2}, "members": 2, "turned": {}, "rejected": {}}
    run = migrated(tmp_path, row_record(experiment="uncertainty", history=[part, part], **doubt))
    assert run.spec == row_spec(members=2)
    assert [row["member"] for row in run["history"]] == [0] * 10 + [1] * 10
    assert (run["uncertainty"], run["draws"]) == ({"total": 0.1}, {"expected_calibration_error": 0.2})
    assert run["rotated"] == run["risk_coverage"] == {}
    assert run["seconds"] == 10.0
    single = migrated(tmp_path / "one", row_record(experiment="uncertainty", history=[part], members=1))
    assert (single.spec, "member" in single["history"][0]) == (row_spec(), False)


def test_measures_with_specs_of_their_own(tmp_path):
    gradient = {
        "experiment": "gradient_variance", "dataset": "mnist", "data_sha256": "1", "hidden": 250, "seed": 3,
        "epochs": [10, 60], "batch_size": 500, "lr": 0.002, "minibatch": 1000, "draws": 20, **ENVIRONMENT,
        "variances": {"10": 0.5},
    }  # fmt: skip
    run = migrated(tmp_path / "gradient", gradient)
    assert (run.spec.hidden, run.spec.after, run.spec.minibatch, run.spec.draws, run.spec.seed) == (
        250, (10, 60), 1000, 20, 3,
    )  # fmt: skip
    assert (run.spec.training.batch_size, run.spec.training.lr) == (500, 0.002)
    assert run["variances"] == {"10": 0.5}
    regression = {
        "experiment": "linear_relevance", "part": "correlated", "seed": 4, "noise": 0.5, "epochs": 4000, "lr": 0.02,
        "threshold": 3.0, "inputs": 100, "relevant": 10, "examples": 300, "correlation": 0.7, **ENVIRONMENT,
        "methods": {"lasso": 0.5},
    }  # fmt: skip
    run = migrated(tmp_path / "regression", regression)
    wanted = linear_relevance.CorrelatedSpec(
        noise=0.5, epochs=4000, lr=0.02, threshold=3.0, inputs=100, relevant=10, examples=300, correlation=0.7, seed=4
    )
    assert (run.spec, run["methods"]) == (wanted, {"lasso": 0.5})


@pytest.mark.parametrize("name", BAD)
def test_one_bad_record_and_nothing_is_written(tmp_path, name):
    """The one whose history contradicts its settings is named."""
    record, message = BAD[name]
    put(tmp_path, scheme_record(), "a.json")
    put(tmp_path, record, "bad.json")
    (tmp_path / "a.safetensors.xz").write_text("network")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        UserError, match=rf"bad\.json: cannot be migrated: .*{message.removeprefix('cannot be migrated')}"
    ):
        migrate_folder(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": NaN}', '{"seed": 0, "digest": "0"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    put(tmp_path, scheme_record(), "a.json")
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=r"bad\.json: "):
        migrate_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "bad.json"}


def test_two_records_of_one_spec_are_refused(tmp_path):
    """One would replace the other."""
    put(tmp_path, scheme_record(), "a.json")
    put(tmp_path, scheme_record(test_error=0.5), "b.json")
    with pytest.raises(UserError, match=r"a\.json and .*b\.json: both would be mnist-lenet300-sparse-\w{8}-s2\.json"):
        migrate_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}


def test_files_beside_a_record_are_renamed_and_todays_are_left(tmp_path):
    """A record needs no digest, as the oldest have none; the second time nothing is done."""
    put(tmp_path, scheme_record(), "old=3.0-s2.json", digest=False)
    for suffix in (".safetensors.xz", ".onnx"):
        (tmp_path / f"old=3.0-s2{suffix}").write_text(suffix)
    write_record(tmp_path / "benchmark.json", {"columns": {}})
    today = Store(tmp_path).save(scheme_spec(seed=5), {**NUMBERS, "history": []})
    stem = f"mnist-lenet300-sparse-{key_of(scheme_spec())}-s2"
    assert migrate_folder(tmp_path) == {"old=3.0-s2.json": f"{stem}.json"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "benchmark.json", today.path.name, f"{stem}.json", f"{stem}.safetensors.xz", f"{stem}.onnx",
    }  # fmt: skip
    assert (tmp_path / f"{stem}.onnx").read_text() == ".onnx"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert migrate_folder(tmp_path) == {}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_says_what_it_renamed(tmp_path, capsys):
    put(tmp_path, scheme_record())
    migrate.main(migrate.Args(tmp_path))
    assert capsys.readouterr().out == f"old-s2.json -> mnist-lenet300-sparse-{key_of(scheme_spec())}-s2.json\n"
    with pytest.raises(UserError, match="no such folder"):
        migrate.main(migrate.Args(tmp_path / "another"))


def test_every_committed_record_is_where_its_spec_says():
    """It decodes, and its digest is its content's."""
    kinds = {**KINDS, **gradient_variance.KINDS, **linear_relevance.KINDS}
    folders = {path.parent for path in RESULTS.rglob("*.json")}
    runs = [run for folder in folders for run in Store(folder, kinds).runs()]
    assert len(runs) >= 297
    assert [run.path.name for run in runs if run.path != Store(run.path.parent, kinds).path(run.spec)] == []
    for run in runs:
        if isinstance(run.spec, Spec) and not run.diverged:
            assert {row["phase"] for row in run["history"]} <= {"dense", "fit", "fine_tune", "gradual", "lottery"}
    assert mnist_accuracy.STUDY in {run["experiment"] for run in runs}


def test_a_record_of_today_is_not_replaced(tmp_path):
    put(tmp_path, scheme_record(), "a.json")
    (name,) = migrate_folder(tmp_path).values()
    today = (tmp_path / name).read_bytes()
    put(tmp_path, scheme_record(test_error=0.5), "b.json")
    with pytest.raises(UserError, match=rf"b\.json: would replace {name}"):
        migrate_folder(tmp_path)
    assert (tmp_path / name).read_bytes() == today
