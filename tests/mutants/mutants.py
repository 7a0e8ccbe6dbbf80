"""The list: what is damaged, where, and which tests must fail for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A textual patch of one file of the package.

    Attributes:
        name: what the damage does.
        file: below src/vilex. old, new: `old` stands there once, and `new` is put in its place.
        tests: pytest's ids; at least one of them must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ENGINE, OBJECTIVE = "tests/train/test_engine.py", "tests/train/test_objective.py"
RESUME, PREVIEWS = "tests/train/test_resume.py", "tests/train/test_previews.py"
DECAY = f"{ENGINE}::test_weights_decay_in_both_groups_by_rate_and_decay"

TRAINING = [
    Mutant(
        "AdamW without weight decay",
        "train/optim.py",
        "weight_decay=config.weight_decay, betas",
        "weight_decay=0.0, betas",
        (f"{DECAY}[adamw]",),
    ),
    Mutant(
        "Muon without weight decay",
        "train/muon.py",
        "Muon(own, weight_decay=weight_decay",
        "Muon(own, weight_decay=0.0",
        (f"{DECAY}[muon]",),
    ),
    Mutant(
        "Muon goes on with the groups it was made with",
        "train/muon.py",
        "rule.param_groups, rule.state = self._groups(muon), self.state",
        "rule.state = self.state",
        ("tests/train/test_muon.py::test_each_parameter_moves_by_its_own_rule[True]",),
    ),
    Mutant(
        "Muon's Gram matrix takes one of the two factors",
        "train/muon.py",
        "polynomial @ gram @ polynomial",
        "polynomial @ gram",
        ("tests/train/test_muon.py::test_the_products_of_gram_matrices_are_newton_schulz_s",),
    ),
    Mutant(
        "Adafactor without weight decay",
        "train/optim.py",
        "weight_decay=config.weight_decay,\n        scale_parameter",
        "weight_decay=0.0,\n        scale_parameter",
        (f"{DECAY}[adafactor]",),
    ),
    Mutant(
        "micro-batches count without their share",
        "train/training.py",
        "loss = loss * share",
        "loss = loss * 1.0",
        (f"{ENGINE}::test_micro_batches_learn_what_the_whole_batch_learns",),
    ),
    Mutant(
        "run.compile compiles nothing",
        "train/training.py",
        "if config.run.compile:",
        "if False:",
        (f"{ENGINE}::test_compile_reaches_the_denoiser_and_the_encoder",),
    ),
    Mutant(
        "the scaler begins anew when a run goes on",
        "train/training.py",
        'self.engine.load_scaler_state(state["scaler"])',
        "pass",
        (f"{ENGINE}::test_the_scaler_goes_on_where_it_was",),
    ),
    Mutant(
        "the rate moves on in steps that fp16 leaves out",
        "train/training.py",
        "if not self.engine.skipped:",
        "if True:",
        (f"{ENGINE}::test_an_overflown_step_is_left_out_and_the_rate_waits",),
    ),
    Mutant(
        "autocast does nothing",
        "train/engine.py",
        "return self.accelerator.autocast() if self.precision else nullcontext()",
        "return nullcontext()",
        (f"{ENGINE}::test_mixed_precision_is_what_encoder_and_frozen_parts_compute_in",),
    ),
    Mutant(
        "clip_norm = 0 clips everything away",
        "train/engine.py",
        'clip_grad_norm_(parameters, limit or float("inf"))',
        "clip_grad_norm_(parameters, limit)",
        (f"{ENGINE}::test_clipping_is_to_a_norm_or_off",),
    ),
    Mutant(
        "min-SNR is left out of the loss",
        "train/objective.py",
        "weights = self.loss.min_snr(t, self.config.min_snr_gamma) * batch.weights.to(t.device)",
        "weights = batch.weights.to(t.device)",
        (f"{OBJECTIVE}::test_min_snr_reaches_the_loss",),
    ),
    Mutant(
        "broken samples are learnt from",
        "train/objective.py",
        "self.config.min_snr_gamma) * batch.weights.to(t.device)",
        "self.config.min_snr_gamma)",
        (f"{OBJECTIVE}::test_a_broken_sample_counts_for_nothing",),
    ),
    Mutant(
        "captions have no room beside image tokens",
        "train/objective.py",
        "return captions, torch.minimum(keep, limit)",
        "return captions, keep",
        (f"{OBJECTIVE}::test_captions_leave_room_and_dropout_drops",),
    ),
    Mutant(
        "every image of a run has the same noise",
        "train/objective.py",
        "SeedSequence((seed, 3, visit))",
        "SeedSequence((seed, 3))",
        (f"{OBJECTIVE}::test_what_is_drawn_for_an_image_depends_on_its_visit_alone",),
    ),
    Mutant(
        "velocity with the wrong sign",
        "train/denoising.py",
        "signal * noise - sigma * x0",
        "signal * noise + sigma * x0",
        (f"{OBJECTIVE}::test_target_is_noise_or_velocity",),
    ),
    Mutant(
        "x_t in half precision",
        "train/denoising.py",
        "x0, noise = x0.float(), noise.float()",
        "noise = noise.to(x0.dtype)",
        (f"{OBJECTIVE}::test_noise_levels_and_targets_are_float32_whatever_the_frozen_parts_are",),
    ),
    Mutant(
        "the exported weights are not the average",
        "train/training.py",
        "        if self.config.optim.ema_decay:\n            names =",
        "        if False:\n            names =",
        ("tests/train/test_loop.py::test_what_is_exported_is_the_average_of_the_weights",),
    ),
    Mutant(
        "previews are always alike",
        "train/previews.py",
        "F.cosine_similarity(source, found).mean().item()",
        "1.0",
        (f"{PREVIEWS}::test_scores_tell_pictures_that_are_alike_from_those_that_are_not",),
    ),
    Mutant(
        "a run goes on with other frozen weights",
        "train/resume.py",
        "if digest != base_sha256.get(name):",
        "if False:",
        (f"{RESUME}::test_frozen_weights_that_changed_are_refused",),
    ),
    Mutant(
        "changed checkpoints are believed",
        "train/checkpoint.py",
        "if digest and file_hash(path / name) != digest:",
        "if False:",
        (f"{RESUME}::test_a_damaged_checkpoint_is_named_and_the_one_before_is_used",),
    ),
    Mutant(
        "two runs write to one folder",
        "train/run_folder.py",
        "lock.acquire(timeout=PATIENCE, poll_interval=0.2)",
        "pass",
        ("tests/train/test_run_folder.py::test_a_second_run_in_one_folder_is_refused_and_the_first_unharmed",),
    ),
    Mutant(
        "a step asks the device for its loss",
        "train/training.py",
        "return loss.detach(), seen",
        "return loss.detach() + 0 * loss.item(), seen",
        ("tests/train/test_syncs.py::test_a_step_waits_once",),
    ),
]

DATA = [
    Mutant(
        "no picture is mirrored",
        "data/loader.py",
        "if self.config.flip and rng.random() < 0.5:",
        "if self.config.flip and rng.random() < 0.0:",
        ("tests/data/test_loader.py::test_flip_mirrors_half_of_the_images_for_both_models_alike",),
    ),
    Mutant(
        "always the first caption",
        "data/loader.py",
        "example.captions[rng.integers(len(example.captions))]",
        "example.captions[0]",
        ("tests/data/test_loader.py::test_of_several_captions_each_is_drawn_as_often",),
    ),
    Mutant(
        "every process reads the first one's part",
        "data/order.py",
        "first = step * self.batch_size + self.rank * self.part",
        "first = step * self.batch_size",
        ("tests/data/test_order.py",),
    ),
    Mutant(
        "photographs lie on their side",
        "pictures/load.py",
        "image = ImageOps.exif_transpose(image)",
        "pass",
        ("tests/pictures/test_load.py::test_exif_rotation_is_applied",),
    ),
]

DRAWING = [
    Mutant(
        "classifier-free guidance adds nothing instead of taking it away",
        "guidance.py",
        "{Branch(negative=True): 1 - self.cfg}",
        "{Branch(negative=True): self.cfg - 1}",
        ("tests/test_guidance.py::test_weights_are_the_papers",),
    ),
    Mutant(
        "text-free guidance is classifier-free",
        "guidance.py",
        "tfg = self.cfg if self.tfg is None else self.tfg",
        "tfg = self.cfg",
        ("tests/test_guidance.py::test_weights_are_the_papers",),
    ),
    Mutant(
        "guidance adds conditions, not their differences",
        "guidance.py",
        "weight * (others - first[owner])",
        "weight * others",
        ("tests/test_guidance.py::test_combine_is_the_weighted_sum",),
    ),
    Mutant(
        "guidance acts all the time",
        "guidance.py",
        "return self.interval[0] <= progress < self.interval[1]",
        "return True",
        ("tests/test_guidance.py::test_interval",),
    ),
    Mutant(
        "guidance is summed in half precision",
        "sample.py",
        "outputs = t2i.predict(rows, t, mixture.condition).float()",
        "outputs = t2i.predict(rows, t, mixture.condition)",
        ("tests/test_sample.py::test_half_precision_models_are_sampled_in_float32",),
    ),
    Mutant(
        "all pictures of a batch begin with one noise",
        "sample.py",
        "torch.Generator().manual_seed(seed) for seed in seeds",
        "torch.Generator().manual_seed(seeds[0]) for seed in seeds",
        ("tests/test_lexicon.py::test_a_picture_does_not_depend_on_its_batch",),
    ),
    Mutant(
        "zero terminal SNR is forgotten",
        "t2i/schedule.py",
        '"trained_betas", "rescale_betas_zero_snr")',
        '"trained_betas")',
        (f"{OBJECTIVE}::test_zero_terminal_snr_is_honoured",),
    ),
    Mutant(
        "latents are not scaled",
        "t2i/codec.py",
        "return (latents - self._shift) * self.vae.config.scaling_factor",
        "return latents - self._shift",
        ("tests/t2i/test_t2i.py::test_encode_decode_are_scaled",),
    ),
    Mutant(
        "Z-Image's words see the words after them",
        "t2i/text.py",
        "seen if self.model.config.model_type in SEES_ALL else seen.tril()",
        "seen",
        ("tests/conformance/test_families.py::test_words_and_words_as_vectors_give_diffusers_own_picture[z-image]",),
    ),
    Mutant(
        "words that are cut leave no room for those after them",
        "composition.py",
        "for_words -= min(len(words), for_words)",
        "for_words -= len(words)",
        ("tests/test_prompt.py::test_words_are_cut_never_images",),
    ),
    Mutant(
        "the last tokens are injected, not the first",
        "composition.py",
        "images[name][:count].to(embeddings)",
        "images[name][-count:].to(embeddings)",
        ("tests/test_prompt.py::test_inject_writes_tokens_and_passes_gradients",),
    ),
]

ENCODER = [
    Mutant(
        "the pooler's queries forget what they were",
        "encoder/pooler.py",
        "queries = queries + self.out(read.transpose(1, 2).flatten(2))",
        "queries = self.out(read.transpose(1, 2).flatten(2))",
        ("tests/encoder/test_encoder.py::test_the_pooler_computes_its_equation",),
    ),
    Mutant(
        "tokens are not on the vocabulary's scale",
        "encoder/pooler.py",
        "return self.mean + self.std * self.out(self.norm(tokens))",
        "return self.out(self.norm(tokens))",
        ("tests/encoder/test_encoder.py::test_tokens_start_at_the_vocabularys_scale",),
    ),
    Mutant(
        "pictures reach the tower without its mean",
        "encoder/preprocess.py",
        "return (x - mean) / std",
        "return x / std",
        ("tests/encoder/test_encoder.py::test_preprocess_equals_transformers_on_squares",),
    ),
    Mutant(
        "interpolated tokens are shortened",
        "tokens.py",
        "turned * torch.lerp(length_a, length_b, t)",
        "turned * length_a",
        ("tests/test_tokens.py::test_slerp_meets_its_ends_and_keeps_length",),
    ),
]

STAGES, EYES = "tests/train/test_stages.py", "tests/eval/eyesight"
IN_STAGES = [
    Mutant(
        "a waiting tower gets its gradient all the same",
        "encoder/model.py",
        "torch.is_grad_enabled() and not self.tower_waits",
        "torch.is_grad_enabled()",
        (f"{STAGES}::test_no_gradient_goes_through_a_tower_that_waits",),
    ),
    Mutant(
        "the tower of a second stage is warm at once",
        "train/optim.py",
        "return LambdaLR(optimizer, [of_tower] * each + whole.lr_lambdas[each:])",
        "return whole",
        (f"{STAGES}::test_each_part_s_rate_warms_up_in_its_own_stage_and_both_end_at_zero",),
    ),
    Mutant(
        "the average of a second stage's tower is as slow as the run is old",
        "train/average.py",
        "update_after_step=wait",
        "update_after_step=0 * wait",
        (f"{STAGES}::test_the_tower_s_average_begins_with_its_stage",),
    ),
    Mutant(
        "a run that goes on gives a waiting tower a state of the optimiser",
        "train/training.py",
        "self.engine.load_optimizer_state(saved, fresh_parts)",
        "self.engine.load_optimizer_state(saved)",
        (f"{STAGES}::test_resume_equals_the_uninterrupted_run_on_either_side_of_the_switch",),
    ),
]
SEEING = [
    Mutant(
        "a pair of MMVP-VLM is right by one of its statements",
        "eval/eyesight/mmvp.py",
        "(near[:, 0, 0] > near[:, 0, 1]) & (near",
        "(near[:, 0, 0] > near[:, 0, 1]) | (near",
        (f"{EYES}/test_mmvp.py",),
    ),
    Mutant(
        "the weakest decay is taken, whatever was left out",
        "eval/eyesight/probes.py",
        "if best is None or right > best[0]:",
        "if True:",
        (f"{EYES}/test_probes.py::test_the_strength_is_the_best_on_what_was_left_out",),
    ),
    Mutant(
        "pixels that do not count are counted",
        "eval/eyesight/masked.py",
        "said, true = said[counted], mask[counted]",
        "said, true = said.ravel(), mask.ravel() % classes",
        (f"{EYES}/test_masked.py::test_overlaps_are_counted_at_the_mask_s_own_size",),
    ),
    Mutant(
        "a tower stays out of the model whose text it goes with",
        "eval/eyesight/text_side.py",
        "        if eyes is not None:",
        "        if False:",
        (f"{EYES}/test_text_side.py::test_a_tower_looks_in_place_of_the_model_s_own",),
    ),
]

SIZES = [
    Mutant(
        "width and height change places",
        "t2i/folder.py",
        "height // self.compression, width // self.compression)",
        "width // self.compression, height // self.compression)",
        ("tests/t2i/test_sizes.py::test_a_sized_model_is_the_same_with_other_latents",),
    ),
    Mutant(
        "XL is told its own size whatever it draws",
        "t2i/stable_diffusion_xl.py",
        "width, height = self.picture_size",
        "width, height = self.image_size, self.image_size",
        ("tests/t2i/test_sizes.py::test_xl_is_told_the_pictures_size",),
    ),
    Mutant(
        "pictures are cut from the left",
        "pictures/fit.py",
        "(image.width - side_x) // 2, (image.height - side_y) // 2\n    return left",
        "0, 0\n    return left",
        ("tests/pictures/test_fit.py::test_crop_pad_and_squash",),
    ),
    Mutant(
        "pictures of a bucket keep the margins of the largest",
        "data/loader.py",
        "self.pixels[:, :, :height, :width]",
        "self.pixels",
        ("tests/train/test_buckets.py::test_a_batch_of_several_sizes_is_parted_by_size",),
    ),
    Mutant(
        "every bucket's noise is shifted as that of the base model's own size",
        "train/objective.py",
        "DenoisingLoss(self.t2i.sized(*size))",
        "self.loss",
        ("tests/train/test_buckets.py::test_xl_is_told_each_buckets_size_and_a_flow_is_shifted_by_it",),
    ),
]

AS_PEOPLE_HAVE_IT = [
    Mutant(
        "a kohya LoRA's layers all have one scale",
        "t2i/lora.py",
        "_scaled(tensors) if any(key.startswith(flat) for key in tensors) else path.parent",
        "path.parent",
        ("tests/t2i/test_lora.py::test_kohyas_format_is_read_with_each_layers_own_scale",),
    ),
    Mutant(
        "a LoRA's layers that a text encoder has not are passed over",
        "t2i/lora.py",
        '("unexpected keys", "UNEXPECTED")',
        '("unexpected keys",)',
        ("tests/t2i/test_lora.py::test_weights_that_would_be_passed_over_are_refused",),
    ),
    Mutant(
        "an evaluation goes on with the pictures of another LoRA",
        "eval/picture_store.py",
        "**lexicon.t2i.changed,",
        "",
        ("tests/eval/test_reconstruction.py::test_a_base_model_that_is_changed_does_not_mix_with_itself",),
    ),
    Mutant(
        "an evaluation's captions are read as prompts",
        "eval/rows.py",
        "literal(words(one))",
        "words(one)",
        ("tests/eval/test_reconstruction.py::test_captions_are_words_whatever_brackets_they_hold",),
    ),
    Mutant(
        "the app forgets what a sentence stresses",
        "app/sentence.py",
        "parse(text, emphasis=False).parts",
        "parse(text).parts",
        ("tests/app/test_sentence.py::test_what_is_stressed_stays_so",),
    ),
    Mutant(
        "stress moves a feature away from zero",
        "t2i/emphasis.py",
        "nothing + weights * (found - nothing)",
        "weights * found",
        ("tests/test_emphasis.py::test_stress_of_words_and_images_is_comfyuis",),
    ),
    Mutant(
        "a given sampler's own shift is forgotten",
        "scheduler_options.py",
        "{**options, SHIFT: shift}",
        "options",
        ("tests/test_scheduler_options.py::test_a_flow_model_takes_a_shift_where_its_own_is_fixed",),
    ),
]

MUTANTS = (*TRAINING, *DATA, *DRAWING, *ENCODER, *IN_STAGES, *SEEING, *SIZES, *AS_PEOPLE_HAVE_IT)
