"""Mutants of priors, posteriors, KLs, handlers and the lifted model."""

from tests.mutants.mutant import Mutant

KL = "pyro_vd/kl.py"
WN = "pyro_vd/posteriors/weight_normal.py"
RULES = "pyro_vd/handlers/rules/gaussian.py"
TEST_KL = "tests/test_kl.py tests/test_special.py tests/test_golden.py tests/priors tests/posteriors"
TEST_LOCAL = "tests/handlers/test_local_reparam.py"
INPUT = "pyro_vd/handlers/rules/input_noise.py"
TEST_INPUT = "tests/posteriors/test_input_noise.py tests/handlers/rules/test_input_noise.py"
TEST_SERIES = " ".join(
    f"tests/guides/test_{name}.py"
    for name in (
        "bernoulli", "gaussian_srivastava", "gaussian_wang", "variational_a", "variational_b", "sparse", "hierarchical",
        "hierarchical_a",
    )
)  # fmt: skip
TEST_GOLDEN = "tests/test_golden.py"
TEST_NUMERICS = "tests/test_numerics.py"
TEST_BATCH = "tests/inference/test_any_batch.py"
SMOOTHED = "pyro_vd/model/smoothed_categorical.py"
TEST_SMOOTHED = "tests/model/test_smoothed_categorical.py"
PAIR = "pyro_vd/model/pair.py"
BATCH_NORM = "pyro_vd/model/batch_norm.py"
CHECKING = "tests/inference/test_resume_checks.py"
FORGED = (
    f"{CHECKING}::test_a_forged_tensor_is_refused_before_anything_is_touched "
    f"{CHECKING}::test_forged_metadata_is_refused_before_anything_is_touched "
    "tests/test_posterior.py::test_a_forged_posterior_is_not_loaded"
)
TEST_PRECISION = "tests/handlers/test_matmul_precision.py"
LIFT = "pyro_vd/model/lift.py"
REGISTERED = "pyro_vd/model/param_store.py"
SELECTION = "pyro_vd/model/selection.py"
TEST_TARGETS = "tests/model/test_targets.py"
TEST_PREFLIGHT = "tests/inference/test_preflight.py"
TEST_SELECTION = "tests/model/test_selection.py"
HIERARCHICAL_NORMAL = "pyro_vd/priors/hierarchical_normal.py"
TEST_HIERARCHICAL_NORMAL = "tests/priors/test_hierarchical_normal.py"

MUTANTS = (
    Mutant("sign of k3", KL, "(K3 * inverse", "(-K3 * inverse", TEST_KL),
    Mutant("a digit of k2", KL, "1.87320", "1.83720", TEST_KL),
    Mutant("no one half in the KL", KL, "return 0.5 * inverse_alpha.log1p()", "return inverse_alpha.log1p()", TEST_KL),
    Mutant("log instead of log1p", KL, "inverse_alpha.log1p()", "inverse_alpha.log()", TEST_KL),
    Mutant("log1p by hand", KL, "inverse_alpha.log1p()", "(1 + inverse_alpha).log()", TEST_KL),
    Mutant("exact and fit swapped", KL, '"exact": _kl_exact', '"exact": _kl_molchanov', TEST_KL),
    Mutant(
        "hierarchical with the fit",
        KL,
        "return _kl_scale_free(q.inverse_alpha)",
        "return _kl_scale_free(q.inverse_alpha) + _molchanov_excess(q.inverse_alpha)",
        f"{TEST_KL} tests/test_elbo.py",
    ),
    Mutant("KL to Normal without the entropy", KL, "- 1 - q.log_sigma2", "- 1", f"{TEST_KL} tests/test_elbo.py"),
    Mutant(
        "an epsilon in theta squared",
        WN,
        "self.theta.square() * inverse",
        "(self.theta.square() + 1e-8) * inverse",
        TEST_KL,
    ),
    Mutant(
        "log of theta squared",
        WN,
        "self.theta.square() * inverse",
        "(self.theta.square().log() - self._noise_param).exp()",
        TEST_KL,
    ),
    Mutant(
        "a clamp in the forward pass",
        WN,
        "self.theta.square() * inverse",
        "(self.theta.square() * inverse).clamp(3e-4, 3e3)",
        TEST_KL,
    ),
    Mutant(
        "sigma for sigma squared",
        WN,
        "        return self._noise_param.exp()\n\n    @property\n    def stddev",
        "        return (0.5 * self._noise_param).exp()\n\n    @property\n    def stddev",
        f"{TEST_KL} {TEST_LOCAL}",
    ),
    Mutant("constant of the log-uniform density", "pyro_vd/priors/log_uniform.py", "-2.05411", "-2.06411", TEST_KL),
    Mutant(
        "bias in the variance",
        RULES,
        "bias_variance = _variance(bias) if isinstance(bias, NoisyWeight) else None",
        "bias_variance = bias if not isinstance(bias, NoisyWeight) else _variance(bias)",
        TEST_LOCAL,
    ),
    Mutant("x for x squared", RULES, "op(input.to(weight.dtype).square(),", "op(input,", TEST_LOCAL),
    Mutant("padding dropped from the variance", RULES, "bias_variance, *args, **kwargs)", "bias_variance)", TEST_LOCAL),
    Mutant(
        "no square root",
        RULES,
        ".clamp(min=VARIANCE_FLOOR).sqrt() * _noise_like",
        ".clamp(min=VARIANCE_FLOOR) * _noise_like",
        TEST_LOCAL,
    ),
    Mutant("no variance floor", RULES, "variance.clamp(min=VARIANCE_FLOOR).sqrt()", "variance.sqrt()", TEST_LOCAL),
    Mutant("a floor of a unit", RULES, "VARIANCE_FLOOR = 1e-30", "VARIANCE_FLOOR = 1e-8", TEST_LOCAL),
    Mutant("an added floor", RULES, "variance.clamp(min=VARIANCE_FLOOR)", "(variance + VARIANCE_FLOOR)", TEST_LOCAL),
    Mutant("one noise for the batch", RULES, "_noise_like(mean)\n", "_noise_like(mean[:1])\n", TEST_LOCAL),
    Mutant("sigma detached", RULES, "return weight.q.variance if", "return weight.q.variance.detach() if", TEST_LOCAL),
    Mutant(
        "masking the wrong side",
        "pyro_vd/posteriors/train_mask.py",
        "> least * q.variance",
        "< least * q.variance",
        TEST_LOCAL,
    ),
    Mutant(
        "weights masked before they start",
        "pyro_vd/posteriors/train_mask.py",
        "below if started is None else below | ~started",
        "below",
        "tests/posteriors/test_train_mask.py",
    ),
    Mutant(
        "all started by an infinite threshold",
        "pyro_vd/posteriors/train_mask.py",
        "if math.isfinite(threshold):",
        "if True:",
        "tests/posteriors/test_train_mask.py",
    ),
    Mutant(
        "mask linear for squared in the variance",
        RULES,
        "_variance(weight) * factor.square()",
        "_variance(weight) * factor.abs()",
        TEST_LOCAL,
    ),
    Mutant(
        "KL weight on the likelihood too",
        "pyro_vd/handlers/kl_weight.py",
        'if not msg["is_observed"]:',
        "if True:",
        "tests/handlers/test_kl_weight.py",
    ),
    Mutant(
        "no N/B",
        "pyro_vd/model/lift.py",
        "poutine.scale(scale=self.num_data / count(y, OBSERVED))",
        "poutine.scale(scale=1.0)",
        "tests/test_elbo.py tests/model/test_lift.py",
    ),
    Mutant(
        "parameters hidden from Pyro",
        "pyro_vd/model/param_store.py",
        "pyro.param(key, parameter)",
        "pass",
        "tests/test_stock_pyro.py tests/guides",
    ),
    Mutant("one name for every module", "pyro_vd/model/param_store.py", "secrets.token_hex(6)", "0", "tests/guides"),
    Mutant(
        "no projection",
        "pyro_vd/model/weight_guide.py",
        "self.get_parameter(name).data.clamp_(low, high)",
        "pass",
        "tests/guides",
    ),
    Mutant(
        "threshold not strict",
        "pyro_vd/model/weight_guide.py",
        "q.log_alpha < threshold",
        "q.log_alpha <= threshold",
        "tests/guides tests/test_posterior.py",
    ),
    Mutant(
        "projected once only",
        "pyro_vd/model/weight_guide.py",
        "and self._versions() != self._projected:",
        "and not self._projected:",
        TEST_SERIES,
    ),
    Mutant(
        "targets that broadcast",
        "pyro_vd/model/targets.py",
        "        check_target_shape(target, found[site], site)\n",
        "        pass\n",
        TEST_TARGETS,
    ),
    Mutant("image logits either way", "pyro_vd/model/targets.py", "len(shape) > 2 and", "False and", TEST_TARGETS),
    Mutant("a support of one example", "pyro_vd/model/targets.py", 'getattr(bound, "ndim", 0)', "False", TEST_TARGETS),
    Mutant(
        "infinite targets",
        "pyro_vd/model/targets.py",
        "valid = valid & (finite",
        "valid = valid | (~finite",
        TEST_TARGETS,
    ),
    Mutant("whole targets of Bernoulli", LIFT, "obs=as_target(*one)", "obs=one.y", TEST_TARGETS),
    Mutant("what others train", "pyro_vd/model/ownership.py", "trained |= {id(tensor)", "{id(tensor)", TEST_PREFLIGHT),
    Mutant("another model's guide", LIFT, "if value.shape[-len(shape) :] != shape:", "if False:", TEST_PREFLIGHT),
    Mutant("random priors", LIFT, "if calls.names:", "if False:", TEST_PREFLIGHT),
    Mutant("learned priors", LIFT, "tensor.requires_grad for tensor", "False for tensor", TEST_PREFLIGHT),
    Mutant("several draws", LIFT, "if value.shape == shape:", "if True:", TEST_PREFLIGHT),
    Mutant(
        "weights out of parameters()",
        LIFT,
        " parameters[attribute] = value",
        " self.net.get_submodule(path).__dict__[attribute] = value",
        TEST_PREFLIGHT,
    ),
    Mutant("loaded stores", REGISTERED, "        _refuse_loaded(store)\n", "", TEST_PREFLIGHT),
    Mutant(
        "weak references in pickles",
        REGISTERED,
        'parameter.__dict__.pop("unconstrained", None)',
        "pass",
        TEST_PREFLIGHT,
    ),
    Mutant("tied by the first name alone", SELECTION, "if any(wanted(", "if all(wanted(", TEST_SELECTION),
    Mutant("frozen weights taken", SELECTION, "parameter.requires_grad and _is", "_is", TEST_SELECTION),
    Mutant("half of attention", SELECTION, "return attribute in PROJECTIONS", "return False", TEST_SELECTION),
    Mutant("frozen parts trained", LIFT, "self.net.get_submodule(name).training = False", "pass", TEST_SELECTION),
    Mutant("frozen averages anew", BATCH_NORM, " and name not in fixed", "", TEST_SELECTION),
    Mutant("masks of any model", "pyro_vd/model/masks.py", "if wrong:", "if False:", "tests/model/test_masks.py"),
    Mutant(
        "averages of one class each",
        BATCH_NORM,
        "in order.tensor_split",
        "in order.sort().values.tensor_split",
        "tests/test_posterior.py",
    ),
    Mutant(
        "checkpoint: parameters not finite",
        PAIR,
        "elif isinstance(expected, nn.Parameter) and",
        "elif False and",
        FORGED,
    ),
    Mutant(
        "checkpoint: extra tensors",
        PAIR,
        'f"unexpected {name}" for name in given',
        'f"unexpected {name}" for name in ()',
        FORGED,
    ),
    Mutant(
        "noise along the outputs",
        "pyro_vd/posteriors/input_noise.py",
        "before, after = self.dim, self.theta.ndim - self.dim - 1",
        "before, after = self.theta.ndim - self.dim - 1, self.dim",
        TEST_INPUT,
    ),
    Mutant("one input noise for the batch", INPUT, "    shape[0] = -1\n", "", TEST_INPUT),
    Mutant("no input mask", INPUT, "0.0, q.noise.mean)", "0.0, 0.0)", TEST_INPUT),
    Mutant(
        "dropout without rescaling",
        "pyro_vd/posteriors/scaled_bernoulli.py",
        "retention.expand(self._extended_shape(sample_shape))) / retention",
        "retention.expand(self._extended_shape(sample_shape)))",
        TEST_INPUT,
    ),
    Mutant(
        "a channel's KL once per position",
        KL,
        "return _kl_of_noise(q.noise, p, p)",
        "return _kl_of_noise(q.noise, p, p).expand(q.inputs)",
        f"{TEST_INPUT} {TEST_SERIES}",
    ),
    Mutant("a digit of Kingma's cubic", KL, "alpha * (C2 + alpha * C3)", "alpha * (C2 - alpha * C3)", TEST_INPUT),
    Mutant(
        "no projection under stock SVI",
        "pyro_vd/model/weight_guide.py",
        "            self.project()\n",
        "            pass\n",
        TEST_SERIES,
    ),
    Mutant("Kingma's cubic beyond 1", KL, "    inverse_alpha = inverse_alpha.clamp(min=1.0)\n", "", TEST_INPUT),
    Mutant("transposed inputs", "pyro_vd/model/layers.py", "        return 0\n", "        return 1\n", TEST_SERIES),
    Mutant(
        "gamma shared along the outputs",
        "pyro_vd/priors/sharing.py",
        '"unit": (dim % max(ndim, 1),)',
        '"unit": (0,)',
        TEST_GOLDEN,
    ),
    Mutant("a mean not folded", KL, "distance * z.erf()", "distance.abs()", TEST_GOLDEN),
    Mutant("a sampled KL without entropy", KL, "return -q.entropy() - p.log", "return -p.log", TEST_GOLDEN),
    Mutant("gates by value", KL, "p.cost * q.active", "p.cost * q.mean", TEST_GOLDEN),
    Mutant("Gamma of shape 1", KL, "- 0.5 * (q.mu - log", "- 1.0 * (q.mu - log", TEST_GOLDEN),
    Mutant("tau0 for its square", KL, "layer_gamma, 2 * math", "layer_gamma, math", TEST_GOLDEN),
    Mutant("decay without 1 / (1 - p)", KL, " * (1 + q.on_weights(q.noise.logit_p).exp())", "", TEST_GOLDEN),
    Mutant("sign of the upper end", KL, "density(q.lower) - q.upper", "density(q.lower) + q.upper", TEST_GOLDEN),
    Mutant(
        "tau the wrong way",
        "pyro_vd/priors/horseshoe.py",
        "(value / self.tau).square()",
        "(value * self.tau).square()",
        TEST_GOLDEN,
    ),
    Mutant(
        "a gate's range", "pyro_vd/posteriors/hard_concrete.py", "LOW, HIGH = -0.1", "LOW, HIGH = -0.2", TEST_GOLDEN
    ),
    Mutant(
        "a scale without variance",
        "pyro_vd/posteriors/group_scale.py",
        "return spread + self.on_weights",
        "return self.on_weights",
        TEST_INPUT,
    ),
    Mutant("a scale on means alone", INPUT, "if isinstance(q, GroupScale):", "if False:", TEST_INPUT),
    Mutant("variances rounded", RULES, "with full_precision(), ExitStack", "with ExitStack", TEST_PRECISION),
    Mutant("means not rounded", RULES, "mean = call_with_cast(op, input", "mean = op(input", TEST_PRECISION),
    Mutant(
        "results in bfloat16", "pyro_vd/handlers/rules/casting.py", "result.float() if", "result if", TEST_PRECISION
    ),
    Mutant("variances under autocast", RULES, "weight.device.type, enabled=False", "weight.device.type", TEST_NUMERICS),
    Mutant(
        "flipout without signs",
        "pyro_vd/handlers/flipout.py",
        "return x * self._signs_of(side, examples, x.shape[units_dim]).reshape(shape)",
        "return x",
        "tests/handlers/test_flipout.py",
    ),
    Mutant(
        "masks that broadcast",
        "pyro_vd/model/masks.py",
        "if (tuple(mask.shape), mask.dtype) != (shape, torch.bool):",
        "if mask.dtype != torch.bool:",
        "tests/model/test_masks.py tests/compress/test_prune.py",
    ),
    Mutant(
        "hierarchical normal: the KL counts once a weight",
        KL,
        "(log_norm - of_prior) / count",
        "(log_norm - of_prior)",
        TEST_HIERARCHICAL_NORMAL,
    ),
    Mutant(
        "hierarchical normal: means without their variances",
        HIERARCHICAL_NORMAL,
        "q.mean.square() + q.variance",
        "q.mean.square()",
        TEST_HIERARCHICAL_NORMAL,
    ),
    Mutant(
        "hierarchical normal: variances of single weights in samples",
        HIERARCHICAL_NORMAL,
        "            group[dim] = 1\n",
        "            pass\n",
        TEST_HIERARCHICAL_NORMAL,
    ),
    Mutant(
        "hierarchical normal: the joint density for each weight",
        HIERARCHICAL_NORMAL,
        "(joint / count).expand_as(value)",
        "joint.expand_as(value)",
        TEST_HIERARCHICAL_NORMAL,
    ),
    Mutant(
        "sharing: a dimension that is wrapped around",
        "pyro_vd/priors/sharing.py",
        "not -ndim <= dim < max(ndim, 2)",
        "False",
        "tests/priors/test_sharing.py",
    ),
    Mutant("smoothing: the chosen label twice", SMOOTHED, "(1 - self.smoothing) * chosen", "chosen", TEST_SMOOTHED),
    Mutant("smoothing: a sum over labels", SMOOTHED, "logits.mean(-1)", "logits.sum(-1)", TEST_SMOOTHED),
    Mutant(
        "smoothing: lost when expanded", SMOOTHED, "        expanded.smoothing = self.smoothing\n", "", TEST_SMOOTHED
    ),
    Mutant(
        "batch: the last target alone counts",
        "pyro_vd/model/lift.py",
        "for site, one in observed.items():\n                    pyro.sample(",
        "for site, one in list(observed.items())[-1:]:\n                    pyro.sample(",
        f"{TEST_BATCH} -kheads",
    ),
    Mutant(
        "batch: a target and a weight of one name",
        "pyro_vd/model/lift.py",
        "        if taken:",
        "        if False:",
        f"{TEST_BATCH} -kone_name",
    ),
    Mutant(
        "batch: targets of one name",
        "pyro_vd/model/targets.py",
        "if len(sites) < len(leaves):",
        "if False:",
        f"{TEST_BATCH} -kbad_input",
    ),
    Mutant(
        "batch: other keys of the targets",
        "pyro_vd/model/targets.py",
        "if distributions.keys() != found.keys():",
        "if len(distributions) != len(found):",
        f"{TEST_BATCH} -kbad_input",
    ),
    Mutant(
        "batch: an ignored label counts",
        "pyro_vd/model/likelihoods.py",
        "return chosen.masked_fill(is_ignored, 0.0)",
        "return chosen",
        "tests/model/test_targets.py -kignored",
    ),
    Mutant(
        "batch: any label is in the support",
        "pyro_vd/model/likelihoods.py",
        "(value >= 0) & (value < self.classes)",
        "(value >= 0)",
        "tests/model/test_targets.py -kignored",
    ),
)
