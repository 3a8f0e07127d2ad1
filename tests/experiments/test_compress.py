"""A user's own network, from its factory and weights to small files, and every way to give it wrong."""

import dataclasses
import io
import os
import pickle
import shlex
import typing
import warnings

import onnxruntime
import pytest
import safetensors.torch
import torch
import torch.nn.utils.prune
import tyro
from torch import nn

from pyro_vd import NonFiniteError, compress, fit
from pyro_vd.data import load
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.experiments.benchmarks import inference, storage
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.factory import import_factory, load_weights
from pyro_vd.experiments.common.outcomes import PRUNING
from pyro_vd.experiments.common.records import read_record
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.compress import Args, main
from pyro_vd.guides import group_normal_jeffreys
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.metrics import compute_logits, error_rate
from tests.images import write_folder

HERE = __name__


def tiny():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 2)
    )


def two_convolutions():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 2))


def softmin():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Softmin(1), nn.Linear(8, 2))


def depthwise():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.Flatten(), nn.Linear(96, 2))


class Attending(nn.Module):
    """A vision transformer of one block."""

    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(24, 2, batch_first=True), nn.Linear(24, 2)
        self.auxiliary, self.positions = nn.Linear(24, 5), nn.Parameter(torch.ones(8, 24))

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2).reshape(len(x), 8, 24) + self.positions
        x, _ = self.attention(x, x, x)
        return self.head(x.mean(1))


def attending():
    return Attending()


def torch_pruned():
    net = tiny()
    nn.utils.prune.l1_unstructured(net[5], "bias", 1)
    return net


def one_output():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 1))


class DictOfLogits(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x.flatten(1))}


def dict_of_logits():
    return DictOfLogits(192, 2)


def no_weights():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def wide_ranging():
    net = tiny()
    with torch.no_grad():
        net[5].bias.fill_(1e5)
    return net


def needs_arguments(width):
    return tiny()


NUMBER = 3


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "images", train=8, test=4, size=8)
    return tmp_path / "images"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    net = tiny()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def arguments(folder, tmp_path, **changes):
    few = {"epochs": 3, "batch_size": 4, "engine": "eager", "device": "cpu", "factory": f"{HERE}:tiny"}
    return Args(**{**few, "dataset": str(folder), "out": tmp_path / "out", **changes})


def only_run(tmp_path):
    """The run in the folder, which has no other."""
    (run,) = Store(tmp_path / "out").runs()
    return run


def small_net(run, make=tiny):
    return compress.load(run.beside(".safetensors.xz"), make()).eval()


def test_a_network_becomes_small_files_that_agree(folder, weights, tmp_path, capsys):
    main(arguments(folder, tmp_path, checkpoint=weights, threshold=0.0))
    record = only_run(tmp_path)
    split = load(str(folder))
    net = small_net(only_run(tmp_path))
    assert error_rate(compute_logits(net, split.test), split.test.labels) == record["test_error"]
    assert record["deployment"]["forms"]["float32"]["test_error"] == record["test_error"]
    images, _ = split.test.batch(torch.arange(8))
    (logits,) = onnxruntime.InferenceSession(only_run(tmp_path).beside(".onnx")).run(None, {"input": images.numpy()})
    expected = net(images).detach()
    assert (torch.from_numpy(logits) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert 0 < record["nonzero"] < record["weights"] == 6 * 27 + 108
    printed = capsys.readouterr().out
    assert "error before" in printed
    assert str(tmp_path / "out") in printed


def test_the_checkpoints_weights_are_where_it_starts(folder, weights, tmp_path):
    main(arguments(folder, tmp_path, checkpoint=weights))
    net = tiny()
    load_weights(net, weights)
    split = load(str(folder))
    expected = error_rate(compute_logits(net.eval(), split.test), split.test.labels)
    record = only_run(tmp_path)
    assert record["test_error_dense"] == expected
    assert record["protocol"] == "from trained weights"


def test_a_finished_run_is_kept_beside_one_with_other_settings(folder, tmp_path, capsys):
    main(arguments(folder, tmp_path))
    run = only_run(tmp_path)
    before = run.path.read_bytes()
    main(arguments(folder, tmp_path))
    assert "already finished" in capsys.readouterr().out
    main(arguments(folder, tmp_path, lr=0.01))
    assert run.path.read_bytes() == before
    assert sorted(run.spec.main.training.lr for run in Store(tmp_path / "out").runs()) == [0.001, 0.01]


def test_other_images_under_the_same_name_are_refused(folder, tmp_path):
    main(arguments(folder, tmp_path))
    write_folder(tmp_path / "more", train=1, test=1, size=8)
    (tmp_path / "more" / "train" / "light" / "0.png").rename(folder / "train" / "light" / "0.png")
    with pytest.raises(UserError, match=r"holds a run on other data of the same name; choose another --out"):
        main(arguments(folder, tmp_path))


def test_fine_tuning_moves_what_pruning_left(folder, weights, tmp_path, seen):
    """From the same posterior, which is not trained again for another length; what is deployed is tuned."""
    run = {"checkpoint": weights, "threshold": 0.0}
    main(arguments(folder, tmp_path, **run))
    plain = only_run(tmp_path)
    before = small_net(plain).state_dict()
    main(arguments(folder, tmp_path, **run, fine_tune=30))
    (tuned,) = [other for other in Store(tmp_path / "out").runs() if other.path != plain.path]
    assert tuned["test_error_pruned"] == plain["test_error"]
    assert tuned["sparsity_per_layer"] == plain["sparsity_per_layer"]
    rows = [row for row in tuned["history"] if row["phase"] == "fit"]
    assert rows == plain["history"]  # to its seconds
    likelihoods = [row["log_likelihood"] for row in tuned["history"] if row["phase"] == "fine_tune"]
    assert len(likelihoods) == 30
    assert likelihoods[-1] > likelihoods[0]
    net, split = small_net(tuned), load(str(folder))
    assert error_rate(compute_logits(net, split.test), split.test.labels) == tuned["test_error"]
    assert not torch.equal(net.state_dict()["5.weight"], before["5.weight"])


def test_without_shrinking_the_same_posterior_keeps_its_units(folder, tmp_path):
    for shrink in (True, False):
        main(arguments(folder, tmp_path, shrink=shrink, threshold=0.0))
    kept, shrunk = sorted(Store(tmp_path / "out").runs(), key=lambda run: run.spec.shrink)
    assert kept["history"] == shrunk["history"]
    assert kept["test_error"] == shrunk["test_error"]
    assert kept["deployment"]["architecture"] == {"0": [3, 6], "5": [54, 2]}


def test_a_run_that_diverges_says_what_may_help(folder, tmp_path, monkeypatch):
    def diverge(*_, **__):
        raise NonFiniteError("loss is nan at step 3", [])

    monkeypatch.setattr("pyro_vd.fit", diverge)
    for _ in range(2):  # the second time from the record
        with pytest.raises(UserError, match=r"^diverged: loss is nan at step 3; a lower --lr may help$"):
            main(arguments(folder, tmp_path))
        monkeypatch.undo()
    assert only_run(tmp_path).diverged


def test_a_layer_that_shrink_refuses_is_known_before_training(folder, tmp_path, monkeypatch):
    changes = {"factory": f"{HERE}:softmin"}
    monkeypatch.setattr("pyro_vd.fit", None)  # nothing is trained
    with pytest.raises(UserError, match=r"layer '2' \(Softmin\).*; --no-shrink leaves"):
        main(arguments(folder, tmp_path, **changes))
    monkeypatch.undo()
    main(arguments(folder, tmp_path, **changes, shrink=False, size=8, threshold=0.0))
    assert only_run(tmp_path).beside(".onnx").exists()


def test_an_empty_network_leaves_a_record_and_says_why_there_is_no_onnx(folder, tmp_path, capsys):
    main(arguments(folder, tmp_path, epochs=1, threshold=-30.0))
    assert only_run(tmp_path)["compression"] is None
    printed = capsys.readouterr().out
    assert "no ONNX: export: nothing is left of 0, 5; prune less: choose a higher threshold" in printed
    assert "how fast it is" not in printed
    main(arguments(folder, tmp_path, epochs=1, threshold=-30.0))


def test_where_nothing_is_pruned_it_says_so(folder, tmp_path, capsys):
    main(arguments(folder, tmp_path, threshold=30.0, epochs=1))
    assert only_run(tmp_path)["compression"] == 1
    assert "nothing is above the threshold: a lower one, more epochs" in capsys.readouterr().out


HOW = {  # scheme -> threshold, masking in training, factor of the noise's rate
    "sparse": (3.0, True, 1.0),
    "hierarchical": (3.0, True, 1.0),
    "group_normal_jeffreys": (0.0, False, 3.0),
    "group_horseshoe": (3.0, False, 3.0),
    "structured_log_normal": (0.0, False, 3.0),
    "l0": (3.0, True, 10.0),
}


@pytest.fixture
def seen(monkeypatch):
    """The Training of every fit."""
    calls = []

    def watched(model, guide, data, training, **options):
        calls.append(training)
        return fit(model, guide, data, training, **options)

    monkeypatch.setattr("pyro_vd.fit", watched)
    return calls


def test_every_scheme_that_prunes_is_tested():
    assert {*HOW, "ard"} == {*PRUNING}
    assert set(HOW) == set(typing.get_args(typing.get_type_hints(Args)["scheme"]))


@pytest.mark.parametrize("scheme", HOW)
def test_every_scheme_that_prunes_is_trained_in_its_own_way(folder, weights, tmp_path, seen, scheme):
    main(arguments(folder, tmp_path, checkpoint=weights, scheme=scheme))
    run, (threshold, masking, rate) = only_run(tmp_path), HOW[scheme]
    (training,) = seen
    assert run.spec.main.threshold == threshold
    assert training.threshold == run.spec.main.training.threshold == (threshold if masking else None)
    assert set(training.lr_scale.values()) == ({rate} if rate != 1 else set())
    assert "theta" not in training.lr_scale
    assert run.beside(".onnx").exists()


def test_what_is_asked_for_goes_before_the_schemes_own(folder, tmp_path, seen):
    main(arguments(folder, tmp_path, scheme="group_normal_jeffreys", noise_lr=0.5, threshold=2.0))
    phase = only_run(tmp_path).spec.main
    assert (phase.threshold, phase.training.threshold, phase.noise_lr) == (2.0, None, 0.5)
    (training,) = seen
    assert set(training.lr_scale.values()) == {0.5}


def test_the_kl_warms_up_in_the_first_half_and_the_rate_falls_in_the_second(folder, tmp_path):
    main(arguments(folder, tmp_path, epochs=8, kl_weight=0.5))
    training = only_run(tmp_path).spec.main.training
    assert training.kl_schedule == WarmUp(0, 4, 0.5)
    assert training.lr_schedule == HoldThenDecay(4, 8)


def test_units_that_go_make_a_smaller_network(folder, tmp_path, monkeypatch):
    """A channel goes with all that writes and reads it."""

    def but_two(guide, site, threshold):
        mask = torch.ones_like(guide.theta[site], dtype=torch.bool)
        if site == "2.weight":
            mask[:, 2:] = False
        return mask

    monkeypatch.setattr(group_normal_jeffreys.Guide, "keep_mask", but_two)
    main(arguments(folder, tmp_path, factory=f"{HERE}:two_convolutions", scheme="group_normal_jeffreys"))
    record = only_run(tmp_path)
    assert record["deployment"]["architecture"] == {"0": [3, 2], "2": [2, 4], "4": [64, 2]}
    assert record["sparsity_per_layer"] == pytest.approx({"0.weight": 0, "2.weight": 2 / 3, "4.weight": 0})
    net = small_net(only_run(tmp_path), two_convolutions)
    split = load(str(folder))
    assert error_rate(compute_logits(net, split.test), split.test.labels) == record["test_error"]


def test_its_speed_can_be_measured_by_the_command_that_it_prints(weights, tmp_path, capsys):
    folder = tmp_path / "my images"
    write_folder(folder, train=8, test=4, size=10)
    main(arguments(folder, tmp_path, checkpoint=weights, threshold=0.0, size=8))
    said = "how fast it is: python -m pyro_vd.experiments.benchmarks.inference "
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(said)]
    printed = tyro.cli(inference.Args, args=shlex.split(line.removeprefix(said)))
    asked = dataclasses.replace(printed, batches=(1,), rounds=2, turn=0.001, threads=0)
    inference.main(asked)
    record = only_run(tmp_path)
    timed = read_record(record.path.parent / "inference" / record.path.name)
    assert (record.spec.data.size, record["dataset"]) == (8, "my images (8x8)")
    assert timed["errors"]["dense"] == record["test_error_dense"]
    assert timed["errors"]["shrunk"] == timed["errors"]["masked"] == record["test_error"]
    assert timed["macs"]["shrunk"] <= timed["macs"]["dense"] == 36 * 6 * 27 + 108
    for changes, named in (
        ({"factory": None}, f"a network of your own; give --factory {HERE}:tiny"),
        ({"factory": f"{HERE}:one_output"}, f"the record is of {HERE}:tiny"),
        ({"dataset": None}, r"give --dataset, the folder of the images that the record calls my images \(8x8\)"),
        ({"dataset": "digits"}, r"other data than the record's: my images .* is not digits "),
    ):
        with pytest.raises(UserError, match=named):
            inference.main(dataclasses.replace(asked, **changes))
    file = record.beside(".safetensors.xz")
    assert storage.measure(record.path, f"{HERE}:tiny")["bytes"]["gaps, xz"] == file.stat().st_size


def test_a_full_disk_is_named_and_leaves_no_partial_file(folder, tmp_path, monkeypatch, capsys):
    """Once there is room again, the same command goes on from the posterior."""
    out = tmp_path / "out"
    command = ["--factory", f"{HERE}:tiny", "--dataset", str(folder), "--out", str(out), "--epochs", "2"]
    command += ["--engine", "eager", "--device", "cpu"]

    def crowded(path, mode, **options):
        return open("/dev/full" if ".safetensors.xz" in str(path) else path, mode, **options)

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command line changes
    with monkeypatch.context() as patch:
        patch.setattr("pyro_vd.files.open", crowded, raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.run(Args, main, command)
    assert ended.value.code == 6
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {out}/images-tiny-sparse-")
    assert said.endswith("-s0.safetensors.xz: No space left on device")
    assert {path.suffix for path in out.iterdir()} == {"", ".onnx"}  # of the checkpoints' folder
    cli.run(Args, main, command)
    assert only_run(tmp_path).beside(".safetensors.xz").exists()
    assert "0/2" not in capsys.readouterr().err  # epochs


def test_an_interruption_while_exporting_is_made_good(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pyro_vd.experiments.compress.to_onnx", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(arguments(folder, tmp_path))
    main(arguments(folder, tmp_path))
    assert only_run(tmp_path).beside(".onnx").exists()


def test_starting_over_leaves_no_file_of_the_run_before(folder, tmp_path):
    main(arguments(folder, tmp_path))
    run = only_run(tmp_path)
    run.beside(".onnx").write_bytes(b"of before")
    for checkpoint in (tmp_path / "out" / "checkpoints").iterdir():
        checkpoint.write_bytes(b"damaged")
    main(arguments(folder, tmp_path, resume=False))
    assert run.beside(".onnx").read_bytes() != b"of before"


def test_a_parameter_beyond_float16_costs_that_form_only(folder, tmp_path):
    main(arguments(folder, tmp_path, factory=f"{HERE}:wide_ranging"))
    forms = only_run(tmp_path)["deployment"]["forms"]
    assert "float16" not in forms
    assert {"float32", "int8"} <= forms.keys()


def test_other_initial_weights_are_another_run(folder, weights, tmp_path):
    main(arguments(folder, tmp_path, checkpoint=weights))
    main(arguments(folder, tmp_path))
    runs = Store(tmp_path / "out").runs()
    assert len({run.spec.weights for run in runs}) == 2
    assert sorted(run["protocol"] for run in runs) == ["from the factory's weights", "from trained weights"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"factory": "nothing"}, "written package.module:function"),
        ({"factory": ":net"}, "Empty module name"),
        ({"factory": ".relative:net"}, "'package' argument is required"),
        ({"factory": f"{HERE}:no_weights", "shrink": False}, "no parameter was selected"),
        ({"batch_size": 15}, "--batch-size 15 leaves a batch of one of 16 images"),
        ({"factory": "no.such.module:net"}, "No module named 'no'"),
        ({"factory": f"{HERE}:nothing"}, "has no nothing"),
        ({"factory": f"{HERE}:NUMBER"}, "NUMBER is int, not a function"),
        ({"factory": f"{HERE}:needs_arguments"}, r"needs_arguments\(\) missing 1 required"),
        ({"factory": "builtins:dict"}, "returned dict, not an nn.Module"),
        ({"factory": f"{HERE}:one_output"}, r"outputs of shape \(2, 1\) for 2 classes"),
        ({"size": 5}, "does not run on images of"),
        ({"dataset": "nowhere"}, "unknown dataset 'nowhere'"),
        ({"factory": f"{HERE}:dict_of_logits"}, "gives dict, not a tensor of logits"),
        ({"epochs": 0}, "--epochs"),
        ({"fine_tune": -1}, "--fine-tune"),
        ({"lr": -1.0}, "--lr"),
        ({"noise_lr": 0.0}, "--noise-lr"),
        ({"threshold": float("inf")}, "--threshold must be finite"),
        ({"threshold": 1.0, "scheme": "l0"}, "--threshold is not for l0"),
        (
            {"factory": f"{HERE}:torch_pruned"},
            "a weight of '5' is computed from other tensors; call torch.nn.utils.prune",
        ),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(folder, tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        main(arguments(folder, tmp_path, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", [scheme for scheme in HOW if scheme not in ("sparse", "hierarchical")])
@pytest.mark.parametrize("factory", ["attending", "depthwise"])
def test_group_schemes_on_layers_without_units_are_refused_with_advice(folder, tmp_path, factory, scheme):
    """In a line, which names no argument that the command lacks."""
    layer = {"attending": "'attention.in_proj_weight'", "depthwise": "'2.weight'"}[factory]
    advice = "; --scheme sparse and --scheme hierarchical have noise on each weight and take it"
    with pytest.raises(UserError, match=f"^--scheme {scheme}: .*{layer}.*{advice}$") as refusal:
        main(arguments(folder, tmp_path, factory=f"{HERE}:{factory}", scheme=scheme, shrink=False))
    assert "select" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_all_weights_are_counted_and_what_is_dense_or_not_used_is_named(folder, tmp_path, capsys):
    main(arguments(folder, tmp_path, factory=f"{HERE}:attending", threshold=0.0, shrink=False))
    record = only_run(tmp_path)
    assert record["weights"] == 4 * 24 * 24 + 24 * 2
    assert record["total_weights"] == record["weights"] + 8 * 24
    assert record["total_nonzero"] == record["nonzero"] + 8 * 24
    assert (
        f"x of the 2,352 lifted weights, {record['total_weights'] / record['total_nonzero']:.1f}x of all 2,544; dense: "
        "positions; not used and not counted: auxiliary.weight"
    ) in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_made_is_refused_before_training(folder, tmp_path, monkeypatch):
    def trained(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr("pyro_vd.fit", trained)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"--out .*file.*: cannot be written .*; choose another folder"):
            main(arguments(folder, tmp_path, out=out))
    with pytest.raises(UserError, match=r"--out .*: cannot be written \(File name too long\)"):
        main(arguments(folder, tmp_path, out=tmp_path / ("x" * 300)))
    with pytest.raises(AssertionError, match="trained"):
        main(arguments(folder, tmp_path))


def test_a_checkpoint_is_a_regular_file_of_a_possible_size(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_weights(tiny(), tmp_path / "pipe")
    monkeypatch.setattr("pyro_vd.experiments.common.factory.MAX_HEADER_BYTES", 0)
    safetensors.torch.save_file({"a": torch.zeros(1000)}, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"larger than 2,.* bytes"):
        load_weights(tiny(), tmp_path / "weights")


def test_a_file_of_safetensors_may_begin_as_a_pickle_does(tmp_path):
    """Its first byte is the lowest of the header's length: 0x80 or "P" for one file in sixteen."""
    firsts = set()
    for comment in range(0, 400, 8):
        content = safetensors.torch.save(tiny().state_dict(), metadata={"comment": "x" * comment})
        (tmp_path / "weights").write_bytes(content)
        load_weights(tiny(), tmp_path / "weights")
        firsts.add(content[:1])
    assert {b"\x80", b"P"} <= firsts


def saved(value, **options):
    """The bytes of torch.save."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_may_be_of_torch_save(tmp_path, zipped):
    torch.manual_seed(3)
    given, net = tiny().state_dict(), tiny()
    (tmp_path / "weights.pt").write_bytes(saved(given, _use_new_zipfile_serialization=zipped))
    load_weights(net, tmp_path / "weights.pt")
    assert all(torch.equal(value, given[name]) for name, value in net.state_dict().items())


def test_the_same_weights_in_another_format_are_the_same_run(folder, weights, tmp_path):
    torch.save(safetensors.torch.load_file(weights), tmp_path / "weights.pth")
    for path in (weights, tmp_path / "weights.pth"):
        main(arguments(folder, tmp_path, checkpoint=path))
    only_run(tmp_path)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (pickle.dumps({"a": 1}), "not a file of torch.save, or damaged|pickle of other objects"),
        (saved(Harmful()), "a pickle of other objects than tensors, which could run any code; save net.state_dict"),
        (saved(tiny()), "a pickle of other objects than tensors"),
        (b"PK\x03\x04 a torch.save file", "not a file of torch.save, or damaged"),
        (saved(tiny().state_dict())[:500], "not a file of torch.save, or damaged"),
        (saved({"epoch": 3, "state_dict": {}}), "holds a dict with epoch, state_dict, not a state_dict; save net"),
        (saved(torch.zeros(3)), "holds Tensor, not a state_dict; save net"),
        (saved({"0.weight": torch.zeros(6, 3, 3, 3)}), "of another network: no 0.bias|no 1.bias"),
        (b"", "not a safetensors file"),
        (safetensors.torch.save({"0.weight": torch.zeros(6, 3, 3, 3)}), "no 1.bias; no 1.num_batches_tracked"),
        (
            safetensors.torch.save({**tiny().state_dict(), "more": torch.zeros(1)}),
            "of another network: unexpected more",
        ),
        (
            safetensors.torch.save({**tiny().state_dict(), "5.bias": torch.zeros(3)}),
            r"5.bias is \(3,\), expected \(2,\)",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, monkeypatch, content, named):
    """In one line, and no code in it is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(content)
    net = tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=named) as refusal:
        load_weights(net, tmp_path / "weights")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "harm").exists()
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(net, tmp_path / "nothing")


def test_a_factory_is_any_function_that_can_be_imported():
    assert import_factory("pyro_vd.models:LeNet300")().fc1.in_features == 784
