"""What fit remembers of the examples that a pair has seen."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pyro_vd
from pyro_vd import Posterior, StopTraining, fit, fit_seeds, guides
from pyro_vd.data import LabeledImages
from pyro_vd.data.digests import digest_inputs
from pyro_vd.errors import CheckpointError

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 2


def make_pair(num_data):
    model = pyro_vd.lift(nn.Linear(4, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=num_data)
    return model, guides.sparse.Guide(model)


def train(data, num_data, pair=None, **how):
    pair = pair or make_pair(num_data)
    return fit(*pair, data, epochs=1, engine="eager", progress=False, **how).model.seen_inputs


def digests(*rows):
    return digest_inputs(X[list(rows)]).unique()


def test_nothing_is_seen_before_a_fit():
    assert make_pair(8)[0].seen_inputs.numel() == 0


@pytest.mark.parametrize("make", [lambda x, y: (x, y), lambda x, y: ((x,), y), TensorDataset, LabeledImages])
def test_the_training_examples_are_seen(make):
    assert torch.equal(train(make(X[:8], Y[:8]), 8), digests(*range(8)))


def test_so_are_examples_of_the_validation_set():
    assert torch.equal(train((X[:8], Y[:8]), 8, validation=(X[8:], Y[8:])), digests(*range(12)))
    assert torch.equal(train((X, Y), 9, validation=0.25), digests(*range(12)))


def test_a_second_fit_adds_its_examples():
    pair = make_pair(4)
    train((X[:4], Y[:4]), 4, pair)
    assert torch.equal(train((X[6:10], Y[6:10]), 4, pair), digests(0, 1, 2, 3, 6, 7, 8, 9))


def test_a_fit_that_ends_early_has_seen_its_examples():
    def stop(epoch, posterior):
        assert len(posterior.model.seen_inputs) == 8
        raise StopTraining

    assert len(train((X[:8], Y[:8]), 8, on_epoch=stop)) == 8


class Items(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return X[index], Y[index]


@pytest.mark.parametrize("data", [Items(), DataLoader(Items(), batch_size=4)], ids=["dataset", "loader"])
def test_examples_that_are_read_one_by_one_are_not_known(data):
    pair = make_pair(8)
    assert train(data, 8, pair) is None
    assert train((X[:8], Y[:8]), 8, pair) is None  # a later fit does not make them known


def test_a_validation_loader_is_not_known():
    assert train((X[:8], Y[:8]), 8, validation=DataLoader(Items(), batch_size=4)) is None


def test_every_seed_has_seen_its_subset():
    subsets = [torch.arange(4), torch.arange(5, 9)]
    found = fit_seeds(
        lambda: make_pair(4), (X, Y), seeds=[0, 1], subsets=subsets, epochs=1, engine="eager", progress=False
    )
    assert [torch.equal(p.model.seen_inputs, digests(*s.tolist())) for p, s in zip(found, subsets, strict=True)]
    assert not torch.equal(found[0].model.seen_inputs, found[1].model.seen_inputs)


def test_save_and_load_keep_what_was_seen(tmp_path):
    pair = make_pair(8)
    own = train((X[:8], Y[:8]), 8, pair)
    Posterior(*pair).save(tmp_path / "first")
    other = make_pair(8)
    Posterior(*other).load(tmp_path / "first")
    assert torch.equal(other[0].seen_inputs, own)


@pytest.mark.parametrize("of_fit", [False, True])
def test_a_file_without_digests_is_not_known(tmp_path, of_fit):
    path, pair = tmp_path / "run", make_pair(8)
    if of_fit:
        train((X[:8], Y[:8]), 8, pair, checkpoint=path)
    else:
        pair[0].seen_inputs = None
        Posterior(*pair).save(path)
    other = make_pair(8)
    Posterior(*other).load(path)
    assert other[0].seen_inputs is None


def test_digests_of_another_type_are_refused(tmp_path):
    pair = make_pair(8)
    pair[0].seen_inputs = torch.zeros(3)
    Posterior(*pair).save(tmp_path / "first")
    with pytest.raises(CheckpointError, match="seen_inputs are not digests"):
        Posterior(*make_pair(8)).load(tmp_path / "first")
