"""Networks that take the sizes of a file, and forged files: refused, or the exact network."""

import copy
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_vd.compress import load, save, shrink
from pyro_vd.errors import CheckpointError
from tests.compress._files import make, pack, saved, unpack
from tests.compress._nets import is_same_state


@pytest.fixture
def path(tmp_path):
    saved(tmp_path / "net")
    return tmp_path / "net"


def test_what_is_packed_again_loads(path):
    """The forging below is what makes it fail."""
    pack(path, *unpack(path))
    loaded = load(path, make())
    assert loaded[0].selected.tolist() == [0, 1, 4, 5]
    assert (loaded[0].weight.shape, loaded[3].weight.shape) == ((3, 4), (3, 3))


def set_note(name, **changes):
    return lambda arrays, body: body["tensors"][name].update(changes)


def set_array(name, change):
    return lambda arrays, body: arrays.update({name: change(arrays.get(name))})


def grow_bias(arrays, body):
    arrays["0.bias.values"] = torch.ones(2)
    body["tensors"]["0.bias"]["shape"] = [2]


def drop_selected(arrays, body):
    del arrays["0.selected.values"], body["tensors"]["0.selected"]
    body["tensors"]["3.selected"] = {"shape": [2], "dtype": "int64"}
    arrays["3.selected.values"] = torch.tensor([0, 1])


def skip_all(arrays, body):
    """As many zeros as there are weights, and more."""
    arrays["0.weight.values"], arrays["0.weight.gaps"] = torch.ones(0), torch.full((99,), 255, dtype=torch.uint8)


def to(value):
    return lambda old: torch.cat([old[:-1], torch.tensor([value], dtype=old.dtype)])


FORGED = {
    "a step that is NaN": (set_note("3.weight", step=math.nan), "an xz file, but not"),
    "a step that is infinite": (set_note("3.weight", step=math.inf), "an xz file, but not"),
    "a step of 0": (set_note("3.weight", step=0.0), "an xz file, but not"),
    "a step that is a truth": (set_note("3.weight", step=True), "an xz file, but not"),
    "a step on floats": (set_note("0.weight", step=0.5), "an xz file, but not"),
    "NaN weights": (set_array("0.weight.values", to(math.nan)), "0.weight holds NaN or infinite"),
    "an infinite average": (set_array("1.running_var.values", to(math.inf)), "1.running_var holds NaN or infinite"),
    "a negative variance": (set_array("1.running_var.values", to(-0.5)), "1.running_var holds negative variances"),
    "a bias beyond the network": (grow_bias, "tensors of '0' are of several sizes"),
    "an input out of range": (set_array("0.selected.values", to(6)), "0.selected are not ascending inputs below 6"),
    "a negative input": (set_array("0.selected.values", to(-1)), "0.selected are not ascending inputs below 6"),
    "an input twice": (set_array("0.selected.values", to(4)), "0.selected are not ascending inputs below 6"),
    "too few inputs": (drop_selected, r"3.selected is \(2,\) beside a weight of shape \(3, 3\)"),
    "inputs that are no integers": (set_note("0.selected", dtype="float32"), "0.selected is .* torch.int64"),
    "a shape far too large": (set_note("0.weight", shape=[2**20, 2**20]), r"0.weight is \(1048576, 1048576\)"),
    "a shape of nothing": (set_note("0.weight", shape=[0, 4]), r"0.weight is \(0, 4\)"),
    "a negative shape": (set_note("0.weight", shape=[-3, -4]), "an xz file, but not"),
    "a shape of fractions": (set_note("0.weight", shape=[3.0, 4]), "an xz file, but not"),
    "a shape of other sizes": (set_note("0.weight", shape=[3, 3]), "0.selected is|of another network|an xz file"),
    "no dtype": (set_note("0.weight", dtype="Tensor"), "an xz file, but not"),
    "a dtype that is a list": (set_note("0.weight", dtype=["float32"]), "an xz file, but not"),
    "another dtype": (set_note("0.weight", dtype="float64"), "torch.float64, expected .* torch.float32"),
    "gaps past the end": (set_array("0.weight.gaps", lambda old: torch.full((12,), 200, dtype=torch.uint8)), "an xz"),
    "gaps of integers": (set_array("0.weight.gaps", lambda old: torch.zeros(12, dtype=torch.int32)), "an xz file"),
    "more gaps than weights": (skip_all, "an xz file, but not"),
    "more values than weights": (set_array("0.weight.values", lambda old: torch.ones(13)), "an xz file, but not"),
    "values of float64": (set_array("0.weight.values", lambda old: old.double()), "an xz file, but not"),
    "an array of no tensor": (set_array("more", lambda old: torch.ones(1)), "an xz file, but not"),
    "a tie to nothing": (lambda arrays, body: body["tensors"].update({"0.weight": {"same": "x"}}), "an xz file, but"),
    "a tie to a tie": (
        lambda arrays, body: body["tensors"].update({"0.weight": {"same": "0.bias"}, "0.bias": {"same": "0.weight"}}),
        "an xz file, but not",
    ),
    "tensors in a list": (lambda arrays, body: body.update(tensors=list(body["tensors"])), "an xz file, but not"),
    "a note that is a number": (lambda arrays, body: body["tensors"].update({"0.weight": 3}), "an xz file, but not"),
}  # fmt: skip


@pytest.mark.parametrize(("forge", "named"), FORGED.values(), ids=FORGED)
def test_what_is_forged_is_refused(path, forge, named):
    arrays, body = unpack(path)
    forge(arrays, body)
    pack(path, arrays, body)
    with pytest.raises(CheckpointError, match=named) as refusal:
        load(path, make())
    assert "\n" not in str(refusal.value)


ODD = [None, True, -1, 0, 1, 3, 2**40, 1e300, math.nan, math.inf, "", "0.weight", "float16", "int64", [], [3], [3, 4],
       [2**40, 2**40], {}, {"same": "1.bias"}, {"shape": [3], "dtype": "float32"}]  # fmt: skip


CHANGES = [
    lambda old: old[:-1], lambda old: torch.cat([old, old]), lambda old: old.float(), lambda old: old.to(torch.uint8),
    lambda old: old[None], lambda old: old.half(), lambda old: old.roll(1), lambda old: -old,
    lambda old: torch.full_like(old, 100),
]  # fmt: skip


def change_somewhere(draw, body):
    """Another value, or none, at a place of a nest of dicts and lists."""
    place = body
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    if draw(st.integers(0, 4)) == 0:
        del place[key]
    else:
        place[key] = copy.deepcopy(draw(st.sampled_from(ODD)))


def loaded_or_refusal(path):
    try:
        return load(path, make()), ""
    except CheckpointError as refusal:
        return None, str(refusal)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_outcome_of_fuzzing_is_a_refusal_or_a_network_that_runs(path, data):
    saved(path)
    arrays, body = unpack(path)
    for _ in range(data.draw(st.integers(1, 2))):
        if data.draw(st.booleans()) and isinstance(body.get("tensors"), dict) and body["tensors"]:
            change_somewhere(data.draw, body)
        else:
            name = data.draw(st.sampled_from(sorted(arrays)))
            arrays[name] = data.draw(st.sampled_from(CHANGES))(arrays[name])
    pack(path, arrays, body)
    loaded, refusal = loaded_or_refusal(path)
    if loaded is None:
        assert "\n" not in refusal
        return
    logits = loaded(torch.randn(2, 6))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


def test_a_larger_network_is_another_one(tmp_path):
    """A file takes no more memory than the network that is filled."""
    save(nn.Sequential(nn.Linear(60, 5)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"0.weight is \(5, 60\) torch.float32, expected \(5, 6\)"):
        load(tmp_path / "net", nn.Sequential(nn.Linear(6, 5)))


def test_what_is_tied_keeps_its_size(tmp_path):
    save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "net")
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    with pytest.raises(CheckpointError, match=r"0.weight is \(2, 2\)"):
        load(tmp_path / "net", net)


def test_a_network_that_is_one_layer_selects_nothing(tmp_path):
    net = nn.Linear(3, 2)
    save(net, tmp_path / "net")
    arrays, body = unpack(tmp_path / "net")
    body["tensors"]["selected"] = {"shape": [3], "dtype": "int64"}
    pack(tmp_path / "net", arrays | {"selected.values": torch.arange(3)}, body)
    with pytest.raises(CheckpointError, match="unexpected selected"):
        load(tmp_path / "net", nn.Linear(3, 2))


def batch_normed(affine=True, kernel=3, dtype=torch.float32):
    return nn.Sequential(nn.Conv2d(2, 4, kernel), nn.BatchNorm2d(4, affine=affine), nn.Conv2d(4, 4, 1, groups=2)).to(
        dtype
    )


@pytest.mark.parametrize("affine", [True, False])
def test_norms_and_groups_come_back(affine, tmp_path):
    net = batch_normed(affine).requires_grad_(False)
    save(net, tmp_path / "net")
    fresh = batch_normed(affine).requires_grad_(False)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    loaded = load(tmp_path / "net", fresh)
    assert is_same_state(loaded.state_dict(), net.state_dict())
    assert repr(loaded) == repr(net)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert is_same_state(before, fresh.state_dict())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: batch_normed(kernel=5), r"0.weight is \(4, 2, 3, 3\)"),
        (lambda: batch_normed(dtype=torch.float64), "expected .* torch.float64"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Conv2d(4, 4, 1, groups=2)), "0.weight is"),
    ],
)
def test_layers_of_another_kind_are_refused(other, named, tmp_path):
    save(batch_normed(), tmp_path / "net")
    with pytest.raises(CheckpointError, match=named):
        load(tmp_path / "net", other())


def test_a_bias_belongs_to_a_layer(tmp_path):
    save(nn.Sequential(nn.LayerNorm(3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"unexpected 0.bias"):
        load(tmp_path / "net", nn.Sequential(nn.LayerNorm(3, bias=False)))


def test_a_whole_convolution_is_no_depthwise_one(tmp_path):
    save(nn.Sequential(nn.Conv2d(5, 5, 3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"0\.weight is \(5, 5, 3, 3\)"):
        load(tmp_path / "net", nn.Sequential(nn.Conv2d(5, 5, 3, groups=5)))


def test_depthwise_convolutions_come_back(tmp_path):
    def make():
        return nn.Sequential(nn.Conv2d(2, 5, 1), nn.Conv2d(5, 5, 3, groups=5), nn.Conv2d(5, 3, 1))

    net = make()
    with torch.no_grad():
        net[2].weight[:, 1:4] = 0
    small = shrink(net, torch.randn(4, 2, 6, 6))
    save(small, tmp_path / "net")
    loaded = load(tmp_path / "net", make())
    assert repr(loaded) == repr(small)
    assert small[1].groups == 2
    assert torch.equal(loaded(torch.ones(1, 2, 6, 6)), small(torch.ones(1, 2, 6, 6)))


def test_biases_that_constants_made_come_back(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))

    net = make()
    with torch.no_grad():
        net[0].weight[0] = 0
        net[0].bias[0] = 1
    inputs = torch.randn(4, 3)
    save(shrink(net, inputs), tmp_path / "net")
    torch.testing.assert_close(load(tmp_path / "net", make())(inputs), net(inputs))
