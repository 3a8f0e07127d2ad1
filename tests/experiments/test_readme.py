"""The README shows what the records say, and the priors that the code takes."""

import json

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import readme


@pytest.mark.parametrize(
    ("path", "blocks"),
    [(readme.README, readme.blocks), (readme.RESULTS_PAGE, readme.results_page_blocks)],
    ids=["README", "results"],
)
def test_the_readme_is_what_its_records_say(path, blocks):
    text = path.read_text()
    assert readme.fill_blocks(text, blocks(), path) == text


def test_a_readme_without_a_block_is_refused():
    with pytest.raises(UserError, match=r"README.md has no block <!-- headline"):
        readme.fill_blocks("# nothing", {"headline": "1"}, readme.README)


def test_a_page_that_differs_is_refused_and_stays(tmp_path, monkeypatch):
    """The second one, too."""
    paths = tmp_path / "README.md", tmp_path / "results.md"
    for path, line in zip(paths, (r"new \1", "old"), strict=True):
        path.write_text(f"<!-- one: python -m experiments.readme -->\n{line}\n<!-- end -->\n")
    for name, value in (("ROOT", tmp_path), ("README", paths[0]), ("RESULTS_PAGE", paths[1]), ("draw", lambda: None)):
        monkeypatch.setattr(readme, name, value)
    monkeypatch.setattr(readme, "blocks", lambda: {"one": r"new \1"})
    monkeypatch.setattr(readme, "results_page_blocks", lambda: {"one": r"new \1"})
    with pytest.raises(UserError, match=r"^results.md differs from the records"):
        readme.main(readme.Args(check=True))
    assert "old" in paths[1].read_text()
    readme.main(readme.Args())
    assert paths[0].read_text() == paths[1].read_text()
    assert r"new \1" in paths[1].read_text()
    readme.main(readme.Args(check=True))


def test_without_records_a_table_says_not_measured(tmp_path):
    assert readme.accuracy_block(readme.cifar_accuracy, [], "full", tmp_path).startswith("Not measured.")
    assert readme.compression_block(readme.cifar_compress, tmp_path).startswith("Not measured.")
    assert readme.headline_text(tmp_path).startswith("Not measured.")
    assert readme.results_page_blocks(tmp_path) == {"tuning": "Not measured."}


def test_the_headline_is_of_one_kind_of_device(tmp_path):
    """Another one is another row."""
    first = next(readme.COMPRESSION.glob("mnist-lenet5-sparse-fine-tuned-s0.json"))
    (tmp_path / "0.json").write_text(first.read_text())
    alone = readme.headline_text(tmp_path)
    assert "--seeds 1` leaves LeNet-5" in alone
    other = json.loads(first.read_text()) | {"device": "NVIDIA H200", "compression": 1.0, "seed": 1}
    (tmp_path / "1.json").write_text(json.dumps(other))
    assert readme.headline_text(tmp_path) == alone


def test_the_table_of_priors_shows_what_fits_and_nothing_else():
    lines = {line.split("`")[1]: line for line in readme.priors_table().splitlines()[2:]}
    assert "GroupHorseshoe" in lines["group_horseshoe"]
    assert "LogUniform" not in lines["l0"]
    assert lines["bernoulli"].count("`") == 4
    assert 'LogUniform("kingma")' in lines["variational_b"]
    assert 'LogUniform("kingma")' not in lines["sparse"]
    assert "`Horseshoe`" in lines["sparse"]
