"""The VGG's experiment end to end, at a 64th of its widths on digits."""

from dataclasses import replace

import pytest
import torch

from pyro_vd import compress
from pyro_vd.errors import UserError
from pyro_vd.experiments import cifar_compress
from pyro_vd.experiments.cifar_compress import FULL, SHORT, Args, make_data
from pyro_vd.experiments.common import compression
from pyro_vd.experiments.common.compression_tables import network_name, published_results
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.phases import averaged_inputs
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.spec import Data, Dense, Options, key_of
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import VGG

SCALE = 1 / 64


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("cifar_compress")
    args = Args(
        dataset="digits", protocol="full", scale=SCALE, scheme=("sparse",), epochs=2, pretrain=1, lr=0.01,
        device="cpu", num_samples=1, engine="eager", batch_size=500, out=out,
    )  # fmt: skip
    cifar_compress.main(args)
    (run,) = Store(out).runs()
    split = load_images(run.spec.data, VGG(), None)
    return args, run, split


def test_the_record_says_what_ran(done):
    _, run, _ = done
    spec = run.spec
    assert (run["experiment"], network_name(run)) == ("cifar_compress", f"vgg x {SCALE}")
    assert (spec.network, spec.options, spec.data) == ("vgg", Options(scale=SCALE), Data(name="digits"))
    assert run["dataset"] == "digits (3 channels) (32x32)"
    assert (run["protocol"], run["changes"]) == ("full", {"epochs": 2, "pretrain": 1, "lr": 0.01, "batch_size": 500})
    assert spec.phases[0].dropout == FULL.dropout == (0.0, 0.3)
    assert run["weights"] == sum(w.numel() for w in VGG(10, SCALE).parameters() if w.ndim > 1)
    assert published_results(run) == []


def test_the_file_beside_it_is_the_network_of_its_error(done):
    _, run, split = done
    net = compress.load(run.beside(".safetensors.xz"), VGG(10, SCALE)).eval()
    assert error_rate(compute_logits(net, split.test), split.test.labels) == run["test_error"]


def test_running_averages_are_the_pruned_networks(done):
    """Training averaged over noisy activations of unpruned weights; the mean at another threshold has others."""
    args, run, split = done
    (checkpoint,) = (args.out / "checkpoints").glob("2-phases-*.json")
    pair = make_pair(network_maker(run.spec)(10), run.spec.main, len(split.train))
    posterior = pair.load(checkpoint.with_suffix(""))
    inputs = averaged_inputs(split)
    masks = posterior.masks(3.0)
    own, other = posterior.mean(masks, inputs), posterior.mean(masks)
    assert run["test_error"] == error_rate(compute_logits(own, split.test), split.test.labels)
    averages = [net.state_dict() for net in (own, other)]
    name = next(name for name in averages[0] if name.endswith("running_mean"))
    assert not torch.equal(averages[0][name], averages[1][name])
    unpruned = posterior.mean(inputs=inputs)
    assert run["test_error_unpruned"] == error_rate(compute_logits(unpruned, split.test), split.test.labels)
    at_minus_2 = posterior.mean(posterior.masks(-2.0), inputs)
    assert run["curve"][0]["error"] == error_rate(compute_logits(at_minus_2, split.test), split.test.labels)


def test_a_finished_run_is_kept(done, capsys):
    args, run, _ = done
    before = run.path.read_bytes()
    cifar_compress.main(args)
    assert run.path.read_bytes() == before
    assert "already finished" in capsys.readouterr().out


def test_the_short_protocol_takes_a_part():
    assert make_data("cifar10", SHORT) == Data(name="cifar10", num_train=5000, num_test=2000)
    assert make_data("cifar10", FULL, True, 100) == Data(name="cifar10", augment=True, validation=100)


@pytest.mark.parametrize("change", [{"scale": 0.5}, {"augment": True}, {"protocol": "full"}, {"validation": 9}])
def test_another_network_or_other_images_are_another_run(change):
    def make(**changes):
        args = Args(dataset="digits", scheme=("sparse",), **changes)
        protocol = cifar_compress.PROTOCOLS[args.protocol]
        data = make_data("digits", protocol, args.augment, args.validation)
        return compression.make_specs(args, protocol, data, "vgg", Options(scale=args.scale))[0]

    assert key_of(make(**change)) != key_of(make())
    assert key_of(make(epochs=SHORT.epochs)) == key_of(make())


def test_warm_ups_take_half_of_the_run_and_longer():
    assert (FULL.kl_schedule.wait, FULL.kl_schedule.ramp) == (5, 95)
    assert (SHORT.kl_schedule.wait, SHORT.kl_schedule.ramp) == (2, 18)


def test_published_rows_are_for_the_whole_of_cifar(tmp_path):
    spec = compression_spec(FULL, "sparse", Data(name="cifar10"), "vgg", options=Options(scale=0.5))
    run = Run(spec, {"dataset": "cifar10 (JPEG)"}, tmp_path)
    rows = {(row.method, row.values["error"], row.values["compression"]) for row in published_results(run)}
    assert rows >= {("none", 0.082, 1.0), ("sparse", 0.085, 13.7)}
    assert published_results(replace(run, record={"dataset": "cifar10 (5,000 and 2,000 images)"})) == []
    other = replace(spec, options=Options(scale=0.3))
    assert published_results(replace(run, spec=other)) == []
    assert any(isinstance(phase, Dense) for phase in spec.phases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
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
        cifar_compress.main(Args(**{"dataset": "digits", "scale": SCALE, "device": "cpu", "out": tmp_path, **changes}))
    assert list(tmp_path.iterdir()) == []
