"""The VGG's experiment end to end, at a sixteenth of its widths on digits."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from pyro_vd import compress
from pyro_vd.data import LabeledImages
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import UserError
from pyro_vd.experiments import cifar_compress
from pyro_vd.experiments.cifar_compress import FULL, SHORT, Args
from pyro_vd.experiments.common import compression
from pyro_vd.experiments.common.published import PUBLISHED, published_for
from pyro_vd.experiments.common.training import make_pair
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import VGG


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("cifar_compress")
    args = Args(
        dataset="digits", protocol="full", scale=1 / 16, scheme=("sparse",), epochs=2, pretrain=1, lr=0.01,
        device="cpu", num_samples=1, engine="eager", out=out,
    )  # fmt: skip
    cifar_compress.main(args)
    (path,) = out.glob("*.json")
    return args, path, json.loads(path.read_text())


def test_the_record_says_what_ran(done):
    _, _, record = done
    assert (record["experiment"], record["network"]) == ("cifar_compress", "vgg x 0.0625")
    assert record["dataset"] == "digits (3 channels) (32x32)"
    assert record["protocol"].startswith("variant of full: dataset=digits, epochs=2, lr=0.01")
    assert (record["pretrain"], record["augment"], record["epochs"]) == (1, False, 2)
    assert record["weights"] == sum(w.numel() for w in VGG(10, 1 / 16).parameters() if w.ndim > 1)
    assert record["nonzero"] < record["weights"]
    assert published_for(record) == []


def test_the_file_beside_it_is_the_network_of_its_error(done):
    args, path, record = done
    test = cifar_compress.prepared(args).test
    net = compress.load(path.with_suffix(".safetensors.xz"), VGG(10, 1 / 16)).eval()
    assert error_rate(compute_logits(net, test), test.labels) == record["test_error"]


def test_running_averages_are_the_pruned_networks(done):
    """Training averaged over noisy activations of unpruned weights; the mean at another threshold has others."""
    args, path, record = done
    split = cifar_compress.prepared(args)
    (checkpoint,) = (args.out / "checkpoints").glob(f"{path.stem}-????????.json")  # not pretraining's
    posterior = make_pair(VGG(10, 1 / 16), "sparse", split).load(checkpoint.with_suffix(""))
    inputs = cifar_compress.table(args, split, torch.device("cpu")).inputs
    errors = [
        error_rate(compute_logits(net, split.test), split.test.labels)
        for net in (posterior.mean(posterior.masks(3.0), inputs), posterior.mean(posterior.masks(3.0)))
    ]
    assert record["test_error"] == errors[0] != errors[1]
    at_minus_2 = posterior.mean(posterior.masks(-2.0), inputs)
    assert record["curve"][0]["error"] == error_rate(compute_logits(at_minus_2, split.test), split.test.labels)
    unpruned = posterior.mean(inputs=inputs)
    assert record["test_error_unpruned"] == error_rate(compute_logits(unpruned, split.test), split.test.labels)


def test_running_averages_are_of_all_classes_where_data_are_sorted(monkeypatch):
    args = Args(dataset="digits", protocol="full")
    split = cifar_compress.prepared(args)
    order = split.train.labels.argsort()
    split = replace(split, train=LabeledImages(split.train.images[order], split.train.labels[order]))
    monkeypatch.setattr(compression, "NUM_AVERAGED_IMAGES", 200)
    inputs = cifar_compress.table(args, split, torch.device("cpu")).inputs
    labels = {image.numpy().tobytes(): int(y) for image, y in zip(split.train.images, split.train.labels, strict=True)}
    assert len(inputs) == 200
    assert len({labels[image.numpy().tobytes()] for image in inputs}) == 10


def test_a_finished_run_is_kept(done, capsys):
    args, path, _ = done
    before = path.read_bytes()
    cifar_compress.main(args)
    assert path.read_bytes() == before
    assert "already finished" in capsys.readouterr().out


def test_the_short_protocol_takes_a_part_and_augmentation_is_of_training_alone(monkeypatch):
    full = cifar_compress.prepared(Args(dataset="digits", protocol="full"))
    monkeypatch.setattr(cifar_compress, "SHORT_TRAIN", 30)
    monkeypatch.setattr(cifar_compress, "SHORT_TEST", 20)
    short = cifar_compress.prepared(Args(dataset="digits", augment=True))
    assert (len(short.train), len(short.test)) == (30, 20) != (len(full.train), len(full.test))
    assert isinstance(short.train, AugmentedImages)
    assert not isinstance(short.test, AugmentedImages)
    assert not isinstance(full.train, AugmentedImages)
    held = cifar_compress.prepared(Args(dataset="digits", protocol="full", validation=200))
    assert (len(held.train), len(held.test)) == (1238, 200)


def test_augmentation_and_length_are_in_a_runs_name():
    def name(**changes):
        args = Args(dataset="digits", **changes)
        table = cifar_compress.table(args, cifar_compress.prepared(args), torch.device("cpu"))
        return compression.settings_of(table, "sparse", 0)["protocol"]

    assert name() == "variant of short: dataset=digits"
    assert name(augment=True) == "variant of short: augment=True, dataset=digits"
    assert name(protocol="full", epochs=FULL.epochs) == "variant of full: dataset=digits"
    assert name(epochs=SHORT.epochs + 1) == f"variant of short: dataset=digits, epochs={SHORT.epochs + 1}"


def test_published_rows_are_for_the_whole_of_cifar():
    beside = partial(dict, network=cifar_compress.network(0.5))
    rows = published_for(beside(dataset="cifar10 (JPEG)"))
    assert [(row.scheme, row.error, row.compression) for row in rows] == [("none", 0.082, 1.0), ("sparse", 0.085, 13.7)]
    assert published_for(beside(dataset="cifar10 (5,000 and 2,000 images)")) == []
    networks = {row.network for row in PUBLISHED if row.network.startswith("vgg")}
    assert networks == {cifar_compress.network(scale) for scale in (0.25, 0.5, 1.0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "shrt"}, "did you mean 'short'"),
        ({"scheme": ("sprase",)}, "did you mean 'sparse'"),
        ({"scale": 0.0}, "--scale must lie between 1/64 and 100"),
        ({"scale": 1e30}, "--scale must lie between 1/64 and 100"),
        ({"scale": float("nan")}, "--scale must lie between 1/64 and 100"),
        ({"scheme": ()}, "--scheme needs at least one name"),
        ({"protocol": "full", "batch_size": 3}, "--batch-size 3 leaves a batch of one of 1438 images"),
        ({"batch_size": 1}, "--batch-size 1 leaves a batch of one"),
    ],
)
def test_bad_input_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        cifar_compress.main(Args(dataset="digits", out=tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []
