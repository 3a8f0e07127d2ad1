"""Subsets of fit_seeds: every seed is trained on its own examples, as if there were no others."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd import Categorical, checkpoint, fit, fit_seeds, guides, lift
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.subsets import describe_subsets, read_subsets
from tests._asserts import close, same, untimed, values
from tests._pairs import examples, network

LENGTH = 35  # of 50 examples: batches of 16, 16 and 3
SUBSETS = [torch.arange(LENGTH), torch.arange(50).flip(0)[:LENGTH], torch.randperm(50)[:LENGTH]]
SEEDS = [4, 0, 9]
OPTIONS = {"epochs": 2, "batch_size": 16, "lr": 0.01, "progress": False}


def maker(scheme):
    chosen = guides.SCHEMES[scheme]

    def make():
        model = lift(network(), chosen.prior, Categorical, num_data=LENGTH)
        return model, chosen.Guide(model)

    return make


def alone(scheme, seed, subset):
    torch.manual_seed(seed)
    x, y = examples()
    return fit(*maker(scheme)(), (x[subset], y[subset]), seed=seed, engine="eager", **OPTIONS)


def test_one_seed_and_its_subset_are_a_fit_of_the_subset():
    (found,) = fit_seeds(maker("sparse"), examples(), seeds=[4], subsets=[SUBSETS[2]], engine="eager", **OPTIONS)
    expected = alone("sparse", 4, SUBSETS[2])
    assert same(values(found), values(expected))
    assert untimed(found.history) == untimed(expected.history)


# Mutants: the first subset for all, an order of all examples.
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_every_seed_ends_where_its_subset_alone_would_end(engine, quick_compiler):
    posteriors = fit_seeds(maker("none"), examples(), seeds=SEEDS, subsets=SUBSETS, engine=engine, **OPTIONS)
    for seed, subset, found in zip(SEEDS, SUBSETS, posteriors, strict=True):
        assert found.engine == engine
        assert close(values(found), values(alone("none", seed, subset)))


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, lambda index: torch.tensor(index, dtype=torch.int32)])
def test_indices_may_be_lists_arrays_and_tensors(form):
    (found,) = read_subsets([form([3, 0, 2])], [7], 4)
    assert found.dtype == torch.int64
    assert found.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ([[0, 1]], "1 subsets for 2 seeds"),
        ([[0, 1], [2]], "have 1 to 2 examples"),
        ([[0, 1], [2, 5]], "subset 1 has indices from 2 to 5, but the training set has the examples 0 to 4"),
        ([[0, -1], [2, 3]], "subset 0 has indices from -1 to 0"),
        ([[0, 1], [2, 2]], "subset 1 has an example twice"),
        ([[], []], "subset 0 is not a list of indices"),
        ([[0.0, 1.0], [2, 3]], "subset 0 is not a list of indices"),
        ([[True, False], [2, 3]], "subset 0 is not a list of indices"),
        ([[[0, 1]], [2, 3]], "subset 0 is not a list of indices"),
        (["ab", [2, 3]], "subset 0 is not a list of indices"),
    ],
)
def test_wrong_subsets_are_refused(subsets, message):
    with pytest.raises(UserError, match=message):
        read_subsets(subsets, [0, 1], 5)


def test_num_data_is_the_number_of_examples_of_a_subset():
    with pytest.raises(UserError, match="num_data=35, but there are 34 examples"):
        fit_seeds(maker("none"), examples(), seeds=[0], subsets=[torch.arange(34)], **OPTIONS)


@pytest.mark.parametrize("share", [0.2, torch.tensor(0.2)])
def test_a_share_cannot_be_held_out_of_subsets(share):
    with pytest.raises(UserError, match=r"validation=.*cannot be held out of several subsets"):
        fit_seeds(maker("none"), examples(), seeds=SEEDS, subsets=SUBSETS, validation=share, **OPTIONS)


def test_a_loader_has_no_subsets():
    loader = DataLoader(TensorDataset(*examples()), batch_size=16)
    with pytest.raises(UserError, match="a DataLoader has one order of examples"):
        fit_seeds(maker("none"), loader, seeds=[0], subsets=SUBSETS[:1], **OPTIONS)


def test_a_run_goes_on_with_the_same_subsets_only(tmp_path):
    arguments = {"seeds": [0], "engine": "eager", "checkpoint": tmp_path / "run", **OPTIONS}
    fit_seeds(maker("none"), examples(), subsets=SUBSETS[:1], **arguments)
    before, _ = checkpoint.load(tmp_path / "run")
    with pytest.raises(CheckpointError, match="data"):
        fit_seeds(maker("none"), examples(), subsets=SUBSETS[1:2], **{**arguments, "epochs": 3})
    assert same(checkpoint.load(tmp_path / "run")[0], before)
    (longer,) = fit_seeds(maker("none"), examples(), subsets=SUBSETS[:1], **{**arguments, "epochs": 3})
    assert len(longer.history) == 3


def test_the_description_tells_subsets_and_their_order_apart():
    first, second, *_ = (describe_subsets([torch.tensor(index)]) for index in ([0, 1, 2], [0, 2, 1]))
    assert first != second
    assert "1 subsets of 3" in first
