"""Mutants of the objective, optimizers, engines and the loop."""

from tests.mutants.mutant import Mutant

SEEN = "pyro_vd/inference/seen_inputs.py"
TEST_SEEN = "tests/inference/test_seen_inputs.py"
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
RESUME = "pyro_vd/inference/resume.py"
RESUME_CHECKS = "pyro_vd/inference/resume_checks.py"
IDENTITY = "pyro_vd/inference/identity.py"
LOCK = "pyro_vd/inference/lock.py"
CHECKPOINT = "pyro_vd/checkpoint.py"
FILES = "pyro_vd/files.py"
LOADERS = "pyro_vd/inference/loaders.py"
RESUMING = "tests/inference/test_resume.py"
LOADING = "tests/inference/test_loaders.py"
CHECKING = "tests/inference/test_resume_checks.py"
LOCKING = "tests/inference/test_lock.py"
SAVING = "tests/test_checkpoint.py"
FORGED = (
    f"{CHECKING}::test_a_forged_tensor_is_refused_before_anything_is_touched "
    f"{CHECKING}::test_forged_metadata_is_refused_before_anything_is_touched "
    "tests/test_posterior.py::test_a_forged_posterior_is_not_loaded"
)
TEST_SEEDS = "tests/inference/test_fit_seeds.py"
DESSILBI = "pyro_vd/optim/dessilbi.py"
PATH = "pyro_vd/optim/dessilbi_path.py"
TEST_DESSILBI = "tests/optim/test_dessilbi.py"
TEST_PATH = "tests/optim/test_dessilbi_path.py"
PREFLIGHT = "pyro_vd/inference/preflight.py"
ENGINE = "pyro_vd/inference/engine/engine.py"
PYTHON_STATE = "pyro_vd/inference/engine/python_state.py"
SVI = "pyro_vd/inference/fit.py"
TEST_TARGETS = "tests/model/test_targets.py"
TEST_PREFLIGHT = "tests/inference/test_preflight.py"
TEST_PYTHON_STATE = "tests/inference/engine/test_python_state.py"
TEST_RANDOM_STATE = "tests/inference/test_random_state.py"
PROGRESS = "pyro_vd/inference/progress.py"
TEST_PROGRESS = "tests/inference/test_progress.py"
TEST_PARTS = "tests/inference/test_micro_batches.py"
VALIDATION = "pyro_vd/inference/validation.py"
TEST_VALIDATION = "tests/inference/test_validation.py"

MUTANTS = (
    Mutant(
        "nothing ever starts",
        LOOP,
        'pair.objective.guide.mark_started(now["threshold"])',
        "pass",
        "tests/posteriors/test_train_mask.py",
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
        "targets not compared before a step",
        PREFLIGHT,
        'check_target_values(target, self.targets[site] if has_one_support(target) else msg["value"], site)',
        "pass",
        TEST_TARGETS,
    ),
    Mutant(
        "later batches of a loader", PREFLIGHT, "check_target_values(targets[site], values, site)", "pass", TEST_TARGETS
    ),
    Mutant("guides in handlers", "pyro_vd/elbo.py", "if not isinstance(part, nn.Module):", "if False:", TEST_PREFLIGHT),
    Mutant("any RuntimeError", PREFLIGHT, "if not DTYPE_MESSAGE.search(str(error)):", "if False:", TEST_PREFLIGHT),
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
    Mutant("files: one of two is replaced", FILES, "if path.is_dir():", "if False:", "tests/test_files.py"),
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
        "a resumed run draws an augmentation more",
        "pyro_vd/inference/loop.py",
        "with fork_rng(self.log_likelihood) if resumed else nullcontext():",
        "with nullcontext():",
        "tests/inference/test_resume.py -kaugment",
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
        "batch: nothing to learn",
        "pyro_vd/inference/preflight.py",
        "            if self.are_all:",
        "            if False:",
        f"{TEST_BATCH} -kbad_input",
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
        "batch: the description forgets names",
        EXAMPLES,
        "digest.update(repr((name, plain)).encode())",
        "digest.update(repr((field.name, plain)).encode())",
        f"{TEST_BATCH} -kdescription",
    ),
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
)
