"""The SMS Spam Collection: the rule of the split, and errors about the file."""

import hashlib
from pathlib import Path

import pytest
import torch

from pyro_vd.data import sms_spam
from pyro_vd.data.sms_spam import load_sms_spam, split_messages
from pyro_vd.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_a_messages_digest_says_its_part():
    labels = {f"message {number}": number % 2 for number in range(300)}
    parts = split_messages(labels)
    digits = {"test": "012345", "validation": "67", "train": "89abcdef"}
    for name, allowed in digits.items():
        part = getattr(parts, name)
        assert {hashlib.sha256(text.encode()).hexdigest()[0] for text in part.texts} == set(allowed)
        assert part.labels.tolist() == [labels[text] for text in part.texts]
        assert part.labels.dtype == torch.int64
        assert len(part) == len(part.labels)
    assert sum(len(getattr(parts, name)) for name in digits) == 300


def test_the_file_is_read_and_repeated_messages_count_once(tmp_path, monkeypatch):
    content = "spam\tWin £5\tnow\nham\thello\nham\thello\n".encode()
    monkeypatch.setattr(sms_spam, "SHA256", hashlib.sha256(content).hexdigest())
    (tmp_path / "sms_spam.tsv").write_bytes(content)
    parts = load_sms_spam(tmp_path)
    found = {
        text: label
        for part in (parts.train, parts.validation, parts.test)
        for text, label in zip(part.texts, part.labels.tolist(), strict=True)
    }
    assert found == {"Win £5\tnow": 1, "hello": 0}


def test_a_missing_file_is_named_with_its_source(tmp_path):
    with pytest.raises(DataError, match=r"no .*sms_spam\.tsv .*UCI repository, data set 228"):
        load_sms_spam(tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "sms_spam.tsv").write_text("ham\thello\n")
    with pytest.raises(DataError, match="has another SHA-256"):
        load_sms_spam(tmp_path)


@pytest.mark.skipif(not (REAL / sms_spam.FILE).exists(), reason="no SMS Spam Collection here")
def test_the_collection_has_the_sizes_that_the_page_says():
    parts = load_sms_spam(REAL)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [2582, 658, 1931]
