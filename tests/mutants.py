"""Breaks the library on purpose, one line at a time, and fails if the tests do not notice.

``python -m tests.mutants`` runs, for each mutant, the tests that ought to kill it, on a copy of the tree;
``python -m tests.mutants pretraining masks`` for those whose name holds one of these words.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in ``file``; at least one of ``tests`` has to fail."""

    what: str
    file: str
    old: str
    new: str
    tests: str


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
LORA, TEST_LORA, TEST_RANKS = "pyro_vd/lora.py", "tests/test_lora.py", "tests/experiments/test_lora_ranks.py"
CERTIFICATE, TEST_CERTIFICATE = "pyro_vd/diagnostics/risk_certificate.py", "tests/diagnostics/test_risk_certificate.py"
PAC_BAYES, TEST_PAC_BAYES = "pyro_vd/diagnostics/pac_bayes.py", "tests/diagnostics/test_pac_bayes.py"
SEEN, TEST_SEEN = "pyro_vd/inference/seen_inputs.py", "tests/inference/test_seen_inputs.py"
DIGESTS, TEST_DIGESTS = "pyro_vd/data/digests.py", "tests/data/test_digests.py"
TEST_GOLDEN = "tests/test_golden.py"
TEST_NUMERICS = "tests/test_numerics.py"
STEP = "pyro_vd/inference/engine/compiled_step.py"
ADAM = "pyro_vd/optim/adam.py"
SGD = "pyro_vd/optim/sgd.py"
UPDATE = "pyro_vd/inference/engine/update.py"
TEST_OPTIM = "tests/optim"
TEST_UPDATE = "tests/inference/engine/test_update.py"
TEST_ENGINE = "tests/inference/engine/test_engine.py"
ENSEMBLE = "pyro_vd/inference/engine/ensemble.py"
EXAMPLES = "pyro_vd/inference/examples.py"
PYTREE = "pyro_vd/pytree.py"
TEST_PYTREE = "tests/test_pytree.py"
TEST_BATCH = "tests/inference/test_any_batch.py"
LOOP = "pyro_vd/inference/loop.py"
SCHEDULES = "pyro_vd/inference/schedules.py"
TEST_SCHEDULES = "tests/inference/test_schedules.py"
TEST_CYCLE = "tests/inference/test_loop.py tests/inference/test_resume.py"
SMOOTHED = "pyro_vd/model/smoothed_categorical.py"
TEST_SMOOTHED = "tests/model/test_smoothed_categorical.py"
RESNET9 = "models/resnet9.py"
PHASES = "experiments/common/phases.py"
RESUME = "pyro_vd/inference/resume.py"
RESUME_CHECKS = "pyro_vd/inference/resume_checks.py"
IDENTITY = "pyro_vd/inference/identity.py"
LOCK = "pyro_vd/inference/lock.py"
CHECKPOINT = "pyro_vd/checkpoint.py"
FILES = "pyro_vd/files.py"
LOADERS = "pyro_vd/inference/loaders.py"
POSTERIOR = "pyro_vd/posterior.py"
PREDICTIVE = "pyro_vd/posterior_predictive.py"
PAIR = "pyro_vd/model/pair.py"
BATCH_NORM = "pyro_vd/model/batch_norm.py"
RESUMING, LOADING, CHECKING, LOCKING = (
    f"tests/inference/test_{name}.py" for name in ("resume", "loaders", "resume_checks", "lock")
)
SAVING = "tests/test_checkpoint.py"
FORGED = (
    f"{CHECKING}::test_a_forged_tensor_is_refused_before_anything_is_touched "
    f"{CHECKING}::test_forged_metadata_is_refused_before_anything_is_touched "
    "tests/test_posterior.py::test_a_forged_posterior_is_not_loaded"
)
TEST_PRECISION = "tests/handlers/test_matmul_precision.py"
TEST_SEEDS = "tests/inference/test_fit_seeds.py"
APPLY, FUNCTIONS, MODULES, MOVEMENTS, PRODUCTS, MERGES, CONSTANTS = (
    f"pyro_vd/compress/rules/{name}.py"
    for name in ("apply", "functions", "modules", "movements", "products", "merges", "constants")
)
TRACE, LAYERS, SIZES, ATTENTION, RECURRENT, TRANSFORMER = (
    f"pyro_vd/compress/{name}.py"
    for name in ("trace_channels", "layers", "sizes", "attention", "recurrent", "transformer_forward")
)
TEST_ATTENTION, TEST_RECURRENT, TEST_TRANSFORMER, TEST_SIZES = (
    f"tests/compress/test_{name}.py" for name in ("attention", "recurrent", "transformer_forward", "sizes")
)
SLICING = "pyro_vd/compress/slicing.py"
SHRINK = "pyro_vd/compress/shrink.py"
DEAD = "pyro_vd/compress/dead_units.py"
DESSILBI, PATH = "pyro_vd/optim/dessilbi.py", "pyro_vd/optim/dessilbi_path.py"
PATH_MEASURES = "experiments/common/path_measures.py"
TEST_DESSILBI, TEST_PATH = "tests/optim/test_dessilbi.py", "tests/optim/test_dessilbi_path.py"
TEST_STUDY = "tests/experiments/test_dessilbi.py"
STORAGE = "pyro_vd/compress/storage.py"
CODING = "pyro_vd/compress/coding.py"
BITS = "pyro_vd/compress/adaptive_bits.py"
MASKS = "pyro_vd/compress/mask_model.py"
TENSORS = "pyro_vd/compress/tensor_model.py"
COMPACT = "pyro_vd/compress/compact.py"
LAYOUT = "pyro_vd/compress/layout.py"
RANDOM_CODE, TEST_RANDOM_CODE = "pyro_vd/compress/random_code", "tests/compress/random_code"
GRIDS = "pyro_vd/compress/grids.py"
RESIZE = "pyro_vd/compress/resize.py"
DECOMPRESS = "pyro_vd/decompress.py"
REPORT = "pyro_vd/compress/report.py"
EXPORT = "pyro_vd/compress/export.py"
INT8 = "pyro_vd/compress/int8.py"
C_KERNELS = "pyro_vd/compress/c/kernels"
TEST_C = "tests/compress/c/test_export.py"
PATTERNS = "pyro_vd/compress/patterns.py"
QUANTIZE = "pyro_vd/compress/quantize.py"
TEST_SHRINK = "tests/compress/test_shrink.py"
TEST_STORAGE = "tests/compress/test_storage.py"
TEST_RESIZE = "tests/compress/test_resize.py"
TEST_CODING = "tests/compress/test_coding.py"
TEST_BITS = "tests/compress/test_adaptive_bits.py"
TEST_MASKS = "tests/compress/test_mask_model.py"
TEST_COMPACT = "tests/compress/test_compact.py"
TEST_TENSORS = "tests/compress/test_tensor_model.py"
TEST_GRIDS = "tests/compress/test_grids.py"
TEST_DEAD = "tests/compress/test_dead_units.py"
TEST_APPLY, TEST_FUNCTIONS, TEST_MODULES, TEST_MOVEMENTS, TEST_PRODUCTS, TEST_MERGES = (
    f"tests/compress/rules/test_{name}.py"
    for name in ("apply", "functions", "modules", "movements", "products", "merges")
)
TEST_CONSTANTS = "tests/compress/rules/test_constants.py"
TEST_SHRINK_KINDS = "tests/compress/test_shrink_kinds.py"
TEST_SLICING = "tests/compress/test_slicing.py"
TEST_DECOMPRESS = "tests/test_decompress.py"
TEST_REPORT = "tests/compress/test_report.py"
TEST_EXPORT = "tests/compress/test_export.py"
SPARSIFY = "pyro_vd/sparsify.py"
TARGETS = "pyro_vd/compress/targets.py"
MULTIPLICATIONS = "pyro_vd/compress/multiplications.py"
TEST_SPARSIFY = "tests/test_sparsify.py"
TEST_TARGETS_OF_PRUNING = "tests/compress/test_targets.py"
TEST_MULTIPLICATIONS = "tests/compress/test_multiplications.py"
TEST_OWN = "tests/experiments/test_compress.py"
TEST_INT8 = "tests/compress/test_int8.py"
TEST_PATTERNS = "tests/compress/test_patterns.py"
TEST_QUANTIZE = "tests/compress/test_quantize.py"
LIFT = "pyro_vd/model/lift.py"
PREFLIGHT = "pyro_vd/inference/preflight.py"
ENGINE = "pyro_vd/inference/engine/engine.py"
PYTHON_STATE = "pyro_vd/inference/engine/python_state.py"
REGISTERED = "pyro_vd/model/param_store.py"
SVI = "pyro_vd/inference/fit.py"
SELECTION = "pyro_vd/model/selection.py"
TEST_TARGETS = "tests/model/test_targets.py"
TEST_PREFLIGHT = "tests/inference/test_preflight.py"
TEST_SELECTION = "tests/model/test_selection.py"
TEST_PYTHON_STATE = "tests/inference/engine/test_python_state.py"
TEST_RANDOM_STATE = "tests/inference/test_random_state.py"
IMAGES = "pyro_vd/data/images.py"
METRICS = "pyro_vd/metrics/_checks.py"
PROGRESS = "pyro_vd/inference/progress.py"
CLI = "experiments/common/cli.py"
RECORDS = "experiments/common/records.py"
TEST_DATA = "tests/data"
TEST_METRICS = "tests/metrics"
TEST_DIAGNOSTICS = "tests/diagnostics"
TEST_PROGRESS = "tests/inference/test_progress.py"
TEST_CLI = "tests/experiments/test_cli.py"
TEST_RECORDS = "tests/experiments/test_records.py"
TEST_ACCURACY_TABLES = "tests/experiments/test_accuracy_tables.py"
TEST_UNCERTAINTY = "tests/experiments/test_uncertainty.py"
SPECS, STORE, RUNNER, PHASES = (f"experiments/common/{name}.py" for name in ("spec", "store", "runner", "phases"))
TEST_SPECS, TEST_STORE, TEST_RUNNER, TEST_PHASES = (
    f"tests/experiments/test_{name}.py" for name in ("spec", "store", "runner", "phases")
)
TEST_KINDS = "tests/experiments/test_phase_kinds.py"
MONITORS, CONCLUSIONS, DROPOUT_TABLES = (
    f"experiments/common/{name}.py" for name in ("monitors", "conclusions", "dropout_tables")
)
TEST_MONITORS, TEST_CONCLUSIONS, TEST_EXERCISES, TEST_MLP = (
    *(f"tests/experiments/test_{name}.py" for name in ("monitors", "conclusions", "dropout_exercises")),
    "tests/models/test_mlp.py",
)
HIERARCHICAL_NORMAL = "pyro_vd/priors/hierarchical_normal.py"
TEST_HIERARCHICAL_NORMAL = "tests/priors/test_hierarchical_normal.py"
TEST_PARTS = "tests/inference/test_micro_batches.py"
VALIDATION, TEST_VALIDATION = "pyro_vd/inference/validation.py", "tests/inference/test_validation.py"
SWEEPS, TEST_SWEEP = "experiments/common/sweeps.py", "tests/experiments/test_sweep.py"
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
        "nothing ever starts",
        LOOP,
        'pair.objective.guide.mark_started(now["threshold"])',
        "pass",
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
        "KL scaled by nothing",
        "pyro_vd/elbo.py",
        'kl[name] * q.nodes[name]["scale"]',
        "kl[name]",
        "tests/handlers/test_kl_weight.py tests/test_elbo.py",
    ),
    Mutant(
        "sign of the likelihood",
        "pyro_vd/elbo.py",
        "self.weighted_kl - self.log_likelihood",
        "self.weighted_kl + self.log_likelihood",
        "tests/test_elbo.py",
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
        "non-finite steps taken, eager",
        UPDATE,
        "(~accept).float()",
        "torch.zeros(())",
        TEST_ENGINE,
    ),
    Mutant("non-finite steps taken, compiled", STEP, "torch.where(accept, new, old)", "new", TEST_ENGINE),
    Mutant("KL weight and rate as one", STEP, "beta, factor)  # on", "beta, beta)  # on", TEST_ENGINE),
    Mutant("bounds outside the graph", STEP, "if name in bounds:", "if False:", TEST_ENGINE),
    Mutant("base rates for one rate", STEP, "rate * factor", "1e-3 * factor", TEST_ENGINE),
    Mutant("running averages lost", STEP, "_replace(value, buffers[name], accept)", "pass", TEST_ENGINE),
    Mutant("traced on the state itself", STEP, "make_fx(step)(state.map(clone),", "make_fx(step)(state,", TEST_ENGINE),
    Mutant("Adam's first moment uncorrected", ADAM, " / _correction(first, step)", "", TEST_OPTIM),
    Mutant("Adam's epsilon uncorrected", ADAM, "(self.eps * root)", "(self.eps + 0 * root)", TEST_OPTIM),
    Mutant("AdamW's decay coupled", ADAM, "parameter * (1 - lr * self", "parameter * (1 - 0.01 * self", TEST_OPTIM),
    Mutant("SGD's decay after momentum", SGD, "gradient + self.weight_decay * parameter", "gradient", TEST_OPTIM),
    Mutant("Nesterov as plain momentum", SGD, "if self.nesterov else buffer", "if False else buffer", TEST_OPTIM),
    Mutant("decay of biases", UPDATE, " and parameter.ndim >= 2", "", TEST_UPDATE),
    Mutant("decay of noise parameters", UPDATE, '("guide.theta.", "model.net.")', '("guide.", "model.")', TEST_UPDATE),
    Mutant("decay of everything, compiled", UPDATE, "id(parameter) in self._other_parameters", "False", TEST_UPDATE),
    Mutant("gradients of the whole objective for SGD", UPDATE, "else 1 / num_data", "else 1.0", TEST_UPDATE),
    Mutant("clipping unscaled for Adam", UPDATE, "clip_norm * num_data * self.loss_scale", "clip_norm", TEST_UPDATE),
    Mutant("gradients made longer by clipping", UPDATE, ".clamp(max=1.0)", "", TEST_UPDATE),
    Mutant("clipping forgotten, compiled", STEP, "gradient * share", "gradient", TEST_UPDATE),
    Mutant("scale forgotten, compiled", STEP, "update.scale(loss)", "loss", TEST_UPDATE),
    Mutant(
        "scale forgotten, eager",
        "pyro_vd/inference/engine/eager_step.py",
        "self.update.scale(loss)",
        "loss",
        TEST_UPDATE,
    ),
    Mutant("a factory steps though not finite", UPDATE, "elif accept:", "else:", TEST_UPDATE),
    Mutant(
        "state made by a step not taken",
        UPDATE,
        "state.update(self.rule_of(parameter).init_state(parameter))",
        "pass",
        TEST_UPDATE,
    ),
    Mutant(
        "projected once only",
        "pyro_vd/model/weight_guide.py",
        "and self._versions() != self._projected:",
        "and not self._projected:",
        TEST_SERIES,
    ),
    Mutant(
        "compiled for a smaller batch",
        "pyro_vd/inference/engine/engine.py",
        "(None, self._count(index))",
        "(None,)",
        TEST_SEEDS,
    ),
    Mutant("noise that the seeds share", ENSEMBLE, '"different"', '"same"', TEST_SEEDS),
    Mutant("rows that nobody holds", ENSEMBLE, "tensor.data = row", "pass", TEST_SEEDS),
    Mutant("traced on the stack itself", ENSEMBLE, "(stacked.map(clone),", "(stacked,", TEST_SEEDS),
    Mutant("rows kept in the optimizer", ENSEMBLE, ", *filter(torch.is_tensor, moments)", "", TEST_SEEDS),
    Mutant("rows kept after the fit", "pyro_vd/inference/fit.py", "pair.unstack()", "pass", TEST_SEEDS),
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
    Mutant(
        "targets not compared before a step",
        PREFLIGHT,
        'check_target_values(target, self.targets[site] if has_one_support(target) else msg["value"], site)',
        "pass",
        TEST_TARGETS,
    ),
    Mutant(
        "later batches of a loader", LOOP, "check_target_values(self.targets[site], values, site)", "pass", TEST_TARGETS
    ),
    Mutant("what others train", "pyro_vd/model/ownership.py", "trained |= {id(tensor)", "{id(tensor)", TEST_PREFLIGHT),
    Mutant("guides in handlers", "pyro_vd/elbo.py", "if not isinstance(part, nn.Module):", "if False:", TEST_PREFLIGHT),
    Mutant("another model's guide", LIFT, "if value.shape[-len(shape) :] != shape:", "if False:", TEST_PREFLIGHT),
    Mutant("any RuntimeError", PREFLIGHT, "if not DTYPE_MESSAGE.search(str(error)):", "if False:", TEST_PREFLIGHT),
    Mutant("draws out of bounds", POSTERIOR, "            self.guide.project()  #", "            #", TEST_PREFLIGHT),
    Mutant("a locked on_epoch", LOOP, "with pyro_unlocked():", "if True:", TEST_RANDOM_STATE),
    Mutant("unowned parameters under fit", PREFLIGHT, "        refuse_foreign(loss", "        (loss", TEST_PREFLIGHT),
    Mutant(
        "unowned parameters of a loss",
        "pyro_vd/elbo.py",
        "refuse_foreign(loss, self.parameters()",
        "(loss, self.parameters()",
        TEST_PREFLIGHT,
    ),
    Mutant(
        "unowned parameters under SVI",
        "pyro_vd/elbo.py",
        "refuse_foreign(loss, stored",
        "(loss, stored",
        TEST_PREFLIGHT,
    ),
    Mutant("random priors", LIFT, "if calls.names:", "if False:", TEST_PREFLIGHT),
    Mutant("learned priors", LIFT, "tensor.requires_grad for tensor", "False for tensor", TEST_PREFLIGHT),
    Mutant("unreached weights", PREFLIGHT, "    if sites:\n", "    if False:\n", TEST_PREFLIGHT),
    Mutant("no gradient at all", PREFLIGHT, "    if not reached:\n", "    if False:\n", TEST_PREFLIGHT),
    Mutant(
        "recomputed layers",
        PREFLIGHT,
        "except (AttributeError, CheckpointError)",
        "except (KeyError, CheckpointError)",
        TEST_PREFLIGHT,
    ),
    Mutant("inputs of any dtype", PREFLIGHT, "_refuse_dtype(error, objective, x)", "pass", TEST_PREFLIGHT),
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
    Mutant(
        "denormals reset",
        "pyro_vd/process_state.py",
        "torch.set_flush_denormal(before)",
        "torch.set_flush_denormal(False)",
        TEST_PREFLIGHT,
    ),
    Mutant(
        "freed memory returned at every step",
        "pyro_vd/process_state.py",
        "libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)",
        "pass",
        "tests/test_process_state.py",
    ),
    Mutant(
        "freed memory kept for ever",
        "pyro_vd/process_state.py",
        "libc.malloc_trim(0)",
        "pass",
        "tests/test_process_state.py",
    ),
    Mutant("the caller's gradient mode", SVI, ", torch.inference_mode(False), torch.enable_grad()", "", TEST_PREFLIGHT),
    Mutant(
        "schedules unchecked",
        "pyro_vd/inference/training.py",
        'to_number(f"{name}({epoch})", self.schedules[name](epoch), low, high)',
        "self.schedules[name](epoch)",
        TEST_PREFLIGHT,
    ),
    Mutant("tied by the first name alone", SELECTION, "if any(wanted(", "if all(wanted(", TEST_SELECTION),
    Mutant("frozen weights taken", SELECTION, "parameter.requires_grad and _is", "_is", TEST_SELECTION),
    Mutant("half of attention", SELECTION, "return attribute in PROJECTIONS", "return False", TEST_SELECTION),
    Mutant("frozen parts trained", LIFT, "self.net.get_submodule(name).training = False", "pass", TEST_SELECTION),
    Mutant("frozen averages anew", BATCH_NORM, " and name not in fixed", "", TEST_SELECTION),
    Mutant("masks of any model", "pyro_vd/model/masks.py", "if wrong:", "if False:", "tests/model/test_masks.py"),
    Mutant("predictions of nothing", PREDICTIVE, "if num_samples < 1 or not num_inputs:", "if False:", TEST_SELECTION),
    Mutant(
        "a mean of the last draw", PREDICTIVE, "one.lerp_(other, 1 / (number + 1))", "one.copy_(other)", TEST_SELECTION
    ),
    Mutant("Python's effects compiled", ENGINE, "refuse_python_effects(member", "(member", TEST_PYTHON_STATE),
    Mutant("attributes not followed", ENGINE, "        if not changed:\n", "        if True:\n", TEST_PYTHON_STATE),
    Mutant("one trace", PYTHON_STATE, "changed = _differing_traces(objective, x, y)", "pass", TEST_PYTHON_STATE),
    Mutant("looking counts", PYTHON_STATE, "vars(module).update(attributes)", "pass", TEST_PYTHON_STATE),
    Mutant("the caller's generator", SVI, "torch.random.fork_rng(devices=devices), ", "", TEST_RANDOM_STATE),
    Mutant("one seed for all", SVI, "return drawn if saved", "return 0 if saved", TEST_RANDOM_STATE),
    Mutant("fits at once", SVI, "with PYRO_LOCK, torch", "with torch", TEST_RANDOM_STATE),
    Mutant("frozen parameters of the first seed", STEP, " | state.frozen", "", TEST_SEEDS),
    Mutant(
        "running averages of the first seed",
        "pyro_vd/inference/engine/objective.py",
        "name not in fixed}",
        "0}",
        TEST_SEEDS,
    ),
    Mutant(
        "one order for all seeds",
        "pyro_vd/inference/epoch_generator.py",
        "(seed % 2**64, epoch)",
        "(0, epoch)",
        TEST_SEEDS,
    ),
    Mutant(
        "one start for all seeds",
        "pyro_vd/inference/fit_seeds.py",
        "torch.manual_seed(seed)\n",
        "torch.manual_seed(0)\n",
        TEST_SEEDS,
    ),
    Mutant(
        "averages of one class each",
        BATCH_NORM,
        "in order.tensor_split",
        "in order.sort().values.tensor_split",
        "tests/test_posterior.py",
    ),
    Mutant(
        "an optimizer's state not restored",
        RESUME,
        "_fill_optimizer(pair, own, names)",
        "pass",
        f"{TEST_SEEDS} {RESUMING}",
    ),
    Mutant(
        "generator not restored",
        RESUME,
        'torch.set_rng_state(tensors["rng.cpu"])',
        "pass",
        RESUMING,
    ),
    Mutant(
        "checkpoint: tensors unchecked",
        RESUME_CHECKS,
        "    check_tensors(expected, tensors, str(checkpoint))\n",
        "",
        f"{CHECKING}::test_forged_metadata_is_refused_before_anything_is_touched",
    ),
    Mutant(
        "checkpoint: values unchecked",
        RESUME_CHECKS,
        "    _check_values(loop, meta, tensors, checkpoint)\n",
        "",
        FORGED,
    ),
    Mutant(
        "checkpoint: types unchecked",
        RESUME_CHECKS,
        "    _check_types(meta, checkpoint, len(loop.posteriors))\n",
        "",
        FORGED,
    ),
    Mutant(
        "checkpoint: position unchecked", RESUME_CHECKS, "    _check_position(loop, meta, checkpoint)\n", "", FORGED
    ),
    Mutant("checkpoint: steps of an optimizer unchecked", RESUME_CHECKS, "max(counts) != made", "False", FORGED),
    Mutant("checkpoint: NaN steps", RESUME_CHECKS, "count >= 1 and float(count).is_integer()", "count > 0", FORGED),
    Mutant("checkpoint: negative moments", RESUME_CHECKS, "bool((tensor < 0).any())", "False", FORGED),
    Mutant("checkpoint: generators unchecked", RESUME_CHECKS, "torch.Generator().set_state(state)", "pass", FORGED),
    Mutant(
        "checkpoint: history unchecked",
        RESUME_CHECKS,
        "len(history) != epoch or numbers",
        "len(numbers) == -1 or numbers",
        FORGED,
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
        "checkpoint: data not compared",
        RESUME,
        '"data": loop.batches.content,',
        "",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "subsets: the first one for all",
        "pyro_vd/inference/batches.py",
        "self.subsets[number][order]",
        "self.subsets[0][order]",
        "tests/inference/test_subsets.py::test_every_seed_ends_where_its_subset_alone_would_end",
    ),
    Mutant(
        "subsets: not compared",
        "pyro_vd/inference/batches.py",
        "describe_examples(self.data) + chosen",
        "describe_examples(self.data)",
        "tests/inference/test_subsets.py::test_a_run_goes_on_with_the_same_subsets_only",
    ),
    Mutant(
        "checkpoint: likelihood not compared",
        RESUME,
        '"likelihood": describe(model.likelihood),',
        "",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: network not compared",
        RESUME,
        '"network": describe_modules(model.net),',
        "",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: schedules not compared",
        RESUME_CHECKS,
        'different += _changed_schedules(loop, meta["schedules"])',
        "pass",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: environment not compared",
        RESUME_CHECKS,
        "if exact and different:",
        "if False:",
        f"{CHECKING}::test_another_environment_is_refused_unless_asked_for",
    ),
    Mutant(
        "checkpoint: another automatic engine",
        RESUME_CHECKS,
        "if loop.engine.is_automatic and is_possible else",
        "if False else",
        f"{CHECKING}::test_the_automatic_engine_stays_what_it_was",
    ),
    Mutant(
        "checkpoint: code not compared",
        IDENTITY,
        '[:8]})"\n    for name, cell',
        '[:0]})"\n    for name, cell',
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: code of every Python",
        RESUME_CHECKS,
        "if not exact or meta",
        "if meta",
        f"{CHECKING}::test_code_is_compared_under_one_python_alone",
    ),
    Mutant(
        "checkpoint: globals not compared",
        IDENTITY,
        "if _is_plain(function, name)}",
        "if False}",
        f"{CHECKING}::test_a_global_that_a_function_reads_is_compared",
    ),
    Mutant(
        "checkpoint: closures not compared",
        IDENTITY,
        "around[name] = _read_cell(cell)",
        "pass",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: forward not compared",
        IDENTITY,
        "settings += [describe(method, 2) for method in methods]",
        "pass",
        f"{CHECKING}::test_another_run_is_refused_by_what_is_different",
    ),
    Mutant(
        "checkpoint: how data are augmented not compared",
        EXAMPLES,
        "repr((name, plain))",
        "repr(name)",
        f"{CHECKING}::test_how_examples_are_augmented_is_compared",
    ),
    Mutant(
        "checkpoint: no lock",
        RESUME,
        "    with hold_lock(checkpoint):\n",
        "    if True:\n",
        f"{LOCKING}::test_a_checkpoint_in_use_is_refused_naming_the_process",
    ),
    Mutant(
        "checkpoint: a lock that is deleted by another",
        LOCK,
        "if _is_at(descriptor, file):",
        "if True:",
        f"{LOCKING}::test_a_lock_file_that_its_holder_deletes_is_taken_anew",
    ),
    Mutant(
        "checkpoint: not tried before the first step",
        RESUME,
        "    checkpoints.make_ready(checkpoint)\n",
        "    checkpoint.parent.mkdir(exist_ok=True)\n",
        f"{RESUMING}::test_a_run_that_cannot_be_written_is_refused_before_the_first_step",
    ),
    Mutant(
        "checkpoint: saved though not finite",
        LOOP,
        "            if broken:\n",
        "            if False:\n",
        f"{RESUMING}::test_a_moment_that_is_not_finite_is_not_saved",
    ),
    Mutant(
        "checkpoint: last finite state promised",
        LOOP,
        "if self.engine.pair.members[pair].find_nonfinite():",
        "if False:",
        f"{RESUMING}::test_a_rate_that_breaks_the_parameters_is_not_saved",
    ),
    Mutant(
        "checkpoint: no fall back",
        CHECKPOINT,
        "found = _load(path, _previous(path), limit)",
        "raise damage",
        f"{SAVING}::test_a_damaged_generation_falls_back_to_the_one_before_it",
    ),
    Mutant(
        "checkpoint: a damaged generation kept",
        CHECKPOINT,
        '        _read_tensors(path.parent / body["tensors"], body["sha256"], "", TENSORS_LIMIT)\n',
        "",
        f"{SAVING}::test_a_damaged_generation_does_not_push_out_a_whole_one",
    ),
    Mutant(
        "checkpoint: not read back",
        CHECKPOINT,
        "hexdigest() != digest:",
        "hexdigest() == '':",
        f"{SAVING}::test_a_disk_that_gives_back_other_bytes_costs_nothing",
    ),
    Mutant(
        "checkpoint: a generation of a deleted run",
        CHECKPOINT,
        "_previous(path).unlink(missing_ok=True)",
        "pass",
        f"{SAVING}::test_a_deleted_run_leaves_no_generation_to_a_new_one",
    ),
    Mutant(
        "checkpoint: partial files stay",
        CHECKPOINT,
        "(left and not process_is_alive(int(left[3])))",
        "False",
        f"{SAVING}::test_partial_files_of_dead_processes_go_and_others_stay",
    ),
    Mutant(
        "checkpoint: partial files of the living go",
        CHECKPOINT,
        "left and not process_is_alive(int(left[3]))",
        "left",
        f"{SAVING}::test_partial_files_of_dead_processes_go_and_others_stay",
    ),
    Mutant(
        "checkpoint: a reader is not patient",
        CHECKPOINT,
        "if _read_json(file) == content:",
        "if True:",
        f"{SAVING}::test_a_reader_beside_a_writer_reads_a_whole_checkpoint",
    ),
    Mutant("checkpoint: files of any size", FILES, "if len(content) > limit:", "if False:", "tests/test_files.py"),
    Mutant(
        "loader: what came is not counted",
        LOADERS,
        "if self._seen != self._expected:",
        "if False:",
        f"{LOADING}::test_what_came_is_counted",
    ),
    Mutant(
        "loader: n is not compared",
        LOADERS,
        "if self.num_examples not in (None, num_data) and",
        "if False and",
        f"{LOADING}::test_a_count_that_is_known_is_compared_before_the_first_step",
    ),
    Mutant(
        "loader: the dataset's length is n",
        LOADERS,
        "return len(cast(Sized, self._batches.sampler))",
        "return len(self.loader.dataset)",
        f"{LOADING}::test_a_count_that_is_known_is_compared_before_the_first_step",
    ),
    Mutant(
        "loader: order of the stop",
        LOADERS,
        "self._stream = make_generator(self.seed, epoch).get_state()",
        "self._stream = torch.get_rng_state()",
        f"{LOADING}::test_a_shuffling_loader_resumes_bit_for_bit",
    ),
    Mutant(
        "loader: generators of the stop",
        LOADERS,
        "states = self._begin or [",
        "states = [",
        f"{LOADING}::test_a_shuffling_loader_resumes_bit_for_bit",
    ),
    Mutant(
        "loader: does not check what comes back",
        LOADERS,
        "self._resumed not in (None,",
        "self._resumed in (0,",
        f"{LOADING}::test_a_loader_that_does_not_come_back_is_refused",
    ),
    Mutant(
        "loader: an epoch in one order",
        LOADERS,
        'getattr(part, "set_epoch", lambda _: None)(epoch)',
        "pass",
        f"{LOADING}::test_a_sampler_is_told_the_epoch",
    ),
    Mutant(
        "loader: batches of one",
        "pyro_vd/inference/preflight.py",
        "    if smallest == 1 < size and",
        "    if False and",
        "tests/inference/test_loaders.py::test_a_last_batch_of_one_is_refused_where_batch_norm_cannot_average",
    ),
    Mutant(
        "loader: float64 arrays",
        EXAMPLES,
        "part.to(dtype or torch.get_default_dtype()) if",
        "part if",
        f"{LOADING}::test_arrays_are_tensors",
    ),
    Mutant(
        "loader: uneven pairs",
        EXAMPLES,
        "if sizes[0] != sizes[1]:",
        "if False:",
        f"{LOADING}::test_what_is_no_training_set_is_refused_in_one_line_before_the_first_step",
    ),
    Mutant(
        "digest of the tensors not checked",
        CHECKPOINT,
        "hexdigest() != sha256:",
        'hexdigest() == "":',
        "tests/test_checkpoint.py",
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
    Mutant("bomb unpacked", DECOMPRESS, "(content, limit + 1)", "(content)", TEST_DECOMPRESS),
    Mutant("bomb accepted", DECOMPRESS, "if len(unpacked) > limit:", "if False:", TEST_DECOMPRESS),
    Mutant("truncated stream", DECOMPRESS, "if not stream.eof:", "if False:", TEST_DECOMPRESS),
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
        "loud terminal",
        PROGRESS,
        "except (OSError, ValueError) as error:  # ValueError: of a closed file",
        "except ZeroDivisionError as error:",
        TEST_PROGRESS,
    ),
    Mutant(
        "loud flush",
        PROGRESS,
        "except (OSError, ValueError) as error:\n",
        "except ZeroDivisionError as error:\n",
        TEST_PROGRESS,
    ),
    Mutant("narrow terminal", PROGRESS, "except UnicodeEncodeError:", "except ZeroDivisionError:", TEST_PROGRESS),
    Mutant(
        "failing again",
        PROGRESS,
        "        if self.failure is None:\n            try:\n                self._write",
        "        if True:\n            try:\n                self._write",
        TEST_PROGRESS,
    ),
    Mutant("bar on any terminal", PROGRESS, "stream = TolerantStream(stream)", "pass", TEST_PROGRESS),
    Mutant(
        "untested folder", CLI, "        with tempfile.TemporaryFile(dir=folder):\n            pass\n", "", TEST_CLI
    ),
    Mutant("a folder left", CLI, "            path.rmdir()", "            pass", TEST_CLI),
    Mutant("any number of threads", CLI, "if not 0 <= threads <= THREADS_LIMIT:", "if threads < 0:", TEST_CLI),
    Mutant(
        "memory as a bug",
        CLI,
        "except (MemoryError, RuntimeError) as error:",
        "except ZeroDivisionError as error:",
        TEST_CLI,
    ),
    Mutant(
        "a bug as memory",
        CLI,
        "if not isinstance(error, MemoryError) and not any(part in str(error) for part in OUT_OF_MEMORY):",
        "if False:",
        TEST_CLI,
    ),
    Mutant("lost output unsaid", CLI, "    if code or out.failure:", "    if code:", TEST_CLI),
    Mutant("loud end", CLI, "os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())", "pass", TEST_CLI),
    Mutant(
        "digest of a record", RECORDS, "if record.pop(DIGEST, None) != digest_of(record):", "if False:", TEST_RECORDS
    ),
    Mutant("a name twice", RECORDS, "if len(record) < len(pairs):", "if False:", TEST_RECORDS),
    Mutant("NaN in a record", RECORDS, "            parse_constant=_refuse,\n", "", TEST_RECORDS),
    Mutant("infinity in a record", RECORDS, "            parse_float=_finite,\n", "", TEST_RECORDS),
    Mutant("types of a record", RECORDS, "if not isinstance(value, types) or", "if False and", TEST_RECORDS),
    Mutant("True as a number", RECORDS, "or (isinstance(value, bool) and bool not in types)", "or False", TEST_RECORDS),
    Mutant(
        "long names",
        SPECS,
        "for c in word)[:40]",
        "for c in word)",
        f"{TEST_SPECS}::test_a_label_is_the_beginning_of_a_file_name",
    ),
    Mutant(
        "bars in cells",
        "experiments/common/tables.py",
        'cell.replace("|", "\\\\|")',
        "cell",
        "tests/experiments/test_tables.py",
    ),
    Mutant(
        "digest of the data not checked", "pyro_vd/data/idx.py", "digest != sha256", "False", "tests/data/test_idx.py"
    ),
    Mutant(
        "diverged runs averaged",
        "experiments/common/compression_tables.py",
        "    good = [run for run in group if not run.diverged]",
        "    good = list(group)",
        "tests/experiments/test_tables.py",
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
    Mutant(
        "no projection under stock SVI",
        "pyro_vd/model/weight_guide.py",
        "            self.project()\n",
        "            pass\n",
        TEST_SERIES,
    ),
    Mutant("Kingma's cubic beyond 1", KL, "    inverse_alpha = inverse_alpha.clamp(min=1.0)\n", "", TEST_INPUT),
    Mutant("transposed inputs", "pyro_vd/model/layers.py", "        return 0\n", "        return 1\n", TEST_SERIES),
    Mutant("alpha above 1", "guides/variational_b.py", "log_alpha_max = 0.0", "log_alpha_max = 1.0", TEST_SERIES),
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
        "digits in the mirror",
        "pyro_vd/data/augment.py",
        "random_flip(images) if self.flip else images",
        "random_flip(images)",
        "tests/data/test_augment.py",
    ),
    Mutant(
        "pretraining without dropout",
        PHASES,
        "return (F.dropout(inputs[0], rate), *inputs[1:])",
        "return inputs",
        f"{TEST_KINDS}::test_dense_training_drops_inputs_and_leaves_no_hook",
    ),
    Mutant(
        "dense training shared between seeds",
        PHASES,
        "key_of(prefix)}-s{self.spec.seed}",
        "key_of(prefix)}-s0",
        f"{TEST_PHASES}::test_another_beginning_is_not_shared",
    ),
    Mutant(
        "a group that would be cut goes",
        "pyro_vd/compress/prune.py",
        "size.cumsum(0) - size < left",
        "size.cumsum(0) <= left",
        "tests/compress/test_prune.py::test_all_kernels_of_an_input_channel_are_a_group",
    ),
    Mutant(
        "groups cut by rank",
        "pyro_vd/compress/prune.py",
        "if inputs is None or not bool((inputs == inputs[:, :1]).all()):",
        "if True:",
        "tests/compress/test_prune.py::test_inputs_of_a_group_scheme_stay_or_go_as_a_whole",
    ),
    Mutant(
        "magnitude pruning layer by layer",
        PHASES,
        "sparsity_at(epoch + 1, epochs, phase))",
        "sparsity_at(epoch + 1, epochs, phase), per_layer=True)",
        f"{TEST_KINDS}::test_magnitude_pruning_is_gradual_and_not_uniform",
    ),
    Mutant(
        "magnitude pruning at once",
        PHASES,
        "sparsity_at(epoch + 1, epochs, phase))",
        "sparsity_at(epochs, epochs, phase))",
        f"{TEST_KINDS}::test_magnitude_pruning_is_gradual_and_not_uniform",
    ),
    Mutant(
        "the lottery's remainder forgotten",
        PHASES,
        "epochs = phase.training.epochs + phase.extra",
        "epochs = phase.training.epochs",
        f"{TEST_KINDS}::test_the_last_ticket_has_the_extra_epochs",
    ),
    Mutant(
        "an export that may differ by a hundredth",
        "pyro_vd/compress/export.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-2",
        "tests/compress/test_export.py::test_a_difference_of_three_in_a_hundred_thousand_is_too_much",
    ),
    Mutant(
        "fine-tuning without the masks",
        PHASES,
        "len(job.split.train), state.posterior.masks(fit.threshold))",
        "len(job.split.train))",
        f"{TEST_KINDS}::test_fine_tuning_trains_what_pruning_left",
    ),
    Mutant(
        "another rate for the noise of units",
        "guides/group_normal_jeffreys.py",
        "noise_lr=3.0)",
        "noise_lr=10.0)",
        "tests/experiments/test_protocols.py::test_a_scheme_is_trained_and_pruned_in_its_own_way",
    ),
    Mutant(
        "what was asked for gives way to the scheme's own",
        "experiments/common/protocols.py",
        "**_scheme_changes(scheme) | dict(changes))",
        "**dict(changes) | _scheme_changes(scheme))",
        "tests/experiments/test_protocols.py::test_a_scheme_is_trained_and_pruned_in_its_own_way",
    ),
    Mutant(
        "best of the trials that are there",
        "experiments/tuning.py",
        "default=None) if all(found) else None",
        "default=None)",
        "tests/experiments/test_tuning.py::test_none_is_the_best_before_all_are_there",
    ),
    Mutant(
        "what the scheme has anyway is a change",
        "experiments/common/protocols.py",
        "usual = self.change(scheme, {})",
        "usual = self",
        "tests/experiments/test_protocols.py::test_what_the_protocol_has_anyway_is_no_change",
    ),
    Mutant(
        "calibration to zeros",
        INT8,
        "{name: value.numpy() for",
        "{name: 0 * value.numpy() for",
        f"{TEST_INT8}::test_a_transformer_of_tokens {TEST_INT8}::test_all_of_the_inputs_calibrate",
    ),
    Mutant(
        "calibration to one batch",
        INT8,
        "for batch in split(inputs, CALIBRATION_BATCH))",
        "for batch in split(inputs, CALIBRATION_BATCH)[:1])",
        f"{TEST_INT8}::test_all_of_the_inputs_calibrate",
    ),
    Mutant(
        "float32 weights in an int8 file",
        INT8,
        "    if left:",
        "    if False:",
        f"{TEST_INT8}::test_what_stays_in_float32_is_named",
    ),
    Mutant(
        "lost outputs in int8",
        EXPORT,
        "if not error < 1:",
        "if False:",
        f"{TEST_INT8}::test_outputs_that_are_lost_leave_no_file",
    ),
    Mutant(
        "axes checked at one size",
        EXPORT,
        ", *_shorter_inputs(net, inputs, by_input))",
        ")",
        f"{TEST_EXPORT}::test_axes_of_one_size_alone_are_refused",
    ),
    Mutant(
        "groups of outputs",
        PATTERNS,
        "groups = score.movedim(1, -1)",
        "groups = score.movedim(0, -1)",
        TEST_PATTERNS,
    ),
    Mutant("groups keep the worst", PATTERNS, "descending=True, stable", "descending=False, stable", TEST_PATTERNS),
    Mutant(
        "equal scores in any order",
        PATTERNS,
        "groups.argsort(dim=-1, descending=True, stable=True)",
        "groups.flip(-1).argsort(dim=-1, descending=True, stable=True).mul(-1).add(m - 1)",
        f"{TEST_PATTERNS}::test_of_equal_scores_the_first_stay_and_weights_without_signal_go_first",
    ),
    Mutant("blocks by the sum of logs", PATTERNS, ".logsumexp((1, 3))", ".sum((1, 3))", TEST_PATTERNS),
    Mutant(
        "rows of blocks for columns",
        PATTERNS,
        "rows, columns = block\n    return {",
        "columns, rows = block\n    return {",
        TEST_PATTERNS,
    ),
    Mutant(
        "an image upside down",
        "pyro_vd/data/augment.py",
        "flipped, images.flip(-1)",
        "flipped, images.flip(-2)",
        "tests/data/test_augment.py",
    ),
    Mutant(
        "flipout without signs",
        "pyro_vd/handlers/flipout.py",
        "return x * self._signs_of(side, examples, x.shape[units_dim]).reshape(shape)",
        "return x",
        "tests/handlers/test_flipout.py",
    ),
    Mutant(
        "unpaired seeds",
        "experiments/common/accuracy_tables.py",
        'by_seed[run.spec.seed]["test_error"])',
        'by_seed[0]["test_error"])',
        TEST_ACCURACY_TABLES,
    ),
    Mutant(
        "differences of fractions",
        "experiments/common/accuracy_tables.py",
        '100 * (run["test_error"] - by_seed',
        '(run["test_error"] - by_seed',
        TEST_ACCURACY_TABLES,
    ),
    Mutant(
        "pairs with a run that diverged",
        "experiments/common/accuracy_tables.py",
        "for run in theirs if not run.diverged}",
        "for run in theirs}",
        TEST_ACCURACY_TABLES,
    ),
    Mutant(
        "five percent for every row",
        "experiments/common/accuracy_tables.py",
        'stats.false_discovery_control(p_values, method="bh")',
        "p_values",
        TEST_ACCURACY_TABLES,
    ),
    Mutant(
        "published numbers of a validation run",
        "experiments/cifar_reference.py",
        "(data, protocol) == (Data",
        "(Data(name=data.name), protocol) == (Data",
        "tests/experiments/test_accuracy.py::test_published_numbers_need_the_same_data_and_protocol",
    ),
    Mutant(
        "landscape: steps up the gradient",
        "experiments/common/landscape_measures.py",
        "torch._foreach_sub(start,",
        "torch._foreach_add(start,",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: steps from where the last one ended",
        "experiments/common/landscape_measures.py",
        "torch._foreach_sub(start, torch",
        "torch._foreach_sub([p.detach() for p in parameters], torch",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: the mean of the smoothness",
        "experiments/common/landscape_measures.py",
        "tuple(changes), max(ratios)",
        "tuple(changes), sum(ratios) / len(ratios)",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: new noise at every point",
        "experiments/common/landscape_measures.py",
        "torch.manual_seed(draw)",
        "draw",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: running averages that move",
        "experiments/common/landscape_measures.py",
        "buffer.copy_(old)",
        "pass",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: parameters of the noise move",
        "experiments/common/landscape_measures.py",
        '("model.", "guide.theta.")',
        '("model.", "guide.")',
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: a loss of all examples",
        "experiments/common/landscape_measures.py",
        " / objective.model.num_data",
        "",
        "tests/experiments/test_landscape_measures.py",
    ),
    Mutant(
        "landscape: one order of the images for all epochs",
        "experiments/common/landscape_runs.py",
        "10_000 * seed + epoch",
        "10_000 * seed",
        "tests/experiments/test_landscape.py",
    ),
    Mutant(
        "landscape: bands of steps that do not match",
        "experiments/common/landscape_tables.py",
        '[np.isin(points["step"], steps)]',
        "[: len(steps)]",
        "tests/experiments/test_landscape.py",
    ),
    Mutant(
        "scaled: by its own half",
        "experiments/common/predictive.py",
        "for half in (~halves, halves)]",
        "for half in (halves, ~halves)]",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "scaled: an error ends the run",
        "experiments/common/predictive.py",
        "    except UserError:\n        return None",
        "    except ZeroDivisionError:\n        return None",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "scores of the mean from the draws",
        "experiments/uncertainty.py",
        'predictions["mean"] = metrics.compute_logits(members[0].mean(), split.test)[None]',
        'predictions["mean"] = logits',
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "test images in place of those out of distribution",
        "experiments/uncertainty.py",
        "predicted(one.test.images)",
        "predicted(images)",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "images that are not rotated",
        "experiments/uncertainty.py",
        "predicted(rotate_images(images, angle))",
        "predicted(images)",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "one member of the ensemble",
        "experiments/uncertainty.py",
        "draws) for member in members])",
        "draws) for member in members[:1]])",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "records with other datasets out of distribution",
        "experiments/uncertainty.py",
        'run["ood_datasets"] != _digests(ood)',
        "False",
        TEST_UNCERTAINTY,
    ),
    Mutant(
        "labels one over another",
        "experiments/common/direct_labels.py",
        "isotonic_regression(places[order] - steps).x + steps",
        "places[order]",
        "tests/experiments/test_direct_labels.py",
    ),
    Mutant(
        "additions tie nothing",
        MERGES,
        "channels.union(result.flatten().tolist(), other.flatten().tolist())",
        "pass",
        TEST_MERGES,
    ),
    Mutant("a term of a sum is enough", DEAD, " & (self._num_rows[labels] == 0)", "", TEST_DEAD + " " + TEST_APPLY),
    Mutant(
        "outputs of the network may go",
        DEAD,
        "self._num_columns = _count_labels(channels.protected, count)",
        "self._num_columns = _count_labels(set(), count)",
        TEST_DEAD,
    ),
    Mutant("constants are dropped", DEAD, "        bias.add_(addition)", "        pass", TEST_DEAD),
    Mutant("padding is ignored", DEAD, "if _is_uneven_at_borders(layer):", "if False:", TEST_DEAD),
    Mutant("all padding is of zeros", DEAD, 'layer.padding_mode != "zeros" or ', "", TEST_DEAD),
    Mutant("no check for constants", DEAD, "<= CONSTANT_TOLERANCE * first.abs()", ">= 0", TEST_DEAD),
    Mutant("constants of one place", DEAD, ".flatten(2).sum(2)", ".flatten(2)[:, :, 0]", TEST_DEAD + " " + TEST_SHRINK),
    Mutant("one round of removals", DEAD, "queue.extend(other for other in", "list(other for other in", TEST_DEAD),
    Mutant("empty layers", DEAD, "kept[labels[0]] = True", "pass", TEST_SLICING),
    Mutant("sizes unchecked", SHRINK, "    _check_same(net, small, probe, expected)", "    pass", TEST_SHRINK),
    Mutant("logits by size", SHRINK, "spread = (expected - expected.mean(0))", "spread = expected", TEST_SHRINK),
    Mutant("what was read may change", SHRINK, 'kwargs["input"]).clone()', 'kwargs["input"])', TEST_SHRINK),
    Mutant(
        "selected as before",
        SLICING,
        "positions.to(layer.selected.device)[layer.selected[columns]]",
        "layer.selected[columns]",
        TEST_SLICING,
    ),
    Mutant(
        "shrink: a term with one entry for all",
        MERGES,
        "        elif small:\n            channels.protect(term.labels)",
        "        elif small:\n            pass",
        TEST_MERGES,
    ),
    Mutant(
        "shrink: an own value of each channel",
        MERGES,
        "if term.is_outside and any(shape[axis] > 1 for axis in varying):",
        "if False:",
        TEST_MERGES + " " + TEST_APPLY,
    ),
    Mutant(
        "shrink: gates of constants",
        MERGES,
        "        channels.mixed.update(result.flatten().tolist())",
        "        pass",
        TEST_MERGES + " " + TEST_SHRINK_KINDS,
    ),
    Mutant(
        "shrink: sums over channels",
        FUNCTIONS,
        "if not axes or set(axes) & set(varying_axes(source.labels)):",
        "if not axes:",
        TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: softmax over channels",
        FUNCTIONS,
        "        channels.protect(call.source.labels)\n    return call.source.labels",
        "        pass\n    return call.source.labels",
        TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: pools over channels",
        FUNCTIONS,
        "if any(axis >= len(source.shape) - axes for axis in varying_axes(source.labels)):",
        "if False:",
        TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: normalization over channels",
        FUNCTIONS,
        "    channels.protect(call.source.labels)\n    return compact(",
        "    return compact(",
        TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: halves of a gate",
        FUNCTIONS,
        "source.expand().chunk(2, axis)",
        "source.expand().chunk(2, -1)",
        TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: heads of any width",
        MOVEMENTS,
        "            channels.couple(part.flatten().tolist())",
        "            pass",
        TEST_MOVEMENTS,
    ),
    Mutant("shrink: numbers in the code", MOVEMENTS, "    elif written or (", "    elif (", TEST_MOVEMENTS),
    Mutant(
        "shrink: an axis that is squeezed",
        MOVEMENTS,
        "channels.protect(source.labels.narrow(axis, 0, 2))",
        "pass",
        TEST_MOVEMENTS,
    ),
    Mutant(
        "shrink: parts of channels",
        MOVEMENTS,
        "        if after.shape != before.shape or not torch.equal(after, before):",
        "        if False:",
        TEST_MOVEMENTS,
    ),
    Mutant(
        "shrink: parts of other sizes",
        MOVEMENTS,
        "        channels.couple(list(labels))",
        "        pass",
        TEST_MOVEMENTS,
    ),
    Mutant("shrink: padding of channels", MOVEMENTS, "padding, value=OUTSIDE", "padding, value=1", TEST_MOVEMENTS),
    Mutant(
        "shrink: shuffled pixels",
        MOVEMENTS,
        "        channels.union(labels[:1] * len(labels), labels)",
        "        pass",
        TEST_MOVEMENTS,
    ),
    Mutant(
        "shrink: shuffled channels",
        MOVEMENTS,
        "        channels.couple(labels)\n    return label_movement",
        "        pass\n    return label_movement",
        TEST_MOVEMENTS,
    ),
    Mutant(
        "shrink: heads without queries",
        PRODUCTS,
        "        channels.couple([head, *labels])\n    channels.followers",
        "        pass\n    channels.followers",
        TEST_PRODUCTS,
    ),
    Mutant(
        "shrink: queries that nothing follows",
        PRODUCTS,
        "    channels.followers.update(read.flatten().tolist())\n",
        "",
        TEST_PRODUCTS,
    ),
    Mutant(
        "shrink: weights of any sum",
        PRODUCTS,
        "if not (gate.is_average and gate is one) and gate.from_inputs:",
        "if False:",
        TEST_PRODUCTS,
    ),
    Mutant(
        "shrink: halves of heads",
        PRODUCTS,
        "            channels.couple([head, *labels])\n        else",
        "            pass\n        else",
        TEST_PRODUCTS,
    ),
    Mutant(
        "shrink: masks of each head",
        PRODUCTS,
        "            channels.protect(carrier.labels)",
        "            pass",
        TEST_PRODUCTS,
    ),
    Mutant(
        "shrink: a softmax over any axis",
        APPLY,
        "return axis is not None and axis %",
        "return axis is not None or axis %",
        TEST_PRODUCTS + " " + TEST_FUNCTIONS,
    ),
    Mutant(
        "shrink: labels of another shape",
        APPLY,
        "    if not all(_fits(result) for result in results):",
        "    if False:",
        TEST_APPLY,
    ),
    Mutant(
        "shrink: halves of groups", MODULES, "    _couple_groups(int(", "    0 and _couple_groups(int(", TEST_MODULES
    ),
    Mutant(
        "shrink: normalized groups",
        MODULES,
        "        channels.union([labels[first]] * size, labels[first : first + size])",
        "        pass",
        TEST_MODULES,
    ),
    Mutant("shrink: groups that no file counts", MODULES, "    if not norm.affine:", "    if False:", TEST_MODULES),
    Mutant(
        "shrink: channels on two axes",
        MODULES,
        "        channels.protect(source.labels)\n        return [OUTSIDE]",
        "        return [OUTSIDE]",
        TEST_MODULES,
    ),
    Mutant(
        "shrink: layers of several widths",
        MODULES,
        "    channels.equal.append(states)\n",
        "",
        TEST_MODULES + " " + TEST_SHRINK_KINDS,
    ),
    Mutant("shrink: shared weights", MODULES, "    if owner != name:", "    if False:", TEST_APPLY),
    Mutant(
        "shrink: dependencies",
        DEAD,
        "        kept[pairs[kept[pairs[:, 0]], 1]] = True",
        "        pass",
        TEST_SHRINK_KINDS,
    ),
    Mutant(
        "shrink: equally many",
        DEAD,
        "                kept[gone[: most - (len(labels) - len(gone))]] = True",
        "                pass",
        TEST_SHRINK_KINDS,
    ),
    Mutant(
        "shrink: a unit that only reads itself",
        DEAD,
        "        if not bool(torch.isin(consumed, labels).any()):",
        "        if True:",
        TEST_DEAD,
    ),
    Mutant(
        "shrink: the width of a head",
        ATTENTION,
        'heads = values["out_proj.weight"].shape[1] // attention.head_dim',
        "heads = attention.num_heads",
        TEST_ATTENTION,
    ),
    Mutant(
        "shrink: constants of any size", CONSTANTS, "found.update(result.labels[sized].tolist())", "", TEST_CONSTANTS
    ),
    Mutant("shrink: totals over positions", CONSTANTS, "elif call.kind in TOTALS or", "elif", TEST_CONSTANTS),
    Mutant("shrink: zeros of any size", CONSTANTS, "(low != 0) | (high != 0)", "True", TEST_CONSTANTS),
    Mutant("shrink: logarithms of lengths", CONSTANTS, "if call.kind in LOGARITHMS or", "if", TEST_CONSTANTS),
    Mutant("shrink: numbers from sizes", CONSTANTS, "and call.reads_number", "and False", TEST_CONSTANTS),
    Mutant("shrink: averaged padding", CONSTANTS, "any(padding) if", "False if", TEST_CONSTANTS),
    Mutant("shrink: padding of a function", CONSTANTS, "else bool(padding)", "else False", TEST_CONSTANTS),
    Mutant("shrink: parts of windows", CONSTANTS, "return bool(ceil_mode) or", "return", TEST_CONSTANTS),
    Mutant("shrink: tensors of sizes", APPLY, "call.reads_number or any(", "any(", TEST_CONSTANTS),
    Mutant("shrink: weights that the code reads", TRACE, "    _protect_read(net, labeler)\n", "", TEST_APPLY),
    Mutant("shrink: calls that write", TRACE, "if value is None and call.tensors:", "if False:", TEST_APPLY),
    Mutant("shrink: cropped channels", MOVEMENTS, " or min(padding) < 0", "", TEST_MOVEMENTS + " " + TEST_APPLY),
    Mutant(
        "shrink: biases that attention gains",
        ATTENTION,
        "for layer in (*parts, self.out)",
        "for layer in ()",
        TEST_ATTENTION,
    ),
    Mutant("shrink: nested tensors", TRANSFORMER, "if encoder.use_nested_tensor and", "if False and", TEST_TRANSFORMER),
    Mutant("shrink: noise out of a domain", SHRINK, "if bool(finite.any()):", "if False:", TEST_SHRINK),
    Mutant("shrink: the scale of scores", ATTENTION, "* head_width**-0.5", "", TEST_ATTENTION),
    Mutant(
        "shrink: bools that hide",
        ATTENTION,
        'scores.masked_fill(mask, float("-inf"))',
        'scores.masked_fill(~mask, float("-inf"))',
        TEST_ATTENTION,
    ),
    Mutant("shrink: the order of gates", RECURRENT, "i, f, g, o = (", "f, i, g, o = (", TEST_RECURRENT),
    Mutant("shrink: the reset gate", RECURRENT, "(n + (r + r2).sigmoid() * n2)", "(n + n2)", TEST_RECURRENT),
    Mutant(
        "shrink: the other direction",
        RECURRENT,
        "torch.stack(outputs[::-1] if",
        "torch.stack(outputs if",
        TEST_RECURRENT,
    ),
    Mutant(
        "shrink: a norm before the layer", TRANSFORMER, "    if layer.norm_first:", "    if False:", TEST_TRANSFORMER
    ),
    Mutant(
        "shrink: masks of an encoder",
        TRANSFORMER,
        "src_mask=mask, src_key_padding_mask=src_key_padding_mask",
        "src_mask=mask",
        TEST_TRANSFORMER,
    ),
    Mutant("shrink: rows of gates", SIZES, 'Size("hidden", GATES[net.mode])', 'Size("hidden")', TEST_SIZES),
    Mutant(
        "shrink: packed projections",
        SIZES,
        'Size("heads", 3 * sized.head_dim)',
        'Size("heads", sized.head_dim)',
        TEST_SIZES,
    ),
    Mutant("gaps off by one", CODING, "= ends[gaps != SKIP] - 1", "= ends[gaps != SKIP]", TEST_CODING),
    Mutant("gaps without skips", CODING, "= zeros % SKIP", "= np.minimum(zeros, SKIP - 1)", TEST_CODING),
    Mutant("float16 for all", CODING, "half if exact else values", "half", TEST_CODING),
    Mutant("grids unchecked", CODING, "if not bool((cells * step_size == values).all()):", "if False:", TEST_CODING),
    Mutant("always sparse", CODING, "return min(dense, sparse", "return max(dense, sparse", TEST_CODING),
    Mutant(
        "removals are not counted",
        DEAD,
        "self._num_columns.index_add_(0, consumed, -torch.ones",
        "(0 * torch.ones",
        TEST_DEAD,
    ),
    Mutant("own rounding of logits", SHRINK, "else allowed + ROUNDING_FACTOR", "else allowed + 0", TEST_SHRINK),
    Mutant(
        "own rounding of a program",
        EXPORT,
        "ROUNDING_FACTOR * rounding",
        "0 * rounding",
        f"{TEST_EXPORT}::test_a_networks_own_rounding_is_allowed",
    ),
    Mutant("unpruned in silence", SHRINK, "if all(bool(weight.all()) for", "if False and all(() for", TEST_SHRINK),
    Mutant("empty in silence", SHRINK, "    if empty:", "    if False:", TEST_SHRINK),
    Mutant(
        "a pair without a digest",
        EXPORT,
        '"sha256": digest',
        '"sha256": ""',
        f"{TEST_EXPORT}::test_a_pair_that_disagrees_shows",
    ),
    Mutant(
        "gathered in onnxruntime",
        EXPORT,
        "widen(net, inputs, ONNXRUNTIME_GATHER_COST)",
        "pass",
        "tests/compress/test_gather.py::test_inputs_are_gathered_in_a_file_only_where_that_is_faster",
    ),
    Mutant(
        "gathered in PyTorch",
        EXPORT,
        "widen(net, inputs, PYTORCH_GATHER_COST)",
        "pass",
        "tests/compress/test_gather.py::test_inputs_are_gathered_in_a_file_only_where_that_is_faster",
    ),
    Mutant(
        "columns in ascending order",
        "pyro_vd/compress/gather.py",
        "[:, layer.selected]",
        "[:, layer.selected.sort()[0]]",
        "tests/compress/test_gather.py::test_selected_inputs_keep_their_order",
    ),
    Mutant(
        "a context from nothing", BITS, "            weight = PRIOR", "            probability = ONE // 2", TEST_BITS
    ),
    Mutant("contexts without end", BITS, "read if read < NODES else -place", "read", TEST_BITS),
    Mutant("numbers without end", BITS, "if length > LONGEST:", "if False:", TEST_BITS),
    Mutant(
        "zeros at the end are missed", BITS, "code + bytes(-len(code) % WORD)", "code[: len(code) // 4 * 4]", TEST_BITS
    ),
    Mutant(
        "no lines of an image",
        MASKS,
        "({1, period}, lines) if period > 1 else ({1}, {2, 3})",
        "({1}, {2, 3})",
        TEST_MASKS,
    ),
    Mutant("dead rows cost", MASKS, "[int(row.any()) for row in mask]", "[1 for row in mask]", TEST_MASKS),
    Mutant("indices of any size", MASKS, "    if length > most:", "    if False:", TEST_MASKS),
    Mutant("huge indices as positions", TENSORS, "tensor < DENSEST * len(tensor)", "tensor < 2**62", TEST_TENSORS),
    Mutant("altered files", COMPACT, "_crc(content[CHECKED:], version) != crc", "False", TEST_COMPACT),
    Mutant(
        "a network of other names",
        LAYOUT,
        "for name in names}) != expected",
        "for name in names}) < 0",
        TEST_COMPACT,
    ),
    Mutant("a decoder that errs", COMPACT, "    if found != check:", "    if False:", TEST_COMPACT),
    Mutant("shapes of any size", LAYOUT, "    if wrong:", "    if False:", TEST_COMPACT),
    Mutant(
        "a candidate's words depend on the length of its block",
        f"{RANDOM_CODE}/candidates.py",
        "(number << WORD_BITS)[:, None]",
        "(number * np.uint64(len(words)))[:, None]",
        TEST_RANDOM_CODE,
    ),
    Mutant(
        "importance weights without the prior",
        f"{RANDOM_CODE}/candidates.py",
        "0.5 * (1 - ratio.square())",
        "-0.5 * ratio.square()",
        f"{TEST_RANDOM_CODE}/test_candidates.py",
    ),
    Mutant(
        "the best candidate instead of a draw",
        f"{RANDOM_CODE}/candidates.py",
        ".gumbel(size=2**bits)",
        ".gumbel(size=2**bits) * 0",
        f"{TEST_RANDOM_CODE}/test_candidates.py",
    ),
    Mutant(
        "the first chunk of candidates wins",
        f"{RANDOM_CODE}/candidates.py",
        "if scores[found] > value:",
        "if start == 0:",
        f"{TEST_RANDOM_CODE}/test_candidates.py",
    ),
    Mutant(
        "quantiles that depend on the machine",
        f"{RANDOM_CODE}/generator.py",
        "np.round(np.array(upper) * STEPS) / STEPS",
        "np.array(upper)",
        f"{TEST_RANDOM_CODE}/test_generator.py",
    ),
    Mutant(
        "a random code of any length",
        f"{RANDOM_CODE}/code.py",
        "if bits > MOST_BITS or",
        "if False and bits > MOST_BITS or",
        f"{TEST_RANDOM_CODE}/test_code.py",
    ),
    Mutant(
        "coded weights that go on moving",
        f"{RANDOM_CODE}/block_posterior.py",
        "self._is_fixed[own] = True",
        "pass",
        f"{TEST_RANDOM_CODE}/test_block_posterior.py",
    ),
    Mutant(
        "a prior that is not the one in the file",
        f"{RANDOM_CODE}/block_posterior.py",
        "round_scale(math.sqrt(own))",
        "math.sqrt(own)",
        f"{TEST_RANDOM_CODE}/test_block_posterior.py",
    ),
    Mutant(
        "KL weights that run away",
        f"{RANDOM_CODE}/block_posterior.py",
        "(kl.detach() / target - 1)).clamp(-1, 1)",
        "(1 - kl.detach() / target)).clamp(-1, 1)",
        f"{TEST_RANDOM_CODE}/test_block_posterior.py",
    ),
    Mutant(
        "a version that no checksum covers",
        COMPACT,
        "zlib.crc32(rest, version - PLAIN)",
        "zlib.crc32(rest)",
        TEST_COMPACT,
    ),
    Mutant(
        "global noise of the encoder",
        f"{RANDOM_CODE}/encode.py",
        "torch.manual_seed(seed)",
        "pass",
        f"{TEST_RANDOM_CODE}/test_encode.py",
    ),
    Mutant(
        "tied weights by another name",
        f"{RANDOM_CODE}/encode.py",
        "key=lambda site: places[self.names[site]]",
        "key=lambda site: -places[self.names[site]]",
        f"{TEST_RANDOM_CODE}/test_encode.py",
    ),
    Mutant("shares of any size", GRIDS, "share * counts[name], partial", "share, partial", TEST_GRIDS),
    Mutant("pruned weights grow", GRIDS, "parameter.grad *= masks[name]", "pass", TEST_GRIDS),
    Mutant(
        "gradients off the grid",
        GRIDS,
        "_round(free[name], step_sizes[name]) for name",
        "free[name] for name",
        TEST_GRIDS,
    ),
    Mutant("loaded in training mode", STORAGE, "return loaded.eval()", "return loaded", TEST_STORAGE),
    Mutant("ties are lost", RESIZE, "kept is not None and kept.shape == value.shape", "False", TEST_STORAGE),
    Mutant("ties are written twice", STORAGE, "names.setdefault(id(tensor)", "names.setdefault(id(name)", TEST_STORAGE),
    Mutant(
        "a bomb",
        STORAGE,
        "return decompress(packed, limit)",
        "return decompress(packed, 2**31)",
        TEST_STORAGE,
    ),
    Mutant("a decoder of any size", DECOMPRESS, ", memlimit=XZ_MEMORY", "", TEST_STORAGE),
    Mutant("more behind the container", DECOMPRESS, "    if stream.unused_data:", "    if False:", TEST_STORAGE),
    Mutant("arrays of no tensor", STORAGE, "        if arrays:", "        if False:", TEST_RESIZE),
    Mutant("a larger network", RESIZE, "0 < length <= full and", "True and", TEST_RESIZE),
    Mutant("a tied tensor of another size", RESIZE, "free = () if is_tied else", "free =", TEST_RESIZE),
    Mutant("NaN weights", RESIZE, "if not bool(tensor.isfinite().all())", "if False", TEST_RESIZE),
    Mutant("negative variances", RESIZE, "bool((tensor < 0).any())", "False", TEST_RESIZE),
    Mutant("two tensors in the place of one", RESIZE, "not torch.equal(tensors[first], tensor)", "False", TEST_STORAGE),
    Mutant("inputs out of range", RESIZE, "(selected >= 0) & (selected < count)", "selected >= 0", TEST_RESIZE),
    Mutant("inputs twice", RESIZE, "(selected.diff() > 0)", "(selected.diff() > -9)", TEST_RESIZE),
    Mutant(
        "layers of several sizes",
        RESIZE,
        "if any(len(numbers) > 1 for numbers in units.values()):",
        "if False:",
        TEST_RESIZE,
    ),
    Mutant("steps of any kind", CODING, "not 0 < step_size < math.inf):", "False):", TEST_RESIZE),
    Mutant("more gaps than weights", CODING, " or len(gaps) > count", "", TEST_RESIZE),
    Mutant("sparsify without masking", SPARSIFY, 'own["threshold"] = defaults.threshold', "pass", TEST_SPARSIFY),
    Mutant("sparsify at one rate", SPARSIFY, "scale_noise_lr(guide, defaults.noise_lr)", "{}", TEST_SPARSIFY),
    Mutant("sparsify with its own before yours", SPARSIFY, " if name not in options}", "}", TEST_SPARSIFY),
    Mutant("sparsify masks any estimator", SPARSIFY, ' and given.estimator == "local"', "", TEST_SPARSIFY),
    Mutant(
        "sparsify by the log-uniform prior",
        SPARSIFY,
        "chosen.prior if prior is None",
        "guides.sparse.prior if prior is None",
        TEST_SPARSIFY,
    ),
    Mutant(
        "sparsify trains before it refuses",
        SPARSIFY,
        "    _check_network(net, inputs, target, list(model.priors))\n",
        "",
        TEST_SPARSIFY,
    ),
    Mutant(
        "a target prunes less than the scheme",
        TARGETS,
        "start - 2.0**step",
        "start + 2.0**step",
        TEST_TARGETS_OF_PRUNING,
    ),
    Mutant(
        "a target stops too early",
        TARGETS,
        "kept - low[1].kept <= 1",
        "kept - low[1].kept <= 9",
        TEST_TARGETS_OF_PRUNING,
    ),
    Mutant("a target takes the sparsest point", TARGETS, "(min if limits else max)", "min", TEST_TARGETS_OF_PRUNING),
    Mutant(
        "accuracy: the largest network that is enough",
        TARGETS,
        "(min if limits else max)",
        "max",
        "tests/compress/test_accuracy.py",
    ),
    Mutant(
        "accuracy: pruned until it is reached",
        TARGETS,
        "self.is_enough != limits",
        "self.is_enough",
        "tests/compress/test_accuracy.py",
    ),
    Mutant("an output without inputs is enough", TARGETS, " and not constant", "", TEST_TARGETS_OF_PRUNING),
    Mutant(
        "a target is beside averages of the unpruned",
        TARGETS,
        "self.posterior.mean(masks, self.inputs)",
        "self.posterior.mean(masks)",
        TEST_TARGETS_OF_PRUNING,
    ),
    Mutant(
        "transposed positions of the outputs",
        MULTIPLICATIONS,
        "given[0] if isinstance(layer, TRANSPOSED_CONVOLUTIONS) else output",
        "output",
        TEST_MULTIPLICATIONS,
    ),
    Mutant("multiplications of the batch", MULTIPLICATIONS, " // count(inputs)", "", TEST_MULTIPLICATIONS),
    Mutant(
        "a threshold of any number for masks",
        POSTERIOR,
        "return float(defaults.threshold)",
        "return 3.0",
        "tests/test_posterior.py",
    ),
    Mutant("only the lifted count", REPORT, "if p.ndim > 1 and id(p) not in owners", "if False", TEST_REPORT),
    Mutant("what is not used counts", REPORT, "id(p) not in reached)", "False)", TEST_REPORT),
    Mutant("nothing said of nothing", REPORT, "if self.nonzero == self.weights:", "if False:", TEST_REPORT),
    Mutant("nothing said of empty layers", REPORT, "        if self.empty:", "        if False:", TEST_REPORT),
    Mutant(
        "masks that broadcast",
        "pyro_vd/model/masks.py",
        "if (tuple(mask.shape), mask.dtype) != (shape, torch.bool):",
        "if mask.dtype != torch.bool:",
        "tests/model/test_masks.py tests/compress/test_prune.py",
    ),
    Mutant(
        "pruned in training mode",
        "pyro_vd/compress/prune.py",
        "return pruned.eval()",
        "return pruned",
        "tests/compress/test_copies.py",
    ),
    Mutant(
        "what cannot be copied has no name",
        "pyro_vd/compress/copies.py",
        "        if not named:",
        "        if True:",
        "tests/compress/test_copies.py",
    ),
    Mutant(
        "group schemes anywhere",
        "experiments/compress.py",
        "(UserError, NoLocalRule)",
        "UserError",
        f"{TEST_OWN}::test_group_schemes_on_layers_without_units_are_refused_with_advice",
    ),
    Mutant(
        "unused layers of one's own",
        "experiments/compress.py",
        "model.priors, images)",
        "model.priors)",
        f"{TEST_OWN}::test_all_weights_are_counted_and_what_is_dense_or_not_used_is_named",
    ),
    Mutant("mean variance", QUANTIZE, "variance.double().reciprocal().mean()", "(1 / variance.mean())", TEST_QUANTIZE),
    Mutant(
        "pruned weights count",
        QUANTIZE,
        "_own_variance(site, q)[mask]",
        "_own_variance(site, q).flatten()",
        TEST_QUANTIZE,
    ),
    Mutant("a bit short", QUANTIZE, "math.log2(cell + 1)", "math.log2(max(cell, 1))", TEST_QUANTIZE),
    Mutant("two spellings of a number", SPECS, "return int(value)", "return value", f"{TEST_SPECS} -kspelling"),
    Mutant("the seed in the key", SPECS, 'body.pop("seed", None)', "pass", f"{TEST_SPECS} -kseed"),
    Mutant("defaults in the key", SPECS, " if getattr(value, f.name) != _default(f)}", "}", f"{TEST_SPECS} -kdefault"),
    Mutant(
        "draws in the beginning",
        SPECS,
        "phases=self.phases[:count], members=1, num_samples=1",
        "phases=self.phases[:count], members=1",
        f"{TEST_SPECS} -kbeginning_is_shared",
    ),
    Mutant(
        "members of one seed",
        SPECS,
        "self.seed * self.members + index",
        "self.seed + index",
        f"{TEST_SPECS} -kmembers",
    ),
    Mutant("infinity in a spec", SPECS, "not math.isfinite(value)", "False", f"{TEST_SPECS} -kjson_has_not"),
    Mutant("the record of another spec", STORE, "if run.spec != spec:", "if False:", TEST_STORE),
    Mutant("seeds in the order of names", STORE, "lambda run: run.spec.seed", "lambda run: run.path.name", TEST_STORE),
    Mutant(
        "files of a deleted run",
        STORE,
        "(path, *(path.with_suffix(suffix) for suffix in ARTIFACT_SUFFIXES))",
        "(path,)",
        TEST_STORE,
    ),
    Mutant(
        "a record of other images",
        RUNNER,
        'if known["data_sha256"] != split.sha256:',
        "if False:",
        f"{TEST_RUNNER} -kother_images",
    ),
    Mutant(
        "draws that go on from the training",
        RUNNER,
        "torch.manual_seed(spec.seed)  # of the weight draws",
        "#",
        f"{TEST_RUNNER} -kdraws",
    ),
    Mutant(
        "starting over from the old checkpoint",
        RUNNER,
        "old.unlink(missing_ok=True)",
        "pass",
        f"{TEST_RUNNER} -kstarting_over",
    ),
    Mutant(
        "a resumed run draws an augmentation more",
        "pyro_vd/inference/loop.py",
        "with fork_rng(self.log_likelihood) if resumed else nullcontext():",
        "with nullcontext():",
        "tests/inference/test_resume.py -kaugment",
    ),
    Mutant(
        "starting over breaks another process's lock",
        RUNNER,
        "with hold_lock(checkpoint):",
        "if True:",
        f"{TEST_RUNNER} -kstarting_over",
    ),
    Mutant(
        "seed 1 is the beginning of 10",
        RUNNER,
        '{escape(checkpoint.name)}[.-]*"',
        '{escape(checkpoint.name)}*"',
        f"{TEST_RUNNER} -kstarting_over",
    ),
    Mutant("shuffled labels of one seed", RUNNER, "seed if data.shuffled else 0", "0", f"{TEST_RUNNER} -kloaded_once"),
    Mutant(
        "a diverged run forgets its phases",
        PHASES,
        "error.history = list(state.then(phase, error.history).history)",
        "pass",
        f"{TEST_PHASES} -kdiverges",
    ),
    Mutant(
        "a diverged round forgets the rounds before",
        PHASES,
        'error.history = [*history, *({"round"',
        'error.history = [*({"round"',
        f"{TEST_PHASES} -kdiverges",
    ),
    Mutant(
        "a beginning in use is an error",
        PHASES,
        "except CheckpointInUseError as",
        "except ZeroDivisionError as",
        f"{TEST_PHASES} -kwaited_for",
    ),
    Mutant(
        "tickets go on from trained weights",
        PHASES,
        "pair = make_masked_pair(state.net, len(job.split.train), masks)  # from",
        "pair = _make_masked_pair(pair.mean(), len(job.split.train), masks)  # from",
        f"{TEST_KINDS} -krewinds",
    ),
    Mutant("every training has seed 0", PHASES, '"seed": self.spec.seed', '"seed": 0', f"{TEST_PHASES} -kphase_says"),
    Mutant(
        "images moved in no training",
        "experiments/common/images.py",
        "if not data.shift:",
        "if True:",
        "tests/experiments/test_images.py -kmoved",
    ),
    Mutant("a sweep replaces a record", SWEEPS, "if spec in store:", "if False:", f"{TEST_SWEEP} -kwritten_once"),
    Mutant(
        "a sweep retries once less",
        SWEEPS,
        "tries[cell] <= retries",
        "tries[cell] < retries",
        f"{TEST_SWEEP} -kin_order",
    ),
    Mutant(
        "a sweep with runs that do not fit",
        SWEEPS,
        "now + (progress.estimate(cell) or 0.0)",
        "now",
        f"{TEST_SWEEP} -knot_fit",
    ),
    Mutant("a sweep that leaves its workers", SWEEPS, "        pool.stop()\n", "", f"{TEST_SWEEP} -kdriver_stops"),
    Mutant(
        "a sweep that leaves the variables of its workers",
        "experiments/common/pools.py",
        "            os.environ.pop(name)\n",
        "",
        f"{TEST_SWEEP} -kdies",
    ),
    Mutant(
        "a sweep that measures pruned runs like others",
        "experiments/studies.py",
        "isinstance(main, Fit) and main.threshold is None",
        "isinstance(main, Fit)",
        f"{TEST_SWEEP} -kby_what_it_is",
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
        "micro-batches: every part counts as a batch",
        "pyro_vd/inference/engine/objective.py",
        "yield len(first(part_y)) / size, part_x, part_y",
        "yield 1.0, part_x, part_y",
        TEST_PARTS,
    ),
    Mutant(
        "micro-batches: the check sees the whole batch",
        "pyro_vd/inference/preflight.py",
        "    _, x, y = next(objective.parts(x, y))\n",
        "",
        TEST_PARTS,
    ),
    Mutant(
        "micro-batches: a part of one in the last batch",
        "pyro_vd/inference/preflight.py",
        "for some in (size, last_size or size))",
        "for some in (size,))",
        TEST_PARTS,
    ),
    Mutant(
        "micro-batches: the last part's gradient",
        "pyro_vd/inference/engine/compiled_step.py",
        "gradients[name] + each if gradients else each",
        "each",
        f"{TEST_PARTS} -kwhole_batch",
    ),
    Mutant(
        "micro-batches: unknown to a resumed run",
        "pyro_vd/inference/resume.py",
        'OPTIONAL = ("clip_norm", "micro_batch_size")',
        'OPTIONAL = ("clip_norm",)',
        TEST_PARTS,
    ),
    Mutant(
        "torch schedule: a rate early",
        "pyro_vd/inference/torch_schedule.py",
        "return self.made[epoch]",
        "return self.made[-1]",
        "tests/inference/test_torch_schedule.py",
    ),
    Mutant(
        "validation: epochs of the warm-up compete",
        VALIDATION,
        "range(self.first, len(history))",
        "range(0, len(history))",
        f"{TEST_VALIDATION} -kwarm_up",
    ),
    Mutant(
        "validation: the last of equal epochs",
        VALIDATION,
        "max(compared, key",
        "max(reversed(compared), key",
        f"{TEST_VALIDATION} -kbest_epoch_or",
    ),
    Mutant(
        "validation: patience ends an epoch late",
        VALIDATION,
        "- best >= self.patience",
        "- best > self.patience",
        f"{TEST_VALIDATION} -kpatience_is_over",
    ),
    Mutant(
        "validation: the state that training changes",
        VALIDATION,
        "tensor.detach().clone()",
        "tensor.detach()",
        f"{TEST_VALIDATION} -kbest_epoch_or",
    ),
    Mutant(
        "validation: a sum over examples",
        VALIDATION,
        "return total / number",
        "return total",
        f"{TEST_VALIDATION} -kposterior_mean",
    ),
    Mutant(
        "validation: augmented",
        VALIDATION,
        "_without_augmentation(held).to(like.device)",
        "held.to(like.device)",
        f"{TEST_VALIDATION} -kaugmented",
    ),
    Mutant(
        "validation: another set in a resumed run",
        "pyro_vd/inference/resume.py",
        '{"validation": loop.validation.content}',
        "{}",
        f"{TEST_VALIDATION} -kanother_validation_set",
    ),
    Mutant(
        "validation: a resumed run without its best epoch",
        "pyro_vd/inference/resume.py",
        "        _restore_best(loop, loop.validation, tensors, meta",
        "        (lambda *_: None)(loop, loop.validation, tensors, meta",
        f"{TEST_VALIDATION} -ksame_best_epoch",
    ),
    Mutant(
        "validation: draws of the training",
        LOOP,
        "with fork_rng(self.log_likelihood):  # a check must not change the training",
        "with nullcontext():",
        f"{TEST_VALIDATION} -kdoes_not_change",
    ),
    Mutant(
        "stop: a rerun goes on",
        LOOP,
        "if self.stopped is not None and self.stopped >= self.training.epochs:",
        "if False:",
        "tests/inference/test_stop_training.py",
    ),
    Mutant(
        "validation: no example",
        "pyro_vd/inference/validation.py",
        "if not number:",
        "if False:",
        f"{TEST_VALIDATION} -kcannot_be_validated",
    ),
    Mutant(
        "validation: a shared generator after the restored state",
        LOOP,
        """                    self.validation.check(self.posteriors[0])
            # After the check, whose loader may draw from a generator that the training set's loader has too.
            if self.checkpoint is not None and checkpoints.exists(self.checkpoint):
                restore(self, self.checkpoint)
""",
        """                    pass
            if self.checkpoint is not None and checkpoints.exists(self.checkpoint):
                restore(self, self.checkpoint)
            if self.validation is not None:
                self.validation.check(self.posteriors[0])
""",
        f"{TEST_VALIDATION} -kshare_a_generator",
    ),
    Mutant(
        "schedules: not checked beforehand",
        "pyro_vd/inference/fit.py",
        "    training.check_schedules()\n",
        "",
        "tests/inference/test_torch_schedule.py -kbefore_the_first_step",
    ),
    Mutant(
        "load: a best epoch of another form",
        "pyro_vd/posterior.py",
        "            check_best(best, str(path))\n",
        "",
        "tests/test_posterior.py -kforged_best",
    ),
    Mutant(
        "sharing: a dimension that is wrapped around",
        "pyro_vd/priors/sharing.py",
        "not -ndim <= dim < max(ndim, 2)",
        "False",
        "tests/priors/test_sharing.py",
    ),
    Mutant(
        "load: the last epoch for the best",
        "pyro_vd/posterior.py",
        'best["returned"]',
        "False",
        f"{TEST_VALIDATION} -ksame_best_epoch",
    ),
    Mutant(
        "DessiLBI whose Z ignores nu",
        DESSILBI,
        'z = state["z"] + lr * distance',
        'z = state["z"] + lr * self.nu * distance',
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI whose Gamma is not scaled by kappa",
        DESSILBI,
        "gamma = self.kappa * shrink(z)",
        "gamma = shrink(z)",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI whose W ignores kappa",
        DESSILBI,
        "return parameter + lr * self.kappa * (opposite - distance)",
        "return parameter + lr * (opposite - distance)",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI without the coupling",
        DESSILBI,
        "self.kappa * (opposite - distance)",
        "self.kappa * opposite",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI that decays biases",
        DESSILBI,
        "if self.weight_decay and parameter.ndim > 1:",
        "if self.weight_decay:",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI that splits biases",
        DESSILBI,
        "return parameter.ndim > 1 and math.isfinite(self.nu)",
        "return math.isfinite(self.nu)",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI that forgets the first entry",
        DESSILBI,
        'is_new = (state["entry"] == 0) & (unit_norms(gamma) > 0)',
        "is_new = unit_norms(gamma) > 0",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI that shrinks filters by the entry",
        DESSILBI,
        "if values.ndim < 3:",
        "if values.ndim < 9:",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI that splits noise parameters",
        DESSILBI,
        '{"weight_decay": 0.0, "nu": math.inf}',
        '{"weight_decay": 0.0}',
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI of a bad group",
        DESSILBI,
        "            self.param_groups.pop()\n",
        "",
        TEST_DESSILBI,
    ),
    Mutant(
        "DessiLBI's path that ranks by norm alone",
        PATH,
        "order = order[epoch.flatten()[order].argsort(descending=True, stable=True)]",
        "order = order[:]",
        TEST_PATH,
    ),
    Mutant(
        "DessiLBI's path that counts epochs from 1",
        PATH,
        '(state["entry"] - 1) / steps_per_epoch',
        'state["entry"] / steps_per_epoch',
        TEST_PATH,
    ),
    Mutant(
        "DessiLBI's masks that leave the bias of a filter",
        PATH,
        "if weight.ndim > 2 and bias in parameters:",
        "if False:",
        TEST_PATH,
    ),
    Mutant(
        "DessiLBI's support that leaves out zeros of a filter",
        PATH,
        "(unit_norms(gamma) > 0).expand_as(gamma)",
        "gamma != 0",
        TEST_PATH,
    ),
    Mutant(
        "DessiLBI's study that ranks by steps",
        PATH_MEASURES,
        "rankings = make_rankings(posterior, steps)",
        "rankings = make_rankings(posterior, 1)",
        TEST_STUDY,
    ),
    Mutant(
        "DessiLBI's study whose log_alpha ranks the wrong way",
        PATH_MEASURES,
        "unit_norms(mean).log() - noise[site].log()",
        "noise[site].log() - unit_norms(mean).log()",
        TEST_STUDY,
    ),
    Mutant("one cycle: falls to 0", SCHEDULES, "self.final + (1 - self.final) * left", "left", TEST_SCHEDULES),
    Mutant("one cycle: start", SCHEDULES, "self.start + (1 - self.start) *", "self.start + 1.0 *", TEST_SCHEDULES),
    Mutant(
        "one cycle: not per step",
        SCHEDULES,
        "per_step: ClassVar[bool] = True",
        "per_step: ClassVar[bool] = False",
        TEST_CYCLE,
    ),
    Mutant(
        "rate per step: by the next step", LOOP, "self._set_lr(self.step)", "self._set_lr(self.step + 1)", TEST_CYCLE
    ),
    Mutant(
        "rate per step: lost in a resumed row",
        LOOP,
        "self._set_lr(max(self.step - 1, 0))",
        "self._set_lr(0)",
        TEST_CYCLE,
    ),
    Mutant(
        "rate per step: a fraction of another epoch",
        LOOP,
        "step / self.batches.steps",
        "step / (self.batches.steps + 1)",
        TEST_CYCLE,
    ),
    Mutant("smoothing: the chosen label twice", SMOOTHED, "(1 - self.smoothing) * chosen", "chosen", TEST_SMOOTHED),
    Mutant("smoothing: a sum over labels", SMOOTHED, "logits.mean(-1)", "logits.sum(-1)", TEST_SMOOTHED),
    Mutant(
        "smoothing: lost when expanded", SMOOTHED, "        expanded.smoothing = self.smoothing\n", "", TEST_SMOOTHED
    ),
    Mutant(
        "channels-last: noise",
        "guides/_gaussian.py",
        "if shape == theta.shape else",
        "if False else",
        "tests/test_memory_format.py",
    ),
    Mutant(
        "flips: not mirrored",
        "pyro_vd/data/augment.py",
        "net(images.flip(-1))",
        "net(images.flip(-2))",
        "tests/data/test_augment.py",
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
    Mutant(
        "phases: smoothing of a fit",
        "experiments/common/pairs.py",
        "make_likelihood(phase), num_data=num_data",
        "Categorical, num_data=num_data",
        TEST_KINDS,
    ),
    Mutant(
        "phases: the last epoch unmeasured",
        PHASES,
        "(training.epochs - 1 - epoch) % phase",
        "(epoch + 1) % phase",
        TEST_KINDS,
    ),
    Mutant(
        "phases: rates replaced",
        PHASES,
        "{**phase.training.lr_scale, **scale_noise_lr(pair.guide, phase.noise_lr)}",
        "scale_noise_lr(pair.guide, phase.noise_lr)",
        TEST_KINDS,
    ),
    Mutant(
        "monitor: noisy units without their noise",
        MONITORS,
        "(1 + q.on_inputs(q.noise.variance))",
        "1.0",
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: one variance of the noise for all units",
        MONITORS,
        "q.on_inputs(q.noise.variance))",
        "q.noise.variance.mean())",
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: the mean of a unit, not of all",
        MONITORS,
        "square, mean = h.square().mean(0), h.mean()",
        "square, mean = h.square().mean(0), h.mean(0).norm()",
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: alpha for a drop probability",
        MONITORS,
        "noise.variance / (1 + noise.variance)",
        "noise.variance",
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: open gates for closed ones", MONITORS, "return 1 - noise.active", "return noise.active", TEST_MONITORS
    ),
    Mutant(
        "monitor: the smallest gradient for the largest",
        MONITORS,
        "max(norms).item()",
        "min(norms).item()",
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: gradients of the sum",
        MONITORS,
        "F.cross_entropy(net(x), y)",
        'F.cross_entropy(net(x), y, reduction="sum")',
        TEST_MONITORS,
    ),
    Mutant(
        "monitor: none is run",
        PHASES,
        "            numbers |= MONITORS[name](current, job.split)\n",
        "            pass\n",
        TEST_MONITORS,
    ),
    Mutant(
        "conclusion: pairs of different seeds",
        CONCLUSIONS,
        "set.intersection(*map(set, by_seed))",
        "set.union(*map(set, by_seed))",
        TEST_CONCLUSIONS,
    ),
    Mutant(
        "conclusion: second minus first",
        CONCLUSIONS,
        "_mean(first, seed) - _mean(second, seed)",
        "_mean(second, seed) - _mean(first, seed)",
        TEST_CONCLUSIONS,
    ),
    Mutant(
        "conclusion: a normal interval",
        CONCLUSIONS,
        "stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)",
        "stats.norm.ppf((1 + CONFIDENCE) / 2)",
        TEST_CONCLUSIONS,
    ),
    Mutant("conclusion: a one-sided interval", CONCLUSIONS, "(1 + CONFIDENCE) / 2", "CONFIDENCE", TEST_CONCLUSIONS),
    Mutant(
        "conclusion: the deviation for the error",
        CONCLUSIONS,
        "statistics.stdev(differences) / math.sqrt(len(differences))",
        "statistics.stdev(differences)",
        TEST_CONCLUSIONS,
    ),
    Mutant("conclusion: diverged runs are paired", CONCLUSIONS, " if not run.diverged}", "}", TEST_CONCLUSIONS),
    Mutant(
        "exercise: the first epochs for the last",
        DROPOUT_TABLES,
        '["history"][-LATE:]',
        '["history"][:LATE]',
        TEST_EXERCISES,
    ),
    Mutant(
        "exercise: the other rate varies",
        "experiments/dropout_exercises.py",
        '"p": (rate, SECOND)}',
        '"p": (FIRST, rate)}',
        TEST_EXERCISES,
    ),
    Mutant(
        "exercise: a decay for none",
        "experiments/dropout_exercises.py",
        "optim.SGD(weight_decay=decay)",
        "optim.SGD(weight_decay=DECAY)",
        TEST_EXERCISES,
    ),
    Mutant(
        "C: padding of a convolution on the wrong side",
        f"{C_KERNELS}/convolve.c",
        "window->dilation_y - window->padding_y",
        "window->dilation_y + window->padding_y",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: no dilation across",
        f"{C_KERNELS}/convolve.c",
        "index % window->kernel_x * window->dilation_x",
        "index % window->kernel_x",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: one group",
        f"{C_KERNELS}/convolve.c",
        "x + output / (outputs / groups) * (window->channels / groups) * image",
        "x",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: stride of columns",
        f"{C_KERNELS}/convolve.c",
        "factor * read[column * stride]",
        "factor * read[column]",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: a dense row of a convolution",
        f"{C_KERNELS}/convolve.c",
        "index = is_dense ? i : index + *gaps++;",
        "index = index + (is_dense ? 1 : *gaps++);",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: weights of a dense row stay",
        f"{C_KERNELS}/linear.c",
        "            values += inputs;\n",
        "",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: the gap of the row before",
        f"{C_KERNELS}/linear.c",
        "            const float *read = x;\n",
        "            const float *read = row ? x + 1 : x;\n",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: no bias",
        f"{C_KERNELS}/linear.c",
        "scale * sum + (bias ? bias[row] : 0.0f)",
        "scale * sum + (bias ? 0.0f : 0.0f)",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: first position rounds down",
        f"{C_KERNELS}/window.c",
        "(limit - offset + stride - 1) / stride",
        "(limit - offset) / stride",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: columns beyond the result",
        f"{C_KERNELS}/window.c",
        "area.right < window->columns ? area.right : window->columns",
        "area.right",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: maximum from zero",
        f"{C_KERNELS}/max_pool.c",
        "-HUGE_VALF",
        "0.0f",
        f"{TEST_C}::test_random_networks {TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: average always over the padding",
        f"{C_KERNELS}/average_pool.c",
        "include_padding ? padded : inside",
        "include_padding ? inside : padded",
        f"{TEST_C}::test_random_networks",
    ),
    Mutant(
        "C: average beyond the padding",
        f"{C_KERNELS}/average_pool.c",
        "smaller(left + window->kernel_x, window->width + window->padding_x)",
        "left + window->kernel_x",
        f"{TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: softmax along the last axis",
        f"{C_KERNELS}/softmax.c",
        "i / after * length * after + i % after",
        "i * length",
        f"{TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: one slope",
        f"{C_KERNELS}/prelu.c",
        "slopes[channel] * *x",
        "slopes[0] * *x",
        f"{TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: subnormal float16 lost",
        f"{C_KERNELS}/float16.c",
        "magnitude *= 5.192296858534828e33f;",
        "magnitude *= magnitude < 1e-37f ? 0.0f : 5.192296858534828e33f;",
        f"{TEST_C}::test_rounded_weights",
    ),
    Mutant(
        "C: results share memory",
        "pyro_vd/compress/c/scratch.py",
        "uses[other].last >= use.first",
        "uses[other].last > use.first",
        "tests/compress/c/test_scratch.py",
    ),
    Mutant(
        "C: over what is read again",
        "pyro_vd/compress/c/scratch.py",
        "uses[over].last == use.first and ",
        "",
        "tests/compress/c/test_scratch.py",
    ),
    Mutant(
        "C: in place at another size",
        "pyro_vd/compress/c/scratch.py",
        " and uses[over].size == use.size",
        "",
        "tests/compress/c/test_scratch.py",
    ),
    Mutant(
        "C: a gap that is the end",
        "pyro_vd/compress/c/tables.py",
        "LONGEST, DENSE, END = 253, 254, 255",
        "LONGEST, DENSE, END = 255, 254, 255",
        "tests/compress/c/test_tables.py",
    ),
    Mutant(
        "C: a filler too many",
        "pyro_vd/compress/c/tables.py",
        "        if fillers and not gap:\n            fillers, gap = fillers - 1, LONGEST\n",
        "",
        "tests/compress/c/test_tables.py",
    ),
    Mutant(
        "C: never dense",
        "pyro_vd/compress/c/tables.py",
        "if 1 + len(row) * value_bytes <= ",
        "if False and 1 + len(row) * value_bytes <= ",
        "tests/compress/c/test_tables.py",
    ),
    Mutant(
        "C: shift of a folded norm",
        "pyro_vd/compress/c/layers.py",
        "affine.scale * self.bias + affine.shift",
        "self.bias + affine.shift",
        "tests/compress/c/test_graph.py",
    ),
    Mutant(
        "C: folded though read twice",
        "pyro_vd/compress/c/graph.py",
        "readers[given.reads[0]] == 1",
        "True",
        "tests/compress/c/test_graph.py",
    ),
    Mutant(
        "C: a batch that is no batch",
        "pyro_vd/compress/c/graph.py",
        "if not shape or str(shape[0]) != self._batch:",
        "if False:",
        f"{TEST_C}::test_what_has_no_form_in_c_is_refused_by_name",
    ),
    Mutant(
        "C: sums of bools",
        "pyro_vd/compress/c/graph.py",
        "if dtype != torch.float32 and not (dtype == torch.bool and call.operation in COMPARISONS):",
        "if False:",
        f"{TEST_C}::test_what_has_no_form_in_c_is_refused_by_name",
    ),
    Mutant(
        "C: steps unchecked",
        "pyro_vd/compress/c/export.py",
        '    check_same(net, (inputs, inputs[:1]), lambda given: [graph.run(given)], "the steps that were read")\n',
        "",
        f"{TEST_C}::test_what_has_no_form_in_c_is_refused_by_name",
    ),
    Mutant(
        "C: selected columns in order",
        "pyro_vd/compress/c/readers.py",
        "index_add_(1, given.selected, weight)",
        "index_add_(1, given.selected.sort().values, weight)",
        "tests/compress/c/test_graph.py",
    ),
    Mutant(
        "C: constants of the first channel",
        "pyro_vd/compress/c/readers.py",
        "if both.ndim > 2 and bool((both.flatten(2) == by_channel[..., None]).all()):",
        "if both.ndim > 2:",
        f"{TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: a difference is a sum",
        "pyro_vd/compress/c/readers.py",
        '("sub", False): (-alpha * one, constant)',
        '("sub", False): (alpha * one, constant)',
        f"{TEST_C}::test_every_operation",
    ),
    Mutant(
        "C: float16 of infinite weights",
        "pyro_vd/compress/c/values.py",
        "if not bool(half.isfinite().all()):",
        "if False:",
        f"{TEST_C}::test_weights_that_float16_or_int8_lose_are_refused",
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
    Mutant("pytree: a mapping stays", PYTREE, "return as_tree(dict(leaf))", "return leaf", TEST_PYTREE),
    Mutant("pytree: no leaf is uneven", PYTREE, "if not shape or shape[:1] != length:", "if not shape:", TEST_PYTREE),
    Mutant("pytree: every part at the front", PYTREE, "begin = where.stop", "begin = 0", TEST_PYTREE),
    Mutant("pytree: bytes pass", PYTREE, "if not is_single(x):\n        check_no_bytes(x, what)", "", TEST_PYTREE),
    Mutant(
        "pytree: a dict is one argument",
        PYTREE,
        "    if isinstance(x, Mapping):\n        return (), dict(x)\n",
        "",
        TEST_PYTREE,
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
        "batch: nothing to learn",
        "pyro_vd/inference/preflight.py",
        "            if self.are_all:",
        "            if False:",
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
    Mutant(
        "batch: a loader's hook may drop examples",
        LOADERS,
        "self.read is not None and drawn is not None and size != drawn",
        "self.read is not None and drawn is not None and size > drawn",
        f"{TEST_BATCH} -kbad_input",
    ),
    Mutant(
        "batch: inputs of a hook are counted",
        EXAMPLES,
        "    if read is not None:\n        return x, y\n    sizes",
        "    sizes",
        f"{TEST_BATCH} -kgraph",
    ),
    Mutant(
        "batch: the structure is no part of a graph's signature",
        "pyro_vd/inference/engine/engine.py",
        "return [*tensors, *map(describe_structure, index)]",
        "return tensors",
        f"{TEST_BATCH} -kanother_structure",
    ),
    Mutant(
        "batch: an output of another length",
        PREDICTIVE,
        "(not leaf.ndim or len(leaf) != size)",
        "not leaf.ndim",
        f"{TEST_BATCH} -kjoined",
    ),
    Mutant(
        "batch: the description forgets names",
        EXAMPLES,
        "digest.update(repr((name, plain)).encode())",
        "digest.update(repr((field.name, plain)).encode())",
        f"{TEST_BATCH} -kdescription",
    ),
    Mutant(
        "batch: the names of an ONNX file in the order of the dict",
        "pyro_vd/compress/onnx_names.py",
        "for name in (*bound.arguments, *inputs) if name in inputs}",
        "for name in inputs}",
        "tests/compress/test_export.py -kseveral_inputs",
    ),
    Mutant(
        "batch: loo takes one of the targets",
        "pyro_vd/diagnostics/_arviz.py",
        "np.sum(sites, axis=0)",
        "sites[0]",
        "tests/diagnostics/test_arviz_data.py -kadds_the",
    ),
    Mutant(
        "lora: scale of the old rank",
        LORA,
        "(math.sqrt(number) if layer.use_rslora[adapter] else number)",
        "len(ranks)",
        TEST_LORA,
    ),
    Mutant(
        "lora: no alpha pattern", LORA, "layer.lora_alpha[adapter] for name", "config.lora_alpha for name", TEST_LORA
    ),
    Mutant(
        "lora: patterns of ends of names", LORA, 'f"^{re.escape(name)}": layer.r', "re.escape(name): layer.r", TEST_LORA
    ),
    Mutant("lora: targets as they were", LORA, "    if emptied:\n", "    if not emptied:\n", TEST_LORA),
    Mutant(
        "lora: rows of A that do not belong to B",
        LORA,
        "lora_A[adapter], 0, ranks, taken",
        "lora_A[adapter], 0, ranks.flip(0), taken",
        TEST_LORA,
    ),
    Mutant("lora: ties untied", LORA, "    if key not in taken:\n", "    if True:\n", TEST_LORA),
    Mutant("lora: other adapters leave too", LORA, "    if layer.r:\n        return\n", "", TEST_LORA),
    Mutant(
        "lora: bias of a layer without ranks", LORA, "if up.bias is not None and", "if up.bias is None and", TEST_LORA
    ),
    Mutant(
        "lora: one place of a shared layer",
        LORA,
        "                parent._modules[name] = layer.get_base_layer()\n",
        "                parent._modules[name] = layer.get_base_layer()\n                return\n",
        TEST_LORA,
    ),
    Mutant(
        "lora: inactive adapters",
        LORA,
        "if layer.disable_adapters or adapter not in layer.active_adapters:",
        "if layer.disable_adapters:",
        TEST_LORA,
    ),
    Mutant("lora: the network itself", LORA, 'small = copy_network(net, "shrink_ranks")', "small = net", TEST_LORA),
    Mutant(
        "lora: padding in the mean",
        "experiments/common/minilm.py",
        "(states * weights).sum(1) / weights.sum(1)",
        "states.mean(1)",
        TEST_RANKS,
    ),
    Mutant(
        "lora: draws of pruned ranks",
        "experiments/common/lora_runs.py",
        "torch.where(masks[site], weight, 0.0)",
        "weight",
        TEST_RANKS,
    ),
    Mutant(
        "lora: test messages in tuning",
        "experiments/common/lora_runs.py",
        "messages.validation if spec.validation",
        "messages.test if spec.validation",
        TEST_RANKS,
    ),
    Mutant(
        "spam: validation messages in the test set",
        "pyro_vd/data/sms_spam.py",
        '"012345", "67", "89',
        '"01234567", "", "89',
        "tests/data/test_sms_spam.py",
    ),
    Mutant(
        "latency: of other inputs",
        "pyro_vd/compress/latency.py",
        'Timer("call(net, x)"',
        'Timer("call(net, x[:1])"',
        "tests/compress/test_latency.py",
    ),
    Mutant(
        "latency: slower is faster",
        "pyro_vd/compress/latency.py",
        "return measured <= self.most",
        "return measured >= self.most",
        "tests/compress/test_latency.py",
    ),
    Mutant(
        "latency: with gradients",
        "pyro_vd/compress/latency.py",
        "@torch.no_grad()\n",
        "",
        "tests/compress/test_latency.py",
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
    Mutant(
        "seen inputs: not the validation set", SEEN, "seen_inputs, held, _select", "seen_inputs, _select", TEST_SEEN
    ),
    Mutant("seen inputs: of the last fit", SEEN, "[model.seen_inputs, held,", "[held,", TEST_SEEN),
    Mutant(
        "seen inputs: a loader is forgotten",
        SEEN,
        "if len(known) == len(parts) else None",
        "if known else None",
        TEST_SEEN,
    ),
    Mutant("seen inputs: not loaded", POSTERIOR, "self.model.seen_inputs = seen", "pass", TEST_SEEN),
    Mutant(
        "digests: of rounded pixels", DIGESTS, "to_float(leaf.detach())", "leaf.detach()", "tests/data/test_digests.py"
    ),
    Mutant("digests: two zeros", DIGESTS, ".contiguous() + 0", ".contiguous()", "tests/data/test_digests.py"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", default=[""], help="part of the names of those to run; by default all")
    words = parser.parse_args().words
    chosen = [mutant for mutant in MUTANTS if any(word in mutant.what for word in words)]
    if not chosen:
        parser.error(f"no mutant's name holds {' or '.join(words)}")
    survivors = [mutant.what for mutant in tqdm(chosen) if not killed(mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    if survivors:
        print("survived: " + "; ".join(survivors))
        raise SystemExit(1)


def killed(mutant: Mutant) -> bool:
    """Whether the mutant's tests fail on a tree that holds it.

    Raises:
        ValueError: when the mutant no longer fits the code.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "runs", "results", "__pycache__", ".*_cache"))
        path = tree / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"mutant {mutant.what!r}: its text stands {text.count(mutant.old)} times in {mutant.file}")
        path.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
        return subprocess.run(command, cwd=tree, capture_output=True).returncode == 1


if __name__ == "__main__":
    main()
