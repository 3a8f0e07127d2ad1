"""experiments.certificate on digits: halves, phases, records and the table."""

from dataclasses import replace

import pytest
import torch

from pyro_vd import NonFiniteError
from pyro_vd.data import LabeledImages
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.data.digests import digest_inputs
from pyro_vd.errors import UserError
from pyro_vd.experiments import certificate
from pyro_vd.experiments.certificate import Args, make_spec
from pyro_vd.experiments.common import certificate_runs
from pyro_vd.experiments.common.certificate_runs import (
    KEYS,
    KINDS,
    CertificateSpec,
    divide,
    learn_posterior,
    learn_prior,
    run_spec,
)
from pyro_vd.experiments.common.certificate_tables import make_table
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.spec import decode, encode
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.models import NETWORKS

CPU = torch.device("cpu")
ARGS = Args(epochs=2, posterior_epochs=1, num_samples=50)
SPEC = replace(make_spec("digits", ARGS), test_samples=2)


@pytest.fixture(scope="module")
def split():
    return load_images(SPEC.data, NETWORKS["lenet300"](), None)


@pytest.fixture(scope="module")
def done(tmp_path_factory, split):
    """A store with a finished run."""
    store = Store(tmp_path_factory.mktemp("certificate"), KINDS)
    run_spec(SPEC, store, split, CPU, "eager", certificate.STUDY)
    return store


def test_the_halves_share_no_image_and_are_the_same_in_every_run(split):
    first, second = divide(split.train)
    assert abs(len(first) - len(second)) <= 1
    assert len(first) + len(second) == len(split.train)
    assert isinstance(first, AugmentedImages)
    digests = [digest_inputs(part.images) for part in (first, second)]
    assert not torch.isin(*digests).any()
    torch.manual_seed(1)
    assert torch.equal(divide(split.train)[0].images, first.images)


def test_the_posterior_starts_at_the_prior_and_changes_only_what_has_a_distribution(split, monkeypatch):
    first, second = divide(split.train)
    prior = learn_prior(SPEC, first, split.classes, "eager")
    started = []
    fit = certificate_runs.pyro_vd.fit

    def watch(model, guide, *given, **named):
        started.append({name: value.clone() for name, value in guide.state_dict().items()})
        return fit(model, guide, *given, **named)

    monkeypatch.setattr(certificate_runs.pyro_vd, "fit", watch)
    posterior = learn_posterior(SPEC, prior, second, "eager")
    assert all(torch.equal(value, started[0][name]) for name, value in prior.guide.state_dict().items())
    assert sum(posterior.kl().values()) > 0
    own, other = posterior.model.net.state_dict(), prior.model.net.state_dict()
    assert own.keys() == other.keys() != set()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_a_run_certifies_prior_and_posterior_with_all_weights_and_pruned(done, split):
    run = done.load(SPEC, KEYS)
    for distribution in ("prior", "posterior"):
        for network in ("all weights", "pruned"):
            found = run[distribution][network]
            assert 0 <= found["empirical_risk"] < found["empirical_risk_bound"] < found["risk"] <= 1
            assert found["num_examples"] == len(divide(split.train)[1])
            assert (found["num_samples"], found["delta"]) == (50, 0.05)
            assert 0 <= found["test_error"] <= 1
            assert (found["kl"] > 0) == (distribution == "posterior")
    assert run["prior"]["all weights"]["kept"] == run["prior"]["all weights"]["weights"]
    assert [row["phase"] for row in run["history"]] == ["prior", "prior", "posterior"]


def test_the_certified_images_are_not_augmented(split, monkeypatch):
    seen = []
    monkeypatch.setattr(certificate_runs, "certificate", lambda pair, data, *given, **named: seen.append(data) or SPEC)
    monkeypatch.setattr(certificate_runs, "_test_error", lambda *given: 0.0)
    first, second = divide(split.train)
    prior = learn_prior(SPEC, first, split.classes, "eager")
    certificate_runs.measure(SPEC, prior, prior, second, split.test)
    assert [type(data) for data in seen] == [LabeledImages, LabeledImages]
    assert all(torch.equal(data.images, second.images) for data in seen)


def test_a_run_that_diverges_says_so(tmp_path, split, monkeypatch):
    def diverge(*given, **named):
        raise NonFiniteError("the loss is NaN", [{"loss": 1.0}])

    monkeypatch.setattr(certificate_runs.pyro_vd, "fit", diverge)
    run = run_spec(SPEC, Store(tmp_path, KINDS), split, CPU, "eager", certificate.STUDY)
    assert run.diverged
    assert (run["prior"], run["history"]) == (None, [{"loss": 1.0}])
    assert make_table(SPEC, Store(tmp_path, KINDS)).rows == ()


def test_the_table_fits_a_page_and_names_the_probability(done):
    table = make_table(SPEC, done)
    assert table.title.startswith("Certificates with probability 95 % each")
    assert [row[:2] for row in table.rows] == [
        ("prior", "all weights"), ("prior", "pruned"), ("posterior", "all weights"), ("posterior", "pruned"),
    ]  # fmt: skip
    assert all(len(line) <= PAGE_WIDTH for line in table.markdown().splitlines())


def test_a_spec_is_read_back():
    assert decode(encode(SPEC), KINDS) == SPEC
    assert isinstance(SPEC, CertificateSpec)
    assert SPEC.label == "digits-lenet300-sparse"


def test_the_command_writes_records_and_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(
        certificate, "make_spec", lambda dataset, args: replace(make_spec(dataset, args), test_samples=2)
    )
    args = replace(ARGS, dataset="digits", engine="eager", seeds=2, out=tmp_path)
    certificate.main(args)
    assert len(list(tmp_path.glob("digits-lenet300-sparse-*.json"))) == 2
    assert "| posterior | pruned " in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(certificate, "run_spec", None)
    certificate.main(args)  # nothing is run twice
    load = certificate.load_images
    monkeypatch.setattr(certificate, "load_images", lambda *given: replace(load(*given), sha256="another"))
    with pytest.raises(UserError, match="a run on other data"):
        certificate.main(args)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(UserError, match="--posterior-epochs must be at least 1"):
        certificate.main(replace(ARGS, posterior_epochs=0, out=tmp_path))
