"""Mutants of pruning, coding, export and the one call."""

from tests.mutants.mutant import Mutant

LORA = "pyro_vd/lora.py"
TEST_LORA = "tests/test_lora.py"
SIZES = "pyro_vd/compress/sizes.py"
TEST_SIZES = "tests/compress/test_sizes.py"
STORAGE = "pyro_vd/compress/storage.py"
CODING = "pyro_vd/compress/coding.py"
BITS = "pyro_vd/compress/adaptive_bits.py"
MASKS = "pyro_vd/compress/mask_model.py"
TENSORS = "pyro_vd/compress/tensor_model.py"
COMPACT = "pyro_vd/compress/compact.py"
LAYOUT = "pyro_vd/compress/layout.py"
GRIDS = "pyro_vd/compress/grids.py"
DECOMPRESS = "pyro_vd/decompress.py"
REPORT = "pyro_vd/compress/report.py"
EXPORT = "pyro_vd/compress/export.py"
INT8 = "pyro_vd/compress/int8.py"
QUANTIZE = "pyro_vd/compress/quantize.py"
TEST_STORAGE = "tests/compress/test_storage.py"
TEST_RESIZE = "tests/compress/test_resize.py"
TEST_CODING = "tests/compress/test_coding.py"
TEST_BITS = "tests/compress/test_adaptive_bits.py"
TEST_MASKS = "tests/compress/test_mask_model.py"
TEST_COMPACT = "tests/compress/test_compact.py"
TEST_TENSORS = "tests/compress/test_tensor_model.py"
TEST_GRIDS = "tests/compress/test_grids.py"
TEST_DECOMPRESS = "tests/test_decompress.py"
TEST_REPORT = "tests/compress/test_report.py"
TEST_EXPORT = "tests/compress/test_export.py"
SPARSIFY = "pyro_vd/sparsify.py"
TARGETS = "pyro_vd/compress/targets.py"
MULTIPLICATIONS = "pyro_vd/compress/multiplications.py"
TEST_SPARSIFY = "tests/test_sparsify.py"
TEST_TARGETS_OF_PRUNING = "tests/compress/test_targets.py"
TEST_MULTIPLICATIONS = "tests/compress/test_multiplications.py"
TEST_INT8 = "tests/compress/test_int8.py"
TEST_QUANTIZE = "tests/compress/test_quantize.py"

MUTANTS = (
    Mutant("bomb unpacked", DECOMPRESS, "(content, limit + 1)", "(content)", TEST_DECOMPRESS),
    Mutant("bomb accepted", DECOMPRESS, "if len(unpacked) > limit:", "if False:", TEST_DECOMPRESS),
    Mutant("truncated stream", DECOMPRESS, "if not stream.eof:", "if False:", TEST_DECOMPRESS),
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
        "an export that may differ by a hundredth",
        "pyro_vd/compress/export.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-2",
        "tests/compress/test_export.py::test_a_difference_of_three_in_a_hundred_thousand_is_too_much",
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
        "own rounding of a program",
        EXPORT,
        "ROUNDING_FACTOR * rounding",
        "0 * rounding",
        f"{TEST_EXPORT}::test_a_networks_own_rounding_is_allowed",
    ),
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
        "a version that no checksum covers",
        COMPACT,
        "zlib.crc32(rest, version - PLAIN)",
        "zlib.crc32(rest)",
        TEST_COMPACT,
    ),
    Mutant("shares of any size", GRIDS, "share * counts[name], partial", "share, partial", TEST_GRIDS),
    Mutant(
        "a change that is NaN is allowed",
        GRIDS,
        "return math.inf if math.isnan(changed) else changed",
        "return changed",
        f"{TEST_GRIDS}::test_a_step_that_makes_outputs_nan_is_too_large",
    ),
    Mutant("a grid of one class", GRIDS, "outputs.shape[-1] < 2", "outputs.shape[-1] < 1", TEST_GRIDS),
    Mutant("a network of NaN", GRIDS, "    if lost:", "    if False:", TEST_GRIDS),
    Mutant("pruned weights grow", GRIDS, "parameter.grad *= masks[name]", "pass", TEST_GRIDS),
    Mutant(
        "gradients off the grid",
        GRIDS,
        "_round(free[name], step_sizes[name]) for name",
        "free[name] for name",
        TEST_GRIDS,
    ),
    Mutant("loaded in training mode", STORAGE, "return loaded.eval()", "return loaded", TEST_STORAGE),
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
        "accuracy: labels of no class",
        "pyro_vd/compress/accuracy.py",
        "if low < 0 or high >= logits.shape[1]:",
        "if False:",
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
    Mutant("only the lifted count", REPORT, "if p.ndim > 1 and id(p) not in owners", "if False", TEST_REPORT),
    Mutant("what is not used counts", REPORT, "id(p) not in reached)", "False)", TEST_REPORT),
    Mutant("nothing said of nothing", REPORT, "if self.nonzero == self.weights:", "if False:", TEST_REPORT),
    Mutant("nothing said of empty layers", REPORT, "        if self.empty:", "        if False:", TEST_REPORT),
    Mutant(
        "pruned in training mode",
        "pyro_vd/compress/prune.py",
        "return pruned.eval()",
        "return pruned",
        "tests/compress/test_copies.py",
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
    Mutant(
        "batch: the names of an ONNX file in the order of the dict",
        "pyro_vd/compress/onnx_names.py",
        "for name in (*bound.arguments, *inputs) if name in inputs}",
        "for name in inputs}",
        "tests/compress/test_export.py -kseveral_inputs",
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
)
