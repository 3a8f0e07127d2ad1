"""Encoder: the checks of its data before the first step, and its learning rate."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd.compress import encode_posterior
from pyro_vd.compress.random_code.encoder import Encoder
from pyro_vd.errors import UserError
from tests.compress.random_code._pairs import NUM, encode, examples, untrained


class Announced:
    """Four batches of indices, and a length that is given."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(torch.arange(NUM).split(100))


@pytest.mark.parametrize(("length", "found"), [(9, "4"), (3, "more than 3")])
def test_a_loader_whose_length_is_wrong_is_refused(length, found):
    """Blocks that are due in batches that do not come would not be in the file, which another network would be of."""
    loader = DataLoader(TensorDataset(*examples()), batch_sampler=Announced(length))
    how = {"epochs": 1, "coding_epochs": 1, "bits": 8, "progress": False}
    with pytest.raises(UserError, match=f"the loader yields {found} batches, but says that it has {length}"):
        encode_posterior(untrained(init=-4.0), loader, 150, **how)
    loader = DataLoader(TensorDataset(*examples()), batch_sampler=Announced(4))
    assert len(encode_posterior(untrained(init=-4.0), loader, 150, **how).content) <= 150


def test_data_of_another_length_are_refused():
    with pytest.raises(UserError, match="num_data=400, but there are 399"):
        encode_posterior(untrained(), tuple(part[1:] for part in examples()), 150, progress=False)


def test_a_loss_that_is_not_finite_is_refused():
    x, y = examples()
    with pytest.raises(UserError, match="the loss is not finite in epoch 0; lower lr"):
        encode_posterior(untrained(), (x / 0, y), 150, epochs=1, coding_epochs=1, bits=8, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), r"y\[0\] is 3, .* give y - 1"),
        (lambda x, y: (x.double(), y), r"give x\.float\(\)"),
        (lambda x, y: (x, y + 0.5), r"y\[0\] is 2\.5"),
    ],
)
def test_data_that_fit_refuses_are_refused_before_the_first_step(monkeypatch, change, message):
    monkeypatch.setattr(Encoder, "_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(UserError, match=message):
        encode_posterior(untrained(), change(*examples()), 150, epochs=1, coding_epochs=1, bits=8, progress=False)


def test_the_learning_rate_falls_linearly(monkeypatch):
    rates = []
    step = Encoder._step

    def note(encoder, *arguments):
        rates.append([group["lr"] for group in encoder.optimizer.param_groups])
        return step(encoder, *arguments)

    monkeypatch.setattr(Encoder, "_step", note)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is trained too little
        encode(untrained(), epochs=2, coding_epochs=1, lr=0.08)
    assert [rate for rate, _ in rates] == pytest.approx([0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01])
    assert all(noise == pytest.approx(3 * rate) for rate, noise in rates)


def test_labels_of_a_later_batch_are_refused():
    x, y = examples()
    y[-1] = 3
    loader = DataLoader(TensorDataset(x, y), batch_size=100)
    with pytest.raises(UserError, match=r"y\[99\] is 3, which Categorical cannot give"):
        encode_posterior(untrained(), loader, 150, epochs=1, coding_epochs=1, bits=8, progress=False)
