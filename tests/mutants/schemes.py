"""Mutants of guides and networks."""

from tests.mutants.mutant import Mutant

TEST_SERIES = " ".join(
    f"tests/guides/test_{name}.py"
    for name in (
        "bernoulli", "gaussian_srivastava", "gaussian_wang", "variational_a", "variational_b", "sparse", "hierarchical",
        "hierarchical_a",
    )
)  # fmt: skip
RESNET9 = "models/resnet9.py"
TEST_MLP = "tests/models/test_mlp.py"

MUTANTS = (
    Mutant("p for alpha", "guides/_drop_probabilities.py", "math.log(p / (1 - p))", "math.log(p)", TEST_SERIES),
    Mutant(
        "alpha shared along the outputs",
        "guides/_gaussian.py",
        "ones[dim] = shape[dim]",
        "ones[0] = shape[0]",
        TEST_SERIES,
    ),
    Mutant(
        "type A without projection",
        "guides/_input_noise.py",
        'self.site_bounds("log_alpha", self.log_alpha_min, self.log_alpha_max)',
        "{}",
        TEST_SERIES,
    ),
    Mutant("alpha above 1", "guides/variational_b.py", "log_alpha_max = 0.0", "log_alpha_max = 1.0", TEST_SERIES),
    Mutant(
        "another rate for the noise of units",
        "guides/group_normal_jeffreys.py",
        "noise_lr=3.0)",
        "noise_lr=10.0)",
        "tests/experiments/test_protocols.py::test_a_scheme_is_trained_and_pruned_in_its_own_way",
    ),
    Mutant(
        "channels-last: noise",
        "guides/_gaussian.py",
        "if shape == theta.shape else",
        "if False else",
        "tests/test_memory_format.py",
    ),
    Mutant(
        "whitening: variances",
        RESNET9,
        "(components / (variances + EPS).sqrt())",
        "(components / (variances + EPS))",
        "tests/models/test_resnet9.py",
    ),
    Mutant("whitening: rows for columns", RESNET9, ".sqrt()).T)", ".sqrt()))", "tests/models/test_resnet9.py"),
    Mutant(
        "resnet9: flips in training",
        RESNET9,
        "self.flip and not self.training",
        "self.flip",
        "tests/models/test_resnet9.py",
    ),
    Mutant("mlp: noise at test time", "models/mlp.py", "if self.noise and self.training:", "if self.noise:", TEST_MLP),
    Mutant(
        "mlp: noise of the variance that is asked for",
        "models/mlp.py",
        "self.noise * torch.randn_like(x)",
        "self.noise**0.5 * torch.randn_like(x)",
        TEST_MLP,
    ),
    Mutant("mlp: the usual initial weights", "models/mlp.py", "if std is not None:", "if std is None:", TEST_MLP),
)
