"""A spec is a value: equal specs are one run, and what differs in anything that decides numbers is another."""

import json
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_vd import Training, optim, schedules
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines
from pyro_vd.experiments.common import spec as specs
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.spec import (
    Data,
    Dense,
    FineTune,
    Fit,
    Gradual,
    Lottery,
    Options,
    Spec,
    decode,
    encode,
    key_of,
)

NAMES = st.sampled_from(["a", "b", "lenet300", "my pictures/x"])
COUNTS, SHARES = st.integers(1, 300), st.sampled_from([0.0, 0.1, 0.5, 1, 1.0])
NUMBERS = st.one_of(st.integers(-9, 9), st.floats(-9, 9))
VALUES = st.one_of(NUMBERS, NAMES, st.lists(COUNTS, max_size=2))
OPTIONS = st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=2)), max_size=2).map(Options)
TRAINING = st.builds(
    Training,
    epochs=COUNTS,
    batch_size=COUNTS,
    lr=st.sampled_from([1e-3, 0.1, 1, 1.0]),
    lr_scale=st.dictionaries(NAMES, SHARES, max_size=2),
    lr_schedule=st.one_of(
        st.none(),
        st.builds(schedules.HoldThenDecay, st.integers(0, 3), st.integers(4, 9)),
        st.builds(schedules.Cosine, COUNTS),
    ),
    kl_schedule=st.one_of(
        st.builds(schedules.Constant, SHARES), st.builds(schedules.WarmUp, st.integers(0, 3), COUNTS, SHARES)
    ),
    threshold=st.one_of(st.none(), NUMBERS, st.builds(schedules.Constant, SHARES)),
)
DATA = st.builds(
    Data, name=NAMES, validation=COUNTS, num_train=st.one_of(st.none(), COUNTS), num_test=st.one_of(st.none(), COUNTS),
    shift=COUNTS, augment=st.booleans(), shuffled=SHARES,
)  # fmt: skip
PHASE = st.one_of(
    st.builds(Dense, training=TRAINING, dropout=st.tuples(SHARES, SHARES)),
    st.builds(
        Fit, scheme=NAMES, training=TRAINING, options=OPTIONS, prior=st.one_of(st.none(), NAMES),
        select=st.one_of(st.none(), st.lists(NAMES, max_size=2).map(tuple)), noise_lr=SHARES,
        threshold=st.one_of(st.none(), NUMBERS),
    ),
    st.builds(FineTune, training=TRAINING),
    st.builds(Gradual, sparsity=SHARES, training=TRAINING, start=SHARES, end=SHARES),
    st.builds(Lottery, sparsity=SHARES, training=TRAINING, rounds=COUNTS, extra=COUNTS, hold=SHARES),
)  # fmt: skip
SPEC = st.builds(
    Spec, network=NAMES, data=DATA, phases=st.lists(PHASE, min_size=1, max_size=3).map(tuple), options=OPTIONS,
    weights=st.one_of(st.none(), NAMES), members=COUNTS, num_samples=COUNTS, seed=st.integers(0, 99),
)  # fmt: skip
FIT = Fit(scheme="sparse", training=Training(epochs=3))
PLAIN = Spec(network="lenet300", data=Data(name="mnist"), phases=(FIT,))


@given(SPEC, SPEC)
@settings(max_examples=40, deadline=None)
def test_equal_is_of_the_same_key_and_seed(one, other):
    assert (one == other) == ((key_of(one), one.seed) == (key_of(other), other.seed))


@given(SPEC, st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_field_changes_the_key(spec, data):
    """At any depth, and if and only if the value is another one."""
    other = change(spec, data)
    assert (other == spec) == (key_of(other) == key_of(spec) and other.seed == spec.seed)
    assert key_of(replace(other, seed=spec.seed)) == key_of(other)


def change(spec, data):
    """The spec with a field of it, its data or a phase as in another spec."""
    other = data.draw(SPEC)
    parts = [(spec, other), (spec.data, other.data)]
    parts += [(one, two) for one in spec.phases for two in other.phases if type(one) is type(two)]
    part, source = data.draw(st.sampled_from(parts))
    name = data.draw(st.sampled_from([entry.name for entry in fields(part)]))
    changed = replace(part, **{name: getattr(source, name)})
    if part is spec:
        return changed
    if part is spec.data:
        return replace(spec, data=changed)
    return replace(spec, phases=tuple(changed if phase is part else phase for phase in spec.phases))


@given(SPEC)
@settings(max_examples=40, deadline=None)
def test_a_spec_comes_back_from_json(spec):
    body = json.loads(json.dumps(encode(spec), allow_nan=False))
    again = decode(body)
    assert again == spec
    assert hash(again) == hash(spec)
    assert encode(again) == body
    assert key_of(again) == key_of(spec)


@given(SPEC)
@settings(max_examples=20, deadline=None)
def test_the_order_of_names_is_nothing(spec):
    def turn(value):
        if isinstance(value, dict):
            return {name: turn(part) for name, part in reversed(value.items())}
        return [turn(part) for part in value] if isinstance(value, list) else value

    assert key_of(decode(turn(encode(spec)))) == key_of(spec)


def test_the_key_does_not_hold_the_seed():
    assert {key_of(replace(PLAIN, seed=seed)) for seed in (0, 1, 99)} == {key_of(PLAIN)}
    assert len(key_of(PLAIN)) == specs.KEY_LENGTH


def test_whole_numbers_have_one_spelling():
    assert key_of(replace(PLAIN, data=Data(name="mnist", shift=1.0))) == key_of(
        replace(PLAIN, data=Data(name="mnist", shift=1))
    )
    one, other = (replace(PLAIN, options=Options(scale=scale)) for scale in (2, 2.0))
    assert (one, key_of(one)) == (other, key_of(other))
    zero = replace(FIT, threshold=-0.0)
    assert key_of(replace(PLAIN, phases=(zero,))) == key_of(replace(PLAIN, phases=(replace(zero, threshold=0),)))
    assert zero != FIT  # a threshold of 0 is not none


def golden():
    """Specs of committed records, made anew."""
    mnist, own = Data(name="mnist"), mnist_compress.MOLCHANOV
    changes = {"pretrain": 30, "epochs": 100, "noise_lr": 0.3}
    return {
        "57d069e4": compression_spec(own, "sparse", mnist, "lenet300"),
        "bdd8ca2a": compression_spec(own, "sparse", mnist, "lenet300", changes=changes),
        "9d60ceb1": pruning_baselines.make_spec(pruning_baselines.Args(lr=2e-3), "mnist", "lottery", 0.98),
    }


@pytest.mark.parametrize("key", golden())
def test_keys_are_those_of_the_committed_records(key):
    """They must not change: a record is found by its key."""
    assert key_of(golden()[key]) == key


def test_keys_are_the_same_in_another_process():
    """Whatever the seed of its hashes."""
    code = "from tests.experiments.test_spec import golden, key_of; print(*map(key_of, golden().values()))"
    for seed in ("1", "2"):
        run = [sys.executable, "-c", code]
        root = Path(__file__).parents[2]
        out = subprocess.run(run, cwd=root, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}, capture_output=True)
        assert out.stdout.decode().split() == list(golden()), out.stderr.decode()


def test_what_has_its_default_is_left_out():
    """So a new field changes no key."""
    assert encode(PLAIN) == {
        "kind": "Spec",
        "network": "lenet300",
        "data": {"kind": "Data", "name": "mnist"},
        "phases": [{"kind": "Fit", "scheme": "sparse", "training": {"kind": "Training", "epochs": 3}}],
    }
    training = Training(epochs=3, batch_size=100, lr_scale={})
    written = Fit(scheme="sparse", training=training, noise_lr=1, options=Options())
    assert encode(replace(PLAIN, phases=(written,), members=1, seed=0)) == encode(PLAIN)


def test_defaults_stay_what_they_are():
    """Records leave them out: another default would be another run under the same key."""
    training = Training(epochs=3)
    found = {
        kind: {entry.name: getattr(value, entry.name) for entry in fields(value) if entry.default is not MISSING}
        for kind, value in {
            "Training": training,
            "Data": Data(name="mnist"),
            "Dense": Dense(training=training),
            "Fit": FIT,
            "Gradual": Gradual(sparsity=0.9, training=training),
            "Lottery": Lottery(sparsity=0.9, training=training),
            "Spec": PLAIN,
            "WarmUp": schedules.WarmUp(1, 2),
            "HoldThenDecay": schedules.HoldThenDecay(1, 2),
        }.items()
    }
    one = schedules.Constant(1)
    assert found == {
        "Training": {
            "batch_size": 100, "lr": 1e-3, "lr_schedule": one, "kl_schedule": one, "estimator": "local",
            "threshold": None, "matmul_dtype": "float32", "optimizer": optim.Adam(), "clip_norm": None,
            "micro_batch_size": None,
        },
        "Data": {"validation": 0, "num_train": None, "num_test": None, "shift": 0, "augment": False,
                 "cutout": 8, "shuffled": 0, "size": None},
        "Dense": {"dropout": (0, 0), "smoothing": 0},
        "Fit": {"prior": None, "select": None, "noise_lr": 1, "smoothing": 0, "evaluate_every": 1, "threshold": None,
                "monitors": ()},
        "Gradual": {"start": 0, "end": 0.2},
        "Lottery": {"rounds": 13, "extra": 0, "hold": 0.5},
        "Spec": {"weights": None, "members": 1, "num_samples": 1, "shrink": True, "seed": 0},
        "WarmUp": {"weight": 1},
        "HoldThenDecay": {},
    }  # fmt: skip
    assert (training.lr_scale, FIT.options, PLAIN.options) == ({}, {}, {})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"kind": "Spek"}, "unknown kind of value 'Spek'"),
        ({"kind": "Data", "name": "mnist", "sides": 1}, "Data: got an unexpected keyword argument 'sides'"),
        ({"kind": "Data"}, "Data: missing 1 required keyword-only argument: 'name'"),
        ({"kind": "Training", "epochs": 0}, "epochs=0 must be at least 1"),
        ({"kind": "Training", "epochs": "ten"}, "epochs"),
        ({"kind": "WarmUp", "wait": -1, "ramp": 2}, "wait"),
        ({"kind": "Spec", "phases": [{"kind": "Fit", "scheme": "sparse"}]}, "Fit: missing 1 required"),
    ],
)
def test_what_is_no_spec_is_refused_by_name(body, message):
    with pytest.raises(UserError, match=message):
        decode(body)


@pytest.mark.parametrize(
    "training",
    [
        Training(epochs=1, kl_schedule=lambda epoch: 1.0),
        Training(epochs=1, threshold=schedules.Constant(float("inf"))),
    ],
    ids=["function", "infinity"],
)
def test_what_json_has_not_is_no_part_of_a_spec(training):
    with pytest.raises(UserError, match="cannot be part of a spec"):
        key_of(replace(PLAIN, phases=(replace(FIT, training=training),)))


def test_options_are_a_value():
    options = Options({"b": [1, 2], "a": {"c": 1}}, d=None)
    assert options == Options(d=None, a=Options(c=1.0), b=(1, 2))
    assert hash(options) == hash(Options(d=None, a=Options(c=1.0), b=(1, 2)))
    assert options.plain() == {"a": {"c": 1}, "b": (1, 2), "d": None}
    assert list(options) == ["a", "b", "d"]
    assert repr(Options(scale=0.5)) == "Options({'scale': 0.5})"
    with pytest.raises(TypeError):
        options["a"] = 1


def test_the_main_phase_gives_the_method():
    dense, tune = Dense(training=Training(epochs=1)), FineTune(training=Training(epochs=1))
    gradual, lottery = (kind(sparsity=0.9, training=Training(epochs=1)) for kind in (Gradual, Lottery))
    for phase, method in ((FIT, "sparse"), (gradual, "magnitude"), (lottery, "lottery")):
        spec = replace(PLAIN, phases=(dense, phase, tune))
        assert (spec.main, spec.method) == (phase, method)
    with pytest.raises(UserError, match="Fit, Gradual or Lottery"):
        replace(PLAIN, phases=(dense,)).method  # noqa: B018


def test_a_label_is_the_beginning_of_a_file_name():
    """Of at most 255 bytes with all that follows, whatever the folder of images is called."""
    assert PLAIN.label == "mnist-lenet300-sparse"
    odd = replace(PLAIN, data=Data(name='/my pictures/cats & "dogs".v2'), network="package.module:make_net")
    assert odd.label == "cats____dogs_.v2-make_net-sparse"
    long = replace(PLAIN, data=Data(name="ä" * 127))
    assert len(f"{long.label}-12345678-s12345.safetensors.xz.1234567.1234567.part".encode()) < 255


def test_a_beginning_is_shared():
    """Whatever comes after it, and however much of it is predicted; not between seeds."""
    dense = Dense(training=Training(epochs=1))
    specs = [
        replace(PLAIN, phases=(dense, FIT)),
        replace(PLAIN, phases=(dense, replace(FIT, scheme="l0"), FineTune(training=Training(epochs=9)))),
        replace(PLAIN, phases=(dense, FIT), num_samples=9),
    ]
    assert len({spec.prefix(1) for spec in specs}) == 1
    assert len({spec.prefix(2) for spec in specs}) == 2
    assert specs[0].prefix(1) != replace(specs[0], seed=1).prefix(1)
    assert specs[0].prefix(1) != replace(specs[0], data=Data(name="mnist", shift=1)).prefix(1)


def test_members_have_seeds_of_their_own():
    members = [replace(PLAIN, members=3, num_samples=30, seed=seed).member(i) for seed in (0, 1) for i in range(3)]
    assert [member.seed for member in members] == [0, 1, 2, 3, 4, 5]
    assert {(member.members, member.num_samples) for member in members} == {(1, 1)}
    assert key_of(members[0]) == key_of(PLAIN)
