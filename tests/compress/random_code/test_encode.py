"""encode_posterior: a file of the size that was asked for, exact everywhere, near the KL, and refusals."""

import copy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from pyro_vd import compress, guides
from pyro_vd.compress import encode_posterior, load
from pyro_vd.compress.compact import unpack
from pyro_vd.errors import CheckpointError, UserError
from tests.compress._nets import is_same_state
from tests.compress.random_code._pairs import Tied, encode, examples, make, untrained
from tests.compress.test_compact import flip, refuse_mutations, sealed

CHECK = """
import sys, torch
from torch import nn
from pyro_vd import compress
torch.set_num_threads(int(sys.argv[2]))
net = compress.load(sys.argv[1], nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))
print(torch.cat([tensor.flatten() for _, tensor in sorted(net.state_dict().items())]).numpy().tobytes().hex())
"""


@pytest.fixture(scope="module")
def trained():
    """A file that learned something, of 100 bytes for 195 weights."""
    return encode(untrained(init=-4.0), 100, epochs=90, coding_epochs=40, bits=12)


def test_the_file_holds_a_network_that_predicts(trained):
    x, y = examples()
    errors = float((trained.net(x).argmax(1) != y).double().mean())
    assert errors < 0.25  # two thirds by chance
    assert 92 <= len(trained.content) <= 100
    assert trained.history[-1]["nll"] < 0.7


def test_the_overhead_is_that_of_the_file_over_the_kl(trained):
    assert trained.overhead == pytest.approx(8 * len(trained.content) / trained.kl_bits - 1)
    assert 0.75 < trained.kl_bits / (12 * trained.history[-1]["blocks"]) < 1.0  # 0.92 is the target
    assert trained.kl_bits == pytest.approx(trained.history[-1]["kl_bits"])


def test_loading_gives_every_bit_on_any_number_of_threads(trained, tmp_path):
    assert trained.save(tmp_path / "net") == len(trained.content) == (tmp_path / "net").stat().st_size
    loaded = load(tmp_path / "net", make())
    assert is_same_state(loaded.state_dict(), trained.net.state_dict())
    state = sorted(trained.net.state_dict().items())
    expected = torch.cat([tensor.flatten() for _, tensor in state]).numpy().tobytes().hex()
    command = [sys.executable, "-c", CHECK, str(tmp_path / "net"), "3"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert found.stdout.strip() == expected


def test_equal_seeds_give_equal_files_and_nothing_else_changes():
    posterior = untrained()
    before, state = copy.deepcopy(posterior.model.state_dict()), torch.get_rng_state()
    theta = [parameter.clone() for parameter in posterior.guide.parameters()]
    first = encode(posterior)
    assert torch.equal(torch.get_rng_state(), state)
    assert is_same_state(posterior.model.state_dict(), before)
    assert all(map(torch.equal, posterior.guide.parameters(), theta))
    torch.randn(3)
    assert encode(posterior).content == first.content
    assert encode(posterior, seed=1).content != first.content


@pytest.mark.parametrize("size", [70, 101, 180])
@pytest.mark.parametrize("bits", [3, 13])
def test_the_file_is_as_large_as_allowed(size, bits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is trained too little
        content = encode(untrained(), size, bits=bits, epochs=1, coding_epochs=1).content
    assert size - 8 <= len(content) <= size or (bits, size) == (3, 180)  # a block holds a weight at least


def test_tied_point_and_averaged_tensors_are_in_the_file(tmp_path):
    with pytest.warns(UserWarning, match=r"the file has \d+ bytes and not 300: tensors that are not random"):
        coded = encode(untrained(Tied(), select=["z.weight", "out.weight", "out.bias"]), 300, bits=12)
    assert coded.net.a.weight is coded.net.z.weight
    assert coded.net.norm.running_mean.any()
    coded.save(tmp_path / "net")
    loaded = load(tmp_path / "net", Tied())
    assert is_same_state(loaded.state_dict(), coded.net.state_dict())
    assert loaded.a.weight is loaded.z.weight


def test_a_network_in_float64_keeps_its_type(tmp_path):
    posterior = untrained(make().double())
    x, y = examples()
    coded = encode_posterior(posterior, (x.double(), y), 150, epochs=2, coding_epochs=1, bits=8, progress=False)
    coded.save(tmp_path / "net")
    assert is_same_state(load(tmp_path / "net", make().double()).state_dict(), coded.net.state_dict())


def test_normal_posteriors_of_any_guide_are_coded():
    assert len(encode(untrained(scheme=guides.sparse)).content) <= 150
    assert len(encode(untrained(scheme=guides.variational_b)).content) <= 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 30}, "size=30.: .* bytes are the head of the file"),
        ({"bits": 25}, "0 < bits <= 24 and batch_size >= 1 needed"),
        ({"bits": 0}, "0 < bits <= 24 and batch_size >= 1 needed"),
        ({"batch_size": 0}, "batch_size >= 1 needed"),
        ({"coding_epochs": 5}, "0 < coding_epochs <= epochs"),
        ({"coding_epochs": 0}, "0 < coding_epochs <= epochs"),
        ({"size": 1.5}, "size=1.5 must be a whole number"),
        ({"seed": -1}, r"seed=-1 must be from 0 to 2\*\*64 - 1"),
        ({"seed": 2**64}, r"seed=18446744073709551616 must be from 0 to 2\*\*64 - 1"),
        ({"lr": float("nan")}, "lr=nan must be a finite number"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        encode(untrained(), **change)


def test_another_posterior_is_refused_by_name():
    with pytest.raises(UserError, match=r"the weights '0\.weight' are not independent Normals"):
        encode(untrained(scheme=guides.bernoulli, select=None))


def test_what_is_no_posterior_is_refused():
    with pytest.raises(UserError, match="posterior is a Sequential; give a Posterior, as fit returns it"):
        encode(make())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_tensor_of_no_weights_is_refused_by_name():
    with pytest.raises(UserError, match=r"0\.weight, 0\.bias, 1\.weight have no weights; leave them out of lift"):
        encode(untrained(nn.Sequential(nn.Linear(8, 0), nn.Linear(0, 3))))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_training_needs_no_gradients_of_the_caller(mode):
    with mode():
        content = encode(untrained(init=-4.0)).content
    assert content == encode(untrained(init=-4.0)).content


def test_a_posterior_that_keeps_its_kl_is_told():
    with pytest.warns(UserWarning, match=r"the KL of \d+ bits is above the \d+ bits of the indices; train for more"):
        encode(untrained(), 70, epochs=1, coding_epochs=1)


def test_damaged_files_are_refused(trained, tmp_path):
    content = trained.content
    for place in range(len(content)):
        for damaged in (flip(content, place, 1 << place % 8), content[:place]):
            (tmp_path / "net").write_bytes(damaged)
            with pytest.raises(CheckpointError, match="net: "):
                load(tmp_path / "net", make())


def test_a_file_of_another_network_is_refused(trained, tmp_path):
    trained.save(tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"of another network: 0\.bias is "):
        load(tmp_path / "net", nn.Sequential(nn.Linear(8, 15), nn.ReLU(), nn.Linear(15, 3)))
    with pytest.raises(CheckpointError, match="other names, types or numbers of axes"):
        load(tmp_path / "net", nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3)))


def test_what_decodes_to_something_else_is_refused(trained):
    with pytest.raises(CheckpointError, match="does not decode to what was saved"):
        unpack(sealed(flip(trained.content[8:], 2, 1), 2), make())


def test_mutated_files_are_refused(trained):
    refuse_mutations(trained.content, make(), 400, 0)


@pytest.mark.slow
@pytest.mark.fault
def test_very_many_mutated_files_are_refused(trained):
    refuse_mutations(trained.content, make(), 20_000, 1)


def test_it_is_public():
    assert compress.encode_posterior is encode_posterior
