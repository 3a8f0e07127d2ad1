"""The README shows what the records say, and the priors that the code takes."""

import json

import pytest

from experiments import readme
from pyro_vd.errors import UserError


def test_the_readme_is_what_its_records_say():
    text = (readme.ROOT / "README.md").read_text()
    assert readme.filled(text) == text


def test_a_readme_without_a_block_is_refused():
    with pytest.raises(UserError, match="no block <!-- headline"):
        readme.filled("# nothing")


def test_without_records_a_table_says_not_measured(tmp_path):
    assert readme.accuracy(readme.cifar_accuracy, [], "full", tmp_path).startswith("Not measured.")
    assert readme.compression(readme.cifar_compress, tmp_path).startswith("Not measured.")
    assert readme.headline(tmp_path).startswith("Not measured.")


def test_the_headline_is_of_one_kind_of_device(tmp_path):
    """Another one is another row."""
    first = next(readme.COMPRESSION.glob("mnist-lenet5-sparse-fine-tuned-s0.json"))
    (tmp_path / "0.json").write_text(first.read_text())
    alone = readme.headline(tmp_path)
    assert "--seeds 1` leaves LeNet-5" in alone
    other = json.loads(first.read_text()) | {"device": "NVIDIA H200", "compression": 1.0, "seed": 1}
    (tmp_path / "1.json").write_text(json.dumps(other))
    assert readme.headline(tmp_path) == alone


def test_the_table_of_priors_shows_what_fits_and_nothing_else():
    lines = {line.split("`")[1]: line for line in readme.priors().splitlines()[2:]}
    assert "GroupHorseshoe" in lines["group_horseshoe"]
    assert "LogUniform" not in lines["l0"]
    assert lines["bernoulli"].count("`") == 4
    assert 'LogUniform("kingma")' in lines["variational_b"]
    assert 'LogUniform("kingma")' not in lines["sparse"]
    assert "`Horseshoe`" in lines["sparse"]
