"""Mutants of data, metrics, diagnostics and predictions."""

from tests.mutants.mutant import Mutant

CERTIFICATE = "pyro_vd/diagnostics/risk_certificate.py"
TEST_CERTIFICATE = "tests/diagnostics/test_risk_certificate.py"
PAC_BAYES = "pyro_vd/diagnostics/pac_bayes.py"
TEST_PAC_BAYES = "tests/diagnostics/test_pac_bayes.py"
TEST_SEEN = "tests/inference/test_seen_inputs.py"
DIGESTS = "pyro_vd/data/digests.py"
TEST_BATCH = "tests/inference/test_any_batch.py"
POSTERIOR = "pyro_vd/posterior.py"
PREDICTIVE = "pyro_vd/posterior_predictive.py"
TEST_PREFLIGHT = "tests/inference/test_preflight.py"
TEST_SELECTION = "tests/model/test_selection.py"
IMAGES = "pyro_vd/data/images.py"
METRICS = "pyro_vd/metrics/_checks.py"
TEST_DATA = "tests/data"
TEST_METRICS = "tests/metrics"
TEST_DIAGNOSTICS = "tests/diagnostics"
TEST_VALIDATION = "tests/inference/test_validation.py"

MUTANTS = (
    Mutant("draws out of bounds", POSTERIOR, "            self.guide.project()  #", "            #", TEST_PREFLIGHT),
    Mutant("predictions of nothing", PREDICTIVE, "if num_samples < 1 or not num_inputs:", "if False:", TEST_SELECTION),
    Mutant(
        "a mean of the last draw", PREDICTIVE, "one.lerp_(other, 1 / (number + 1))", "one.copy_(other)", TEST_SELECTION
    ),
    Mutant("16 bits clipped", IMAGES, 'image.mode.startswith("I;16")', "False", TEST_DATA),
    Mutant("unknown range", IMAGES, "if image.mode in WIDE_MODES:", "if False:", TEST_DATA),
    Mutant("transparent pixels", IMAGES, "[:, :, 3].min() < 255", "[:, :, 3].min() < 0", TEST_DATA),
    Mutant(
        "counts of examples unchecked",
        "pyro_vd/data/labeled_images.py",
        "if counts[0] != counts[1]:",
        "if False:",
        TEST_DATA,
    ),
    Mutant(
        "types of images unchecked",
        "pyro_vd/data/labeled_images.py",
        "self.images.dtype not in IMAGE_TYPES",
        "False",
        TEST_DATA,
    ),
    Mutant(
        "types of labels unchecked",
        "pyro_vd/data/splits.py",
        "or part.labels.dtype != torch.int64",
        "or False",
        TEST_DATA,
    ),
    Mutant(
        "no home folder",
        "pyro_vd/data/cache.py",
        "except RuntimeError:  # from pathlib",
        "except ZeroDivisionError:",
        TEST_DATA,
    ),
    Mutant("endless download", "pyro_vd/data/download.py", "response.read(limit + 1)", "response.read()", TEST_DATA),
    Mutant("longer download", "pyro_vd/data/download.py", "if len(content) > limit:", "if False:", TEST_DATA),
    Mutant(
        "counts of CIFAR",
        "pyro_vd/data/cifar.py",
        "if len(found) != expected:",
        "if False:",
        "tests/data/test_cifar.py",
    ),
    Mutant("far suggestions", "pyro_vd/errors.py", "known, n=1)", "known, n=1, cutoff=0.0)", TEST_DATA),
    Mutant("shapes of scores", METRICS, "scores.ndim != len(axes)", "False", TEST_METRICS),
    Mutant("one score a class", METRICS, "if classes < 2:", "if False:", TEST_METRICS),
    Mutant("NaN scores", METRICS, 'if not scores.max().item() < float("inf"):', "if False:", TEST_METRICS),
    Mutant("shapes of labels", METRICS, "labels.shape != (n,)", "False", TEST_METRICS),
    Mutant("real labels", METRICS, "or labels.is_floating_point()", "or False", TEST_METRICS),
    Mutant("labels beyond the classes", METRICS, "if low < 0 or high >= classes:", "if low < 0:", TEST_METRICS),
    Mutant("labels below the classes", METRICS, "if low < 0 or high >= classes:", "if high >= classes:", TEST_METRICS),
    Mutant("logits as probabilities", METRICS, "or off > SUM_TOLERANCE", "or False", TEST_METRICS),
    Mutant("scores of a curve", METRICS, "if scores.ndim != 1 or not len(scores)", "if not len(scores)", TEST_METRICS),
    Mutant(
        "columns of targets",
        "pyro_vd/diagnostics/arviz_data.py",
        "if y.numel() == len(y) else",
        "if False else",
        TEST_DIAGNOSTICS,
    ),
    Mutant(
        "global seed",
        "pyro_vd/diagnostics/_draws.py",
        "with torch.random.fork_rng(",
        "with torch.random.fork_rng(enabled=False, ",
        TEST_DIAGNOSTICS,
    ),
    Mutant(
        "NaN data",
        "pyro_vd/diagnostics/_draws.py",
        "if value.isnan().any():",
        "if False:",
        TEST_DIAGNOSTICS,
    ),
    Mutant(
        "NaN statistic",
        "pyro_vd/diagnostics/predictive_check.py",
        "if np.ndim(value) or np.isnan(value):",
        "if np.ndim(value):",
        TEST_DIAGNOSTICS,
    ),
    Mutant("NaN rank", "pyro_vd/diagnostics/comparison.py", "    if broken:\n", "    if False:\n", TEST_DIAGNOSTICS),
    Mutant(
        "impossible data",
        "pyro_vd/diagnostics/psis.py",
        "if not np.isfinite(log_weights.max()):",
        "if False:",
        TEST_DIAGNOSTICS,
    ),
    Mutant(
        "digest of the data not checked", "pyro_vd/data/idx.py", "digest != sha256", "False", "tests/data/test_idx.py"
    ),
    Mutant(
        "digits in the mirror",
        "pyro_vd/data/augment.py",
        "random_flip(images) if self.flip else images",
        "random_flip(images)",
        "tests/data/test_augment.py",
    ),
    Mutant(
        "an image upside down",
        "pyro_vd/data/augment.py",
        "flipped, images.flip(-1)",
        "flipped, images.flip(-2)",
        "tests/data/test_augment.py",
    ),
    Mutant(
        "a threshold of any number for masks",
        POSTERIOR,
        "return float(defaults.threshold)",
        "return 3.0",
        "tests/test_posterior.py",
    ),
    Mutant(
        "load: a best epoch of another form",
        "pyro_vd/posterior.py",
        "            check_best(best, str(path))\n",
        "",
        "tests/test_posterior.py -kforged_best",
    ),
    Mutant(
        "load: the last epoch for the best",
        "pyro_vd/posterior.py",
        'best["returned"]',
        "False",
        f"{TEST_VALIDATION} -ksame_best_epoch",
    ),
    Mutant(
        "flips: not mirrored",
        "pyro_vd/data/augment.py",
        "net(images.flip(-1))",
        "net(images.flip(-2))",
        "tests/data/test_augment.py",
    ),
    Mutant(
        "batch: an output of another length",
        PREDICTIVE,
        "(not leaf.ndim or len(leaf) != size)",
        "not leaf.ndim",
        f"{TEST_BATCH} -kjoined",
    ),
    Mutant(
        "batch: loo takes one of the targets",
        "pyro_vd/diagnostics/_arviz.py",
        "np.sum(sites, axis=0)",
        "sites[0]",
        "tests/diagnostics/test_arviz_data.py -kadds_the",
    ),
    Mutant(
        "spam: validation messages in the test set",
        "pyro_vd/data/sms_spam.py",
        '"012345", "67", "89',
        '"01234567", "", "89',
        "tests/data/test_sms_spam.py",
    ),
    Mutant(
        "certificate: the draws counted as examples",
        CERTIFICATE,
        "kl, len(y), delta / 2)",
        "kl, num_samples, delta / 2)",
        f"{TEST_CERTIFICATE}::test_the_bound_is_made_of_its_attributes",
    ),
    Mutant(
        "certificate: the draws counted as examples, on problems of known risk",
        CERTIFICATE,
        "kl, len(y), delta / 2)",
        "kl, num_samples * batch_size, delta / 2)",
        f"{TEST_CERTIFICATE}::test_200_bounds_hold_on_problems_of_known_risk",
    ),
    Mutant(
        "certificate: half of the KL",
        CERTIFICATE,
        "bound_gibbs_risk(empirical, kl,",
        "bound_gibbs_risk(empirical, 0.5 * kl,",
        f"{TEST_CERTIFICATE}::test_the_bound_is_made_of_its_attributes",
    ),
    Mutant(
        "certificate: the KL of an example",
        CERTIFICATE,
        "bound_gibbs_risk(empirical, kl,",
        "bound_gibbs_risk(empirical, kl / len(y),",
        f"{TEST_CERTIFICATE}::test_200_bounds_hold_on_problems_of_known_risk",
    ),
    Mutant(
        "certificate: the KL to the posterior's own means",
        CERTIFICATE,
        "Normal(g.mean[q.kept]",
        "Normal(q.mean[q.kept]",
        f"{TEST_CERTIFICATE}::test_the_kl_is_that_of_the_model",
    ),
    Mutant(
        "certificate: reused draws",
        CERTIFICATE,
        "    for number in range(num_samples):\n        index",
        "    for number in range(num_samples):\n        torch.manual_seed(0)\n        index",
        f"{TEST_CERTIFICATE}::test_200_bounds_hold_on_problems_of_known_risk",
    ),
    Mutant(
        "certificate: the draws of the training",
        CERTIFICATE,
        " ^ STREAM",
        "",
        f"{TEST_CERTIFICATE}::test_the_draws_are_not_those_of_a_fit_with_the_same_seed",
    ),
    Mutant(
        "certificate: the sample of draws is free",
        CERTIFICATE,
        "empirical = bound_mean(mean, variance, num_samples, delta / 2)",
        "empirical = mean",
        f"{TEST_CERTIFICATE}::test_200_bounds_hold_on_problems_of_known_risk",
    ),
    Mutant(
        "certificate: delta used twice",
        CERTIFICATE,
        "len(y), delta / 2)",
        "len(y), delta)",
        f"{TEST_CERTIFICATE}::test_the_bound_is_made_of_its_attributes",
    ),
    Mutant(
        "certificate: masks that depend on the examples",
        CERTIFICATE,
        "else prior.masks(threshold)",
        "else posterior.masks(threshold)",
        f"{TEST_CERTIFICATE}::test_the_masks_are_the_priors",
    ),
    Mutant(
        "certificate: a few seen examples are accepted",
        CERTIFICATE,
        "    if known:\n",
        "    if known > 1:\n",
        f"{TEST_CERTIFICATE}::test_a_prior_that_saw_the_data_is_refused",
    ),
    Mutant(
        "certificate: an unknown past is accepted",
        CERTIFICATE,
        "if seen is None or not len(seen):",
        "if seen is None:",
        f"{TEST_CERTIFICATE}::test_an_unknown_past_of_the_prior_must_be_vouched_for",
    ),
    Mutant(
        "certificate: point parameters are not compared",
        CERTIFICATE,
        "    yield from net.named_parameters()\n",
        "",
        f"{TEST_CERTIFICATE}::test_another_network_is_refused",
    ),
    Mutant(
        "certificate: buffers are not compared",
        CERTIFICATE,
        "    yield from net.named_buffers()\n",
        "",
        f"{TEST_CERTIFICATE}::test_running_averages_that_differ_are_refused",
    ),
    Mutant(
        "pac_bayes: the inversion rounds down",
        PAC_BAYES,
        "    return high\n",
        "    return low\n",
        f"{TEST_PAC_BAYES}::test_the_inversion_rounds_up_and_stays_a_probability",
    ),
    Mutant("pac_bayes: sqrt n without the 2", PAC_BAYES, "log(2 * math.sqrt(", "log(math.sqrt(", TEST_PAC_BAYES),
    Mutant("pac_bayes: one side of the mean", PAC_BAYES, "math.log(2 / delta)", "math.log(1 / delta)", TEST_PAC_BAYES),
    Mutant("pac_bayes: Bernstein's variance alone", PAC_BAYES, "7 * log_term", "0 * log_term", TEST_PAC_BAYES),
    Mutant("seen inputs: not loaded", POSTERIOR, "self.model.seen_inputs = seen", "pass", TEST_SEEN),
    Mutant(
        "digests: of rounded pixels", DIGESTS, "to_float(leaf.detach())", "leaf.detach()", "tests/data/test_digests.py"
    ),
    Mutant("digests: two zeros", DIGESTS, ".contiguous() + 0", ".contiguous()", "tests/data/test_digests.py"),
)
