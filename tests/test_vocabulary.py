"""One vocabulary: words that the code, its messages and its pages do not use, and what they say instead."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPELLING = {  # British -> American, as torch and Pyro spell
    r"(?:un)?normalis(?!t)\w*": "normaliz-",
    r"(?:re|un)?initialis\w*": "initializ-",
    r"quantis\w*": "quantiz-",
    r"\w*parametris\w*": "parametriz-",
    r"optimis\w*": "optimiz-",
    r"regularis\w*": "regulariz-",
    r"generalis\w*": "generaliz-",
    r"factoris\w*": "factoriz-",
    r"vectoris\w*": "vectoriz-",
    r"serialis\w*": "serializ-",
    r"standardis\w*": "standardiz-",
    r"summaris\w*": "summariz-",
    r"randomis\w*": "randomiz-",
    r"memoris\w*": "memoriz-",
    r"binaris\w*": "binariz-",
    r"recognis\w*": "recogniz-",
    r"minimis\w*": "minimiz-",
    r"maximis\w*": "maximiz-",
    r"organis\w*": "organiz-",
    r"realis(?:e|es|ed|ing|ation)\b": "realiz-",
    r"penalis\w*": "penaliz-",
    r"visualis\w*": "visualiz-",
    r"capitalis\w*": "capitaliz-",
    r"specialis\w*": "specializ-",
    r"sparsif(?:ication)?is\w*": "sparsif-",
    r"analys(?:e|es|ed|ing)\b": "analyz-",
    r"behaviours?": "behavior",
    r"colour\w*": "color",
    r"neighbour\w*": "neighbor",
    r"favour\w*": "favor",
    r"licences?": "license",
    r"centres?": "center",
    r"centred": "centered",
    r"modell(?:ed|ing)": "modeled",
    r"labell(?:ed|ing)": "labeled",
    r"cancelled": "canceled",
    r"greyscale|grey": "grayscale, gray",
    r"artefacts?": "artifact",
    r"catalogue": "catalog",
    r"whilst|amongst": "while, among",
}
DIALECT = {  # plain technical English
    r"ha(?:s|ve|d) to be": "must be",
    r"learn(?:ed|t) by heart": "memorized",
    r"in (?:what )?doubt": "uncertainty",
    r"is none of": "is not",
    r"for want of": "without",
    r"makes? up for": "compensate",
    r"pays? (?:it|itself|them) (?:back|off)": "say what is gained",
}
NAMES = [  # before the names of the field
    "AnalyticElbo",
    "BoundedLogUniform",
    "CudaReplay",
    "Doubt",
    "HorseshoeScale",
    "InputFactors",
    "LeftOut",
    "NoDensity",
    "NotOnWeights",
    "Replay",
    "Replica",
    "Sites",
    "area_under_roc",
    "as_float16",
    "as_given",
    "as_input",
    "as_one_event",
    "cut_out",
    "exact_products",
    "fit_of_guide",
    "int8_steps",
    "keep_largest",
    "leave_one_out",
    "mask_above",
    "mc_samples",
    "mean_probabilities",
    "name_of",
    "of_one_weight",
    "pair_of",
    "posterior_steps",
    "products_in",
    "quantise",
    "rejection_curve",
    "trace_together",
    "untouched_randomness",
]
ARGUMENTS = {  # of fit
    r"noise=\"(?:local|flipout|weights)\"": "estimator=",
    r"\bfit\([^)]*\brun=": "checkpoint=",
}
OLD = {rf"(?<![\w.\-]){name}(?!\w)": "see CHANGELOG.md" for name in NAMES}
EXEMPT = {
    "tests/test_vocabulary.py",
    "CHANGELOG.md",  # lists the old names
}


def files():
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if name not in EXEMPT and (ROOT / name).exists()]
    return [name for name in names if "/results/" not in name]


FILES = files() if (ROOT / ".git").exists() else []


def found(text):
    """What a text has of the banned words, with the line and the word to use."""
    for words, flags in ((SPELLING, re.IGNORECASE), (DIALECT, re.IGNORECASE), (OLD, 0), (ARGUMENTS, 0)):
        for pattern, better in words.items():
            bounded = pattern if words is ARGUMENTS or pattern.startswith("(?<!") else rf"\b(?:{pattern})(?!\w)"
            for match in re.finditer(bounded, text, flags):
                yield f"line {text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}, say {better!r}"


@pytest.mark.skipif(not FILES, reason="not a checkout")
@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_to_the_vocabulary(name):
    assert list(found((ROOT / name).read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "Initialised",
        "a colour",
        "it has to be",
        "quantise(net)",
        "the Replica steps",
        "grey",
        'fit(noise="weights")',
        "fit(x, run=path)",
    ],
)
def test_the_check_finds_what_it_looks_for(text):
    assert list(found(text))


@pytest.mark.parametrize(
    "text", ["initialized", "must be", "sites", "is realistic", "an analysis", "precise", "agrees"]
)
def test_the_check_leaves_other_words_alone(text):
    assert list(found(text)) == []
