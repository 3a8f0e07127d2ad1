"""What fit trains on: loaders, datasets and arrays, counted, converted or refused, and resumed where they stopped."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pyro_vd import fit_seeds
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.engine import EagerStep
from tests._asserts import on_disk, same, untimed, values
from tests._pairs import BATCH, N, examples, interrupt_at, pair, train


def trained(data, n=N, net=None, **arguments):
    return train(*pair(net=net, n=n), data, **{"epochs": 1, **arguments})


def dataset(n=N):
    return TensorDataset(*examples(n))


@pytest.fixture
def batches(monkeypatch):
    """The inputs of all steps."""
    seen = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (seen.append(x.clone()), step(self, x, y, beta))[1])
    return seen


# --- how many examples an epoch yields


class EveryThird(Sampler):
    """A sampler of the user's own."""

    def __iter__(self):
        return iter(range(0, N, 3))

    def __len__(self):
        return len(range(0, N, 3))


class Unsized(Sampler):
    def __iter__(self):
        return iter(range(20))


class Batched(Sampler):
    """A batch sampler of the user's own, with batches of two sizes."""

    def __iter__(self):
        yield from ([0, 1, 2], [3, 4], [5, 6, 7])

    def __len__(self):
        return 3


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(zip(*examples(self.n), strict=True))


YIELDS = {
    "subset sampler": (lambda: DataLoader(dataset(), BATCH, sampler=SubsetRandomSampler(range(15))), 15),
    "weighted sampler": (lambda: DataLoader(dataset(), BATCH, sampler=WeightedRandomSampler(torch.ones(N), 70)), 70),
    "own sampler": (lambda: DataLoader(dataset(), BATCH, sampler=EveryThird()), 17),
    "sampler of no length": (lambda: DataLoader(dataset(), BATCH, sampler=Unsized()), 20),
    "batch sampler": (
        lambda: DataLoader(dataset(), batch_sampler=BatchSampler(SubsetRandomSampler(range(9)), 4, False)), 9
    ),
    "batch sampler that drops": (
        lambda: DataLoader(dataset(), batch_sampler=BatchSampler(SequentialSampler(range(9)), 4, True)), 8
    ),
    "own batch sampler": (lambda: DataLoader(dataset(), batch_sampler=Batched()), 8),
    "subset": (lambda: DataLoader(Subset(dataset(), range(11)), BATCH, shuffle=True), 11),
    "in order, without the last": (lambda: DataLoader(dataset(), BATCH, drop_last=True), 48),
    "stream": (lambda: DataLoader(Stream(33), BATCH), 33),
    "no batches": (lambda: DataLoader(TensorDataset(*(part[None] for part in examples())), batch_size=None), N),
}  # fmt: skip


@pytest.mark.parametrize("name", list(YIELDS))
def test_n_is_what_an_epoch_yields(name, batches):
    """The size of the dataset behind it is refused: it would weigh the data several times."""
    make, count = YIELDS[name]
    posterior = trained(make(), n=count, epochs=2)
    assert sum(map(len, batches)) == 2 * count
    assert len(posterior.history) == 2
    with pytest.raises(UserError, match=rf"{count} examples") as caught:
        trained(make(), n=count + 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in YIELDS if name.split()[-1] not in ("length", "stream", "batches")])
def test_a_count_that_is_known_is_compared_before_the_first_step(name, batches):
    make, count = YIELDS[name]
    if name != "own batch sampler":
        with pytest.raises(
            UserError, match=f"num_data={N + 1}, but an epoch of the DataLoader yields {count} examples"
        ):
            trained(make(), n=N + 1)
        assert batches == []


def test_a_shuffled_loader_that_drops_the_last_batch_may_count_all(batches):
    """It leaves out others in every epoch."""
    for n in (N, 48):
        trained(DataLoader(dataset(), BATCH, shuffle=True, drop_last=True), n=n)
    assert sum(map(len, batches)) == 96
    with pytest.raises(UserError, match="yields 48 examples"):
        trained(DataLoader(dataset(), BATCH, shuffle=True, drop_last=True), n=49)


class Lying(Sampler):
    """Announces more, or fewer, than it yields."""

    def __init__(self, announced, yielded):
        self.announced, self.yielded = announced, yielded

    def __iter__(self):
        return iter(range(self.yielded))

    def __len__(self):
        return self.announced


@pytest.mark.parametrize(("announced", "yielded"), [(30, 10), (30, 29), (30, 31), (30, 0)])
def test_what_came_is_counted(announced, yielded, tmp_path):
    loader = DataLoader(dataset(), 10, sampler=Lying(announced, yielded))
    message = rf"yielded {yielded} examples in epoch 0, but {announced} were expected"
    with pytest.raises(UserError, match=message):
        trained(loader, n=announced, checkpoint=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_runs_dry_is_noticed():
    """An iterator that is used up yields nothing in the second epoch."""
    once = iter(Stream(N))
    stream = type("Once", (Stream,), {"__iter__": lambda self: once})(N)
    with pytest.raises(UserError, match="yielded 0 examples in epoch 1"):
        trained(DataLoader(stream, BATCH), epochs=2)


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(dataset(), BATCH, sampler=SubsetRandomSampler([])),
        lambda: DataLoader(dataset(), 100, drop_last=True),
    ],
)
def test_an_empty_loader_is_refused(loader):
    with pytest.raises(UserError, match="the DataLoader is empty"):
        trained(loader())


# --- what is converted, what is refused


def test_arrays_are_tensors():
    """Of floating-point numbers in PyTorch's default dtype, as a network has it."""
    x, y = examples()
    expected = values(trained((x, y)))
    for pair_of_arrays in ((x.numpy(), y.numpy()), [x.double().numpy(), y.numpy()], (x.numpy(), y)):
        assert same(expected, values(trained(pair_of_arrays)))
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    assert same(expected, values(trained((frozen, y.numpy()))))


class Items(Dataset):
    """A dataset of the user's own: a tensor and a Python number."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        x, y = examples()
        return x[index], int(y[index])


@pytest.mark.parametrize("data", [dataset(), Items(), Subset(dataset(), range(N))], ids=lambda d: type(d).__name__)
def test_a_dataset_is_its_pairs(data):
    """In the same order as tensors, so it resumes as they do and serves fit_seeds."""
    assert same(values(trained(examples())), values(trained(data)))
    posteriors = fit_seeds(
        lambda: pair(seed=1), data, seeds=[0, 1], epochs=1, batch_size=BATCH, engine="eager", progress=False
    )
    assert not same(*map(values, posteriors))


def mapping(batch):
    return {"x": torch.stack([x for x, _ in batch]), "y": torch.stack([y for _, y in batch])}


def triple(batch):
    x, y = torch.utils.data.default_collate(batch)
    return x, y, torch.ones(len(x))


def arrays(batch):
    return [part.numpy() for part in torch.utils.data.default_collate(batch)]


def uneven(batch):
    x, y = torch.utils.data.default_collate(batch)
    return x, y[:-1]


def test_a_loader_of_arrays_is_one_of_tensors():
    assert same(*(values(trained(DataLoader(dataset(), BATCH, collate_fn=f))) for f in (None, arrays)))


x, y = examples()
REFUSED = {
    "dicts": (lambda: DataLoader(dataset(), collate_fn=mapping), "a batch of the DataLoader is a dict"),
    "three": (lambda: DataLoader(dataset(), collate_fn=triple), "a batch of the DataLoader is a tuple of 3"),
    "inputs alone": (lambda: DataLoader(x), "a batch of the DataLoader is a Tensor"),
    "uneven batches": (lambda: DataLoader(dataset(), 10, collate_fn=uneven), "has 10 inputs x but 9 targets y"),
    "longer x": (lambda: (x, y[:-1]), "has 50 inputs x but 49 targets y"),
    "longer y": (lambda: (x[:-1], y), "has 49 inputs x but 50 targets y"),
    "no examples": (lambda: (x[:0], y[:0]), "has no examples"),
    "numbers": (lambda: (1.0, 2.0), "x of the training set is a float"),
    "0-dim": (lambda: (x, torch.tensor(1)), "y of the training set is a Tensor"),
    "words": (lambda: (x, np.array(["a"] * N)), "y of the training set is an array of <U1"),
    "objects": (lambda: (x, np.array([None] * N)), "y of the training set is an array of object"),
    "a tensor": (lambda: x, "the training set is a Tensor; give a pair"),
    "a dict": (lambda: {"x": x, "y": y}, "the training set is a dict; give a pair"),
    "three tensors": (lambda: (x, y, y), "the training set is a tuple of 3"),
    "a dataset of three": (lambda: TensorDataset(x, y, y), "an item of the Dataset is a list of 3"),
    "a stream": (lambda: Stream(N), r"an IterableDataset has no batches; give DataLoader\(dataset"),
    "a generator": (lambda: iter([(x, y)]), "the training set is a list_iterator"),
    "dataset of inputs": (lambda: Subset(x, range(N)), "an item of the Dataset is a Tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_training_set_is_refused_in_one_line_before_the_first_step(name, batches):
    make, reason = REFUSED[name]
    with pytest.raises(UserError, match=reason) as caught:
        trained(make())
    assert "\n" not in str(caught.value)
    assert batches == []


def normalized():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("data", "batch_size"),
    [
        (examples, 7),
        (examples, 49),
        (examples, 1),
        (dataset, 7),
        (lambda: DataLoader(dataset(), 7), 100),
        (lambda: DataLoader(dataset(), 1), 100),
        (lambda: DataLoader(dataset(), batch_sampler=BatchSampler(RandomSampler(range(N)), 7, False)), 100),
    ],
)
def test_a_last_batch_of_one_is_refused_where_batch_norm_cannot_average(data, batch_size, batches):
    with pytest.raises(
        UserError, match="of one example, over which batch normalization cannot average; choose another"
    ):
        trained(data(), net=normalized, batch_size=batch_size)
    assert batches == []
    trained(data(), batch_size=batch_size)  # without batch norm it is a batch like any


def test_a_batch_of_one_sequence_is_one_that_batch_norm_averages():
    """Over its positions; over maps of 1x1 there are none."""

    def sequences():
        return nn.Sequential(
            nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 2), nn.BatchNorm1d(4), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(4, 3),
        )  # fmt: skip

    def maps():
        return nn.Sequential(
            nn.Unflatten(1, (5, 1, 1)), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3)
        )

    trained(examples(), net=sequences, batch_size=7)
    with pytest.raises(UserError, match="of one example, over which batch normalization cannot average"):
        trained(examples(), net=maps, batch_size=7)


def test_a_last_batch_that_is_dropped_is_no_batch_of_one():
    trained(DataLoader(dataset(), 7, shuffle=True, drop_last=True), net=normalized)


# --- resuming


class Noisy(Dataset):
    """Augments in this process, from PyTorch's global generator."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        x, y = examples()
        return x[index] + 0.1 * torch.randn(5), y[index]


class Drawing(Sampler):
    """Draws from the global generator at every example."""

    def __iter__(self):
        return (int(torch.randint(N, ())) for _ in range(N))

    def __len__(self):
        return N


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


SHUFFLED = {
    "no generator": lambda: DataLoader(dataset(), BATCH, shuffle=True),
    "generator": lambda: DataLoader(dataset(), BATCH, shuffle=True, generator=seeded()),
    "sampler's generator": lambda: DataLoader(dataset(), BATCH, sampler=RandomSampler(dataset(), generator=seeded())),
    "two generators": lambda: DataLoader(
        dataset(), BATCH, sampler=RandomSampler(dataset(), generator=seeded()), generator=seeded(6)
    ),
    "subset": lambda: DataLoader(dataset(), BATCH, sampler=SubsetRandomSampler(range(N))),
    "weights": lambda: DataLoader(dataset(), BATCH, sampler=WeightedRandomSampler(torch.ones(N), N)),
    "batch sampler": lambda: DataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(dataset(), generator=seeded()), BATCH, False)
    ),
    "augmented": lambda: DataLoader(Noisy(), BATCH, shuffle=True),
    "own sampler": lambda: DataLoader(dataset(), BATCH, sampler=Drawing()),
}


@pytest.mark.parametrize("k", [1, 3, 4, 6])
@pytest.mark.parametrize("name", list(SHUFFLED))
def test_a_shuffling_loader_resumes_bit_for_bit(name, k, tmp_path, monkeypatch):
    """Within an epoch and at its end; later epochs too. The loader of the second process is made anew."""
    make = SHUFFLED[name]
    whole = trained(make(), epochs=3, checkpoint=tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt):
            trained(make(), epochs=3, checkpoint=tmp_path / "run")
    resumed = trained(make(), epochs=3, checkpoint=tmp_path / "run")
    assert same(values(whole), values(resumed))
    assert untimed(whole.history) == untimed(resumed.history)
    (tensors, meta), (others, other) = on_disk(tmp_path / "whole"), on_disk(tmp_path / "run")
    assert same(tensors, others)
    assert meta == other


def test_a_resumed_epoch_has_every_example_once(tmp_path, monkeypatch, batches):
    loader = SHUFFLED["no generator"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            trained(loader(), epochs=2, checkpoint=tmp_path / "run")
    trained(loader(), epochs=2, checkpoint=tmp_path / "run")
    epochs = torch.cat(batches).split(N)
    for epoch in epochs:
        assert torch.equal(epoch.sort(dim=0).values, examples()[0].sort(dim=0).values)
    assert not torch.equal(*epochs)


def test_worker_processes_resume_bit_for_bit(tmp_path, monkeypatch):
    def make():
        return DataLoader(Noisy(), BATCH, shuffle=True, num_workers=1, multiprocessing_context="fork")

    whole = trained(make(), epochs=2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            trained(make(), epochs=2, checkpoint=tmp_path / "run")
    assert same(values(whole), values(trained(make(), epochs=2, checkpoint=tmp_path / "run")))


class ByPython(Sampler):
    """An order from Python's own generator, which nobody saves."""

    def __iter__(self):
        return iter(random.sample(range(N), N))

    def __len__(self):
        return N


def longer(monkeypatch):
    class More(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, index):
            x, y = examples()
            return x[index] + 1, y[index]

    return DataLoader(More(), BATCH)


@pytest.mark.parametrize("kind", ["order", "data", "short"])
def test_a_loader_that_does_not_come_back_is_refused(kind, tmp_path, monkeypatch, batches):
    first, second = {
        "order": (DataLoader(dataset(), BATCH, sampler=ByPython()),) * 2,
        "data": (DataLoader(dataset(), BATCH), longer(monkeypatch)),
        "short": (DataLoader(dataset(), BATCH, sampler=Lying(N, N)), DataLoader(dataset(), BATCH, sampler=Lying(N, 9))),
    }[kind]
    random.seed(0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            trained(first, checkpoint=tmp_path / "run")
    batches.clear()
    with pytest.raises(
        CheckpointError, match=r"does not come back to the batches .*choose another checkpoint"
    ) as caught:
        trained(second, checkpoint=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert batches == []


class Epochs(RandomSampler):
    """DistributedSampler's way: the epoch must be set."""

    epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(torch.randperm(N, generator=seeded(self.epoch)).tolist())


def test_a_sampler_is_told_the_epoch(batches):
    trained(DataLoader(dataset(), N, sampler=Epochs(dataset())), epochs=2)
    assert torch.equal(batches[0], examples()[0][torch.randperm(N, generator=seeded(0))])
    assert torch.equal(batches[1], examples()[0][torch.randperm(N, generator=seeded(1))])


class StatefulLoader(DataLoader):
    """torchdata's interface: a loader that goes on by itself, with an order that nothing else can restore."""

    def __init__(self, order, **options):
        super().__init__(dataset(), BATCH, **options)
        self.position, self.order, self.finished = 0, order, True

    def __iter__(self):
        if self.finished:
            self.position, self.order, self.finished = 0, self.order.roll(3), False
        while self.position < N:
            index = self.order[self.position : self.position + BATCH]
            self.position += BATCH
            yield tuple(part[index] for part in examples())
        self.finished = True

    def state_dict(self):
        return {"state": (self.position, self.order, self.finished), "more": None}

    def load_state_dict(self, state):
        self.position, self.order, self.finished = state["state"]


@pytest.mark.parametrize("k", [2, 4, 7])
def test_a_loader_with_a_state_goes_on_by_itself(k, tmp_path, monkeypatch, batches):
    """And reads nothing twice."""
    order = torch.randperm(N)
    whole = trained(StatefulLoader(order), epochs=3)
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt):
            trained(StatefulLoader(order), epochs=3, checkpoint=tmp_path / "run")
    batches.clear()
    resumed = trained(StatefulLoader(torch.arange(N)), epochs=3, checkpoint=tmp_path / "run")
    assert same(values(whole), values(resumed))
    assert len(batches) == 3 * 4 - k


def test_a_loader_with_a_state_and_a_generator_cannot_be_resumed(tmp_path, batches):
    """torchdata's would draw from it once more when it starts again, so later epochs would differ."""
    loader = StatefulLoader(torch.arange(N), generator=seeded())
    with pytest.raises(UserError, match="checkpoint= cannot bring back the order of a StatefulLoader with a generator"):
        trained(loader, checkpoint=tmp_path / "run")
    assert batches == []
    assert len(trained(loader).history) == 1
