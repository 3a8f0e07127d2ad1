"""Batches: which examples an epoch has, in which order, and how bytes and datasets are read."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd import Posterior
from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import EagerStep
from tests._asserts import same, values
from tests._pairs import BATCH, FEATURES, STEPS, N, examples, fresh, pair, train


@pytest.mark.parametrize("n", [N - 1, N + 1])
def test_another_number_of_examples_than_n_is_refused(n):
    with pytest.raises(UserError, match=rf"num_data={n}.*{N} examples"):
        train(*pair(n=n))


def test_a_loader_over_another_number_of_examples_is_refused():
    with pytest.raises(UserError, match=rf"num_data={N + 1}.*{N} examples"):
        train(*pair(n=N + 1), DataLoader(TensorDataset(*examples()), batch_size=10))


def test_every_batch_has_the_scale_of_the_whole_set():
    """n / B with B the batch's own size. Kills scaling the last, smaller batch like a full one."""
    model, guide = pair("none")
    x, y = examples()
    net = Posterior(model, guide).mean()
    with torch.no_grad():
        means = [
            -nn.functional.cross_entropy(net(a), b).item() for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)
        ]
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH)
    (row,) = train(model, guide, loader, epochs=1, lr=0.0).history
    assert row["log_likelihood"] == pytest.approx(sum(means) / STEPS, rel=1e-5)
    assert row["kl"] == 0


def test_every_example_is_seen_once_an_epoch_in_a_new_order(monkeypatch):
    seen = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (seen.append(x), step(self, x, y, beta))[1])
    x, _ = examples()
    fresh(epochs=2)
    assert [len(batch) for batch in seen] == [16, 16, 16, 2] * 2
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    for epoch in (first, second):
        assert torch.equal(epoch.sort(dim=0).values, x.sort(dim=0).values)
        assert not torch.equal(epoch, x)
    assert not torch.equal(first, second)


def test_a_loader_with_larger_batches_than_there_are_examples_compiles(quick_compiler):
    loader = DataLoader(TensorDataset(*examples()), batch_size=2 * N)
    assert fresh(loader, engine="compiled").engine == "compiled"
    assert len(quick_compiler) == 1


def test_a_pair_of_tensors_and_examples_are_the_same_data():
    x, y = examples()
    assert same(values(fresh((x, y))), values(fresh(LabeledImages(x, y))))


def test_bytes_are_scaled():
    x, y = examples()
    pixels = (x - x.min()).mul(20).clamp(0, 255).to(torch.uint8)
    assert same(values(fresh(LabeledImages(pixels, y))), values(fresh((pixels.float() / 255, y))))


def test_bytes_that_nobody_calls_images_are_refused():
    """Tokens, and images of a network that scales by itself, were divided by 255 without a word."""
    x, y = torch.randint(0, 256, (N, FEATURES), dtype=torch.uint8), examples()[1]
    with pytest.raises(UserError, match=r"uint8; give LabeledImages\(x, y\) for images.*x\.long\(\) for tokens"):
        fresh((x, y))
    with pytest.raises(UserError, match="uint8"):
        fresh((x.numpy(), y.numpy()))


def test_a_loader_brings_its_own_batches(monkeypatch):
    sizes = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (sizes.append(len(x)), step(self, x, y, beta))[1])
    loader = DataLoader(TensorDataset(*examples()), batch_size=20, shuffle=True)
    posterior = fresh(loader, epochs=12, lr=0.1, batch_size=7, kl_schedule=lambda _: 0.01)
    assert sizes[:3] == [20, 20, 10]
    assert posterior.history[-1]["loss"] < 0.5 * posterior.history[0]["loss"]
