"""Every module has a test file of its name in the same place under tests/, or stands here with a reason."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pyro_vd", "guides", "models", "examples")  # commands of experiments are tested end to end
GROUPS = [  # where modules without a test file of their own are tested, and why
    (
        "tests/guides/test_guides.py",
        "bases of schemes: tested by the properties that all schemes share",
        ["guides/_drop_probabilities.py", "guides/_gaussian.py", "guides/_group_scale.py", "guides/_input_noise.py"],
    ),
    (
        "tests/handlers/test_matmul_precision.py",
        "read by the handler that sets it",
        ["pyro_vd/handlers/rules/casting.py"],
    ),
    (
        "tests/handlers/test_local_reparam.py",
        "rules are seen through the handler",
        [
            "pyro_vd/handlers/rules/gaussian.py",
            "pyro_vd/handlers/rules/noisy_weight.py",
            "pyro_vd/handlers/rules/operations.py",
        ],
    ),
    (
        "tests/inference/engine/test_engine.py",
        "one step in several forms, which are compared with each other",
        [
            "pyro_vd/inference/engine/compiled_step.py",
            "pyro_vd/inference/engine/eager_step.py",
            "pyro_vd/inference/engine/objective.py",
            "pyro_vd/inference/engine/step_output.py",
        ],
    ),
    ("tests/data/test_cifar.py", "archives are read by their datasets", ["pyro_vd/data/archive.py"]),
    ("tests/test_cuda.py", "needs a GPU", ["pyro_vd/inference/engine/cuda_graph_step.py"]),
    ("tests/inference/test_fit_seeds.py", "the engine of fit_seeds", ["pyro_vd/inference/engine/ensemble.py"]),
    (
        "tests/inference/test_batches.py",
        "parts of batches",
        ["pyro_vd/inference/epoch_generator.py", "pyro_vd/inference/examples.py"],
    ),
    ("tests/inference/test_resume.py", "what a resumed run compares", ["pyro_vd/inference/identity.py"]),
    ("tests/inference/test_training.py", "checks of the fields of Training", ["pyro_vd/inference/user_numbers.py"]),
    (
        "tests/test_posterior.py",
        "parts of Posterior",
        ["pyro_vd/model/batch_norm.py", "pyro_vd/model/eval_mode.py", "pyro_vd/model/pair.py"],
    ),
    (
        "tests/model/test_lift.py",
        "parts of lift",
        ["pyro_vd/model/event.py", "pyro_vd/model/record_calls.py", "pyro_vd/model/site_parameters.py"],
    ),
    ("tests/model/test_targets.py", "seen in the targets that they accept", ["pyro_vd/model/likelihoods.py"]),
    ("tests/compress/test_export.py", "parts of an export", ["pyro_vd/compress/onnx_names.py"]),
    ("tests/model/test_real_likelihoods.py", "arguments of likelihoods", ["pyro_vd/model/positive_number.py"]),
    ("tests/inference/test_preflight.py", "a check before the first step", ["pyro_vd/model/ownership.py"]),
    ("tests/test_stock_pyro.py", "exists for stock SVI", ["pyro_vd/model/param_store.py"]),
    (
        "tests/guides/test_concrete.py",
        "the posterior of one scheme",
        ["pyro_vd/posteriors/concrete_dropout.py", "pyro_vd/posteriors/scaled_concrete.py"],
    ),
    (
        "tests/guides/test_group_normal_jeffreys.py",
        "the posterior of the group schemes",
        ["pyro_vd/posteriors/group_scale.py"],
    ),
    ("tests/guides/test_l0.py", "the posterior of one scheme", ["pyro_vd/posteriors/hard_concrete.py"]),
    ("tests/guides/test_group_horseshoe.py", "the posterior of one scheme", ["pyro_vd/posteriors/log_normal_scale.py"]),
    ("tests/guides/test_bernoulli.py", "the posterior of one scheme", ["pyro_vd/posteriors/scaled_bernoulli.py"]),
    (
        "tests/guides/test_structured_log_normal.py",
        "the posterior of one scheme",
        ["pyro_vd/posteriors/truncated_log_normal.py"],
    ),
    (
        "tests/test_kl.py",
        "a prior is seen in its KL",
        [
            "pyro_vd/priors/empirical_bayes.py",
            "pyro_vd/priors/flat.py",
            "pyro_vd/priors/group_horseshoe.py",
            "pyro_vd/priors/group_normal_jeffreys.py",
            "pyro_vd/priors/l0.py",
            "pyro_vd/priors/truncated_log_uniform.py",
        ],
    ),
    (
        "tests/compress/c/test_export.py",
        "parts of a C file, which are compiled together",
        [
            "pyro_vd/compress/c/calls.py",
            "pyro_vd/compress/c/emit.py",
            "pyro_vd/compress/c/layers.py",
            "pyro_vd/compress/c/readers.py",
            "pyro_vd/compress/c/source.py",
            "pyro_vd/compress/c/steps.py",
        ],
    ),
    (
        "tests/priors/test_monte_carlo.py",
        "priors of a sampled KL",
        ["pyro_vd/priors/horseshoe.py", "pyro_vd/priors/spike_and_slab.py"],
    ),
]
ELSEWHERE = {module: test for test, _, modules in GROUPS for module in modules}


def mirror_of(module):
    """pyro_vd/kl.py -> tests/test_kl.py, guides/sparse.py -> tests/guides/test_sparse.py."""
    parts = module.relative_to(ROOT).parts
    folder = parts[1:-1] if parts[0] == "pyro_vd" else parts[:-1]
    return ROOT.joinpath("tests", *folder, f"test_{module.stem.lstrip('_')}.py")


MODULES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_a_module_has_a_test_file(module):
    name = module.relative_to(ROOT).as_posix()
    if name in ELSEWHERE:
        assert (ROOT / ELSEWHERE[name]).exists()
        assert not mirror_of(module).exists(), "it has a test file now: take it off the list"
    else:
        assert mirror_of(module).exists()


def test_the_list_names_modules():
    assert ELSEWHERE.keys() <= {path.relative_to(ROOT).as_posix() for path in MODULES}
