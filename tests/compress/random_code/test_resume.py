"""Checkpoints of encode_posterior: an interrupted call goes on to the same file, and others are refused."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd.compress import encode_posterior
from pyro_vd.compress.random_code.encoder import Encoder
from pyro_vd.errors import CheckpointError
from tests.compress._nets import is_same_state
from tests.compress.random_code._pairs import Tied, encode, examples, make, untrained


def run_interrupted(run, folder, monkeypatch, epochs):
    """Calls ``run`` with a checkpoint. The epoch with this number ends as with Ctrl-C, and so does the call."""
    train_epoch = Encoder.train_epoch

    def interrupted(encoder, batches):
        if len(encoder.history) == epochs:
            raise KeyboardInterrupt
        train_epoch(encoder, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=folder / "code")


@pytest.mark.parametrize("done", [1, 3])
@pytest.mark.parametrize("kind", ["all random", "with points"])
def test_an_interrupted_call_goes_on_to_the_same_file(monkeypatch, tmp_path, kind, done):
    def run(**options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is trained too little
            if kind == "all random":
                return encode(untrained(), epochs=4, coding_epochs=2, **options)
            posterior = untrained(Tied(), select=["z.weight", "out.weight", "out.bias"])
            return encode(posterior, 300, epochs=4, coding_epochs=2, bits=12, **options)

    expected = run()
    run_interrupted(run, tmp_path, monkeypatch, done)
    resumed = run(checkpoint=tmp_path / "code")
    assert resumed.content == expected.content
    assert resumed.history == expected.history
    assert resumed.kl_bits == expected.kl_bits
    assert is_same_state(resumed.net.state_dict(), expected.net.state_dict())
    monkeypatch.setattr(Encoder, "train_epoch", lambda *_: pytest.fail("it is done"))
    assert run(checkpoint=tmp_path / "code").content == expected.content


def test_a_parameter_that_no_gradient_reaches_can_be_resumed(monkeypatch, tmp_path):
    net = make()
    net.unused = nn.Parameter(torch.ones(3))

    def run(**options):
        return encode(untrained(copy.deepcopy(net), select=["0.weight"], init=-4.0), 500, epochs=3, **options)

    expected = run()
    run_interrupted(run, tmp_path, monkeypatch, 2)
    assert run(checkpoint=tmp_path / "code").content == expected.content


def test_a_loader_goes_on_with_its_order(monkeypatch, tmp_path):
    def run(**options):
        torch.manual_seed(4)
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(TensorDataset(*examples()), batch_size=100, shuffle=True, generator=generator)
        options |= {"epochs": 3, "coding_epochs": 2, "bits": 8, "progress": False}
        return encode_posterior(untrained(init=-4.0), loader, 150, **options)

    expected = run()
    run_interrupted(run, tmp_path, monkeypatch, 2)
    assert run(checkpoint=tmp_path / "code").content == expected.content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.01}, r"lr was 0\.02, is 0\.01"),
        ({"size": 160}, "size was 150, is 160"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"posterior": {"init": -5.0}}, "posterior was"),
        ({"posterior": {"net": nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))}}, "network was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    encode(untrained(init=-4.0), checkpoint=tmp_path / "code")
    posterior = untrained(**{"init": -4.0} | change.pop("posterior", {}))
    with pytest.raises(CheckpointError, match=f"of another run .*{message}"):
        encode(posterior, **{"size": 150} | change, checkpoint=tmp_path / "code")


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    x, y = examples()
    how = {"epochs": 1, "coding_epochs": 1, "bits": 8, "progress": False, "checkpoint": tmp_path / "code"}
    encode_posterior(untrained(init=-4.0), (x, y), 150, **how)
    with pytest.raises(CheckpointError, match="data was"):
        encode_posterior(untrained(init=-4.0), (x + 1, y), 150, **how)


def test_a_checkpoint_of_fit_is_refused(tmp_path):
    posterior = untrained(init=-4.0)
    pyro_vd.fit(posterior.model, posterior.guide, examples(), epochs=1, checkpoint=tmp_path / "fit", progress=False)
    with pytest.raises(CheckpointError, match="not a checkpoint of encode_posterior"):
        encode(posterior, checkpoint=tmp_path / "fit")


def test_others_refuse_its_checkpoint(tmp_path):
    posterior = untrained(init=-4.0)
    encode(posterior, checkpoint=tmp_path / "code")
    with pytest.raises(CheckpointError, match="code: not written by fit; choose another checkpoint"):
        pyro_vd.fit(posterior.model, posterior.guide, examples(), epochs=1, checkpoint=tmp_path / "code")
    with pytest.raises(CheckpointError, match=r"code: holds no posterior, as files of Posterior\.save and fit do"):
        posterior.load(tmp_path / "code")
