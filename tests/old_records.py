"""Records of version 0.1, and the specs that they become."""

import json
from dataclasses import replace

from pyro_vd import Training
from pyro_vd.experiments.common.records import DIGEST, digest_of
from pyro_vd.experiments.common.spec import Data, Fit, Options, Spec
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp

ENVIRONMENT = {"torch": "2", "pyro": "1.9", "python": "3.11", "revision": "0", "device": "cpu", "threads": 1}
NUMBERS = {"test_error": 0.02, "compression": 50.0, "diverged": False, "seconds": 9.0}


def rows(epochs, lr, hold, wait=0, ramp=1, weight=1.0, **more):
    """A history of rates that are held and decay, and of KL weights that rise; written out, not by the schedules."""
    decay = [1 if epoch < hold else 1 - (epoch - hold) / (epochs - hold) for epoch in range(epochs)]
    rise = [min(max(epoch - wait, 0) / ramp, 1) for epoch in range(epochs)]
    return [
        {"epoch": epoch, "lr": lr * decay[epoch], "beta": weight * rise[epoch], "seconds": 0.5, **more}
        for epoch in range(epochs)
    ]


def scheme_record(**changes):
    """A run of mnist_compress of version 0.1 by the protocol that was called headline, of 40 epochs."""
    return {
        "experiment": "mnist_compress", "protocol": "variant of headline: epochs=40", "dataset": "mnist",
        "data_sha256": "1", "network": "lenet300", "scheme": "sparse", "prior": "LogUniform", "seed": 2, "epochs": 40,
        "batch_size": 100, "lr": 0.001, "noise_lr": 1.0, "kl_weight": 1.0, "wait": None, "ramp": None, "hold": None,
        "parametrisation": "log_sigma2", "init": None, "threshold": 3.0, "train_masking": True, "pretrain": 0,
        "validation": 0, "mc_samples": 20, **ENVIRONMENT, **NUMBERS,
        "history": rows(40, 0.001, 20, 1, 3, accuracy=0.9, sparsity=0.5), **changes,
    }  # fmt: skip


def scheme_spec(fit=None, training=None, **changes):
    """The spec of ``scheme_record``."""
    schedule = {"lr_schedule": HoldThenDecay(20, 40), "kl_schedule": WarmUp(1, 3)}
    usual = Training(epochs=40, threshold=3.0, **schedule)
    main = Fit(scheme="sparse", training=replace(usual, **training or {}), threshold=3.0)
    plain = Spec(
        network="lenet300", data=Data(name="mnist"), phases=(replace(main, **fit or {}),), num_samples=20, seed=2
    )
    return replace(plain, **changes)


def baseline_record(scheme, history, **changes):
    settings = {"epochs": 20, "pretrain": 5, "batch_size": 100, "lr": 0.002, "hold": 0.5, "validation": 0}
    return {
        "experiment": "pruning_baselines", "protocol": "5 + 20 epochs, lr=0.002", "scheme": scheme, "seed": 1,
        "network": "lenet300", **settings, "dataset": "mnist", "data_sha256": "1", "mc_samples": 1, **ENVIRONMENT,
        **NUMBERS, "history": history, **changes,
    }  # fmt: skip


def row_record(**changes):
    """A run of an experiment with rows and columns."""
    history = rows(10, 0.002, 5, 1, 4, error=0.1)
    # The rate fell to 0 at the epoch after the last.
    for row in history:
        row["lr"] = 0.002 * (1 if row["epoch"] < 5 else 1 - (row["epoch"] - 5) / 6)
    return {
        "experiment": "mnist_accuracy", "protocol": "figure", "row": "Gaussian A", "column": "100 units",
        "scheme": "gaussian_srivastava", "prior": "LogUniform", "options": {"p": {"fc1.weight": 0.2}}, "sites": None,
        "local": True, "kl_weight": 1.0, "epochs": 10, "batch_size": 500, "lr": 0.002, "hold": 0.5, "wait": 0.1,
        "ramp": 0.4, "validation": 0, "seed": 0, "dataset": "mnist", "data_sha256": "1", "mc_samples": 10,
        **ENVIRONMENT, **NUMBERS, "history": history, **changes,
    }  # fmt: skip


def row_spec(fit=None, training=None, **changes):
    schedule = {"lr_schedule": HoldThenDecay(5, 11), "kl_schedule": WarmUp(1, 4)}
    usual = Training(epochs=10, batch_size=500, lr=0.002, **schedule)
    phase = Fit(
        scheme="gaussian_srivastava", training=replace(usual, **training or {}), options=Options(p={"fc1.weight": 0.2})
    )
    plain = Spec(
        network="mlp", options=Options(hidden=(100, 100, 100)), data=Data(name="mnist"),
        phases=(replace(phase, **fit or {}),), num_samples=10,
    )  # fmt: skip
    return replace(plain, **changes)


def put(folder, record, name="old-s2.json", digest=True):
    folder.mkdir(exist_ok=True)
    body = {**record, DIGEST: digest_of(json.loads(json.dumps(record)))} if digest else record
    (folder / name).write_text(json.dumps(body))


BAD = {
    "another rate": (scheme_record(history=rows(40, 0.001, 10, 1, 3)), r"fit, epoch 11: lr 0\.000966667.*give 0\.001"),
    "another warm-up": (scheme_record(history=rows(40, 0.001, 20, 1, 4)), "fit, epoch 2: .*KL weight 0.25; .* 0.333"),
    "another fine-tuning": (
        scheme_record(fine_tune=4, fine_tuning={"history": rows(4, 0.001, 2)}), "fine_tune, epoch 0: .*KL weight 0",
    ),
    "another rate of gradual pruning": (
        baseline_record("magnitude, 99.10%", [{**row, "beta": 1.0} for row in rows(20, 0.002, 4)]), "gradual, epoch 5",
    ),
    "another weight": (row_record(kl_weight=0.5), "fit, epoch 2"),
    "no history": (scheme_record(history=None), "cannot be migrated"),
    "no network": ({key: value for key, value in scheme_record().items() if key != "network"}, "'network'"),
    "an unknown protocol": (scheme_record(protocol="of mine"), "'of mine'"),
    "a folder of images": (scheme_record(dataset="my pictures (28x28)"), "of a folder of images, 'my pictures"),
}  # fmt: skip
"""Records that must be refused, and a pattern of the message."""
