"""One conformance suite for all families, on tiny random models in their real formats."""

import copy
import inspect
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.common import guided, own_pipeline, word_tokens
from tests.drawings import same
from tests.families import FAMILIES
from vilex.data import Batch
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import Guidance, Mixture
from vilex.lexicon import VisualLexicon
from vilex.pictures.pixels import to_pixels
from vilex.pipelines.embeds import prompt_arguments
from vilex.plan.memory import LiveBytes
from vilex.plan.plan import make_plan
from vilex.prompt import Prompt, PromptWarning, parse
from vilex.t2i import load_t2i, shape_of
from vilex.train.config import ObjectiveConfig
from vilex.train.loop import train
from vilex.train.models import checkpoint_activations
from vilex.train.objective import DenoisingObjective
from vilex.train.training import Training


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
def test_words_and_words_as_vectors_give_diffusers_own_picture(family, lexicon):
    name, pipeline = family[0], own_pipeline(family)
    expected = pipeline(
        prompt="cat dog in snow", num_inference_steps=3, generator=torch.Generator().manual_seed(7),
        height=lexicon.t2i.image_size, width=lexicon.t2i.image_size, **FAMILIES[name].own,
    ).images[0]  # fmt: skip
    how = {"guidance": FAMILIES[name].guidance, "seed": 7, "steps": 3, "scheduler": FAMILIES[name].scheduler}
    words = lexicon.generate("cat dog in snow", **how)[0]
    vectors = lexicon.generate("<v:2> in snow", {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}, **how)[0]
    assert same(words, expected) and same(vectors, words)
    assert not same(lexicon.generate("dog", **how)[0], words)


def test_words_that_are_steered_away_from_are_diffusers_own(family, lexicon):
    """Capitals too, which some pipelines make small."""
    name, pipeline = family[0], own_pipeline(family)
    if "negative_prompt" not in inspect.signature(pipeline.__call__).parameters:
        pytest.skip("its pipeline takes none")
    size, words = lexicon.t2i.image_size, {"prompt": "Cat in Snow", "negative_prompt": "a RED dog"}
    expected = pipeline(
        **FAMILIES[name].own | words, num_inference_steps=3, generator=torch.Generator().manual_seed(7), height=size,
        width=size,
    ).images[0]  # fmt: skip
    how = {"guidance": FAMILIES[name].guidance, "seed": 7, "steps": 3, "scheduler": FAMILIES[name].scheduler}
    drawn = lexicon.generate("Cat in Snow", negative="a RED dog", **how)[0]
    assert same(drawn, expected) and not same(lexicon.generate("Cat in Snow", negative="", **how)[0], drawn)


def predictions(network, draw):
    """Every row that a denoiser gives while something is drawn, flat, [N, ...]."""
    rows = []
    hook = network.register_forward_hook(lambda module, args, output: rows.extend(output[0]))
    try:
        draw()
    finally:
        hook.remove()
    return torch.stack([row.detach().float().flatten() for row in rows])


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
def test_the_denoiser_gives_what_it_gives_in_diffusers_own_pipeline(family, lexicon):
    """To 1e-5, for words and for a mix of words and words as vectors."""
    name, pipeline, size = family[0], own_pipeline(family), lexicon.t2i.image_size
    own = predictions(
        getattr(pipeline, lexicon.t2i.denoiser),
        lambda: pipeline(
            prompt="cat dog in snow", num_inference_steps=2, height=size, width=size, **FAMILIES[name].own,
            generator=torch.Generator().manual_seed(7),
        ),
    )  # fmt: skip
    how = {"guidance": FAMILIES[name].guidance, "seed": 7, "steps": 2, "scheduler": FAMILIES[name].scheduler}
    tokens = {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}
    for prompt in ("cat dog in snow", "<v:2> in snow"):
        ours = predictions(
            lexicon.t2i.network, lambda prompt=prompt: lexicon.generate(prompt, tokens if "<" in prompt else {}, **how)
        )
        assert ours.shape == own.shape
        apart = (ours[:, None] - own[None]).abs().amax(-1).amin(0)  # the order of conditions is each one's own
        assert apart.max() < 1e-5 * (1 + own.abs().max())


def test_gradients_reach_tokens_and_nothing_else(lexicon):
    t2i = lexicon.t2i
    tokens = word_tokens(t2i, ["cat", " dog"]).clone().requires_grad_()
    condition = t2i.read([parse("<v:2> in snow")], [{"v": tokens}])
    t2i.predict(torch.randn(1, *t2i.latent_shape), torch.tensor([500]), condition).square().mean().backward()
    start = 0
    for lookup in t2i.lookups:  # every text encoder's share takes part
        assert tokens.grad[:, start : start + lookup.shape[1]].abs().sum() > 0
        start += lookup.shape[1]
    assert all(p.grad is None and not p.requires_grad for module in t2i.modules for p in module.parameters())


def test_conditions_and_their_guidance_sums(lexicon):
    t2i, tokens = lexicon.t2i, {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}
    prompt = parse("<v:2> in snow")
    x, t = torch.randn(1, *t2i.latent_shape, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
    guided = Mixture.read(lexicon.t2i, [Guidance(3.0, 5.0).branches(prompt)], [prompt], tokens, Prompt(()))
    rows = x.expand(len(guided.condition), -1, -1, -1)
    with torch.inference_mode():
        summed = guided.combine(t2i.predict(rows, t, guided.condition))
        nothing, v, vc = (
            t2i.predict(x, t, t2i.read([parse(text)], [tokens])) for text in ("", "<v:2>", "<v:2> in snow")
        )
    assert torch.allclose(summed, nothing + 3 * (v - nothing) + 5 * (vc - v), atol=1e-4)
    assert not torch.allclose(v, vc) and not torch.allclose(v, nothing)


def test_a_batch_of_mixed_prompts_equals_one_by_one(lexicon):
    tokens = {"v": word_tokens(lexicon.t2i, ["cat", " dog", " snow"])}
    prompts = ["a <v:3> in the snow", "<v:1>", "a photo of the red dog"]
    how = {"guidance": Guidance(2.0), "steps": 2}
    together = lexicon.generate(prompts, tokens, seed=[3, 4, 5], **how)
    alone = [lexicon.generate(text, tokens, seed=3 + i, **how)[0] for i, text in enumerate(prompts)]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


def test_samplers_follow_the_model(lexicon):
    flow = lexicon.t2i.prediction_type == "flow"
    for scheduler in ("dpm++", "unipc", "euler", "heun"):
        picture = np.asarray(lexicon.generate("a cat", steps=4, scheduler=scheduler)[0])
        assert picture.shape == (lexicon.t2i.image_size, lexicon.t2i.image_size, 3) and picture.std() > 0
    if flow:
        with pytest.raises(InputError, match="cannot follow a flow model"):
            lexicon.generate("a cat", steps=2, scheduler="ddim")


def test_auto_encoder_there_and_back(lexicon):
    t2i = lexicon.t2i
    pixels = torch.rand(2, 3, t2i.image_size, t2i.image_size) * 2 - 1
    x0 = t2i.encode(pixels)
    assert x0.shape == (2, *t2i.latent_shape) and t2i.decode(x0).shape == pixels.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(family, dtype):
    t2i = load_t2i(family[1], dtype)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        condition = t2i.read([parse("a <v:1> in snow")], [{"v": word_tokens(t2i, ["cat"])}])
        prediction = t2i.predict(torch.randn(1, *t2i.latent_shape), torch.tensor([500]), condition)
        assert prediction.isfinite().all() and t2i.decode(torch.randn(1, *t2i.latent_shape).to(dtype)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_draws_nearly_the_same_picture(family, lexicon, dtype):
    how = {"steps": 3, "scheduler": FAMILIES[family[0]].scheduler}
    tokens = word_tokens(lexicon.t2i, ["cat", " dog"])
    half = VisualLexicon(lexicon.encoder, load_t2i(family[1], dtype))
    expected, drawn = (
        np.asarray(one.generate("<v:2> in snow", {"v": tokens}, **how)[0], dtype=float) for one in (lexicon, half)
    )
    assert 0 < np.abs(expected - drawn).mean() < 2


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_parts_that_wait_elsewhere_draw_the_same_picture(family, lexicon, pictures, way):
    how = {"images": {"cat": pictures[0]}, "start": pictures[1], "strength": 0.5, "steps": 4}
    expected = lexicon.generate("<cat:4> in snow", **how)[0]
    waiting = VisualLexicon(lexicon.encoder, load_t2i(family[1]).offload("cpu", way))
    for _ in range(2):
        assert waiting.generate("<cat:4> in snow", **how)[0].tobytes() == expected.tobytes()
    away = {p.is_meta for module in waiting.t2i.modules for p in module.parameters()}
    assert away == {way == "sequential"}


def test_an_unknown_way_to_offload_is_named(folders):
    with pytest.raises(InputError, match="offload 'disk': expected model or sequential"):
        load_t2i(folders("sdxl")).offload("cpu", "disk")


def test_the_auto_encoder_of_xl_is_spared_float16(folders):
    half, whole = load_t2i(folders("sdxl"), torch.float16), load_t2i(folders("sdxl"))
    whole.vae.half().float()  # the same rounded weights
    x0 = torch.randn(1, *half.latent_shape)
    assert torch.equal(half.decode(x0), whole.decode(x0)) and half.vae.dtype is torch.float16
    with torch.autocast("cpu", torch.float16):
        assert torch.allclose(half.encode(half.decode(x0)), whole.encode(whole.decode(x0)), atol=1e-5)


def loss_of(t2i, encoder, pictures):
    """The denoising loss over the same pictures, noises and noise levels, whatever the encoder."""
    objective = DenoisingObjective(t2i, ObjectiveConfig(tail_drop="off", caption_share=0.0), seed=1)
    pixels = torch.stack([to_pixels(picture.resize((t2i.image_size,) * 2)) for picture in pictures])
    count, values = len(pictures), []
    for start in range(0, 4 * count, count):
        batch = Batch(
            pixels, encoder.preprocess(pictures), [""] * count, torch.arange(start, start + count), torch.ones(count)
        )
        with torch.no_grad():
            values.append(objective(encoder, 8, batch)[0].item())
    return np.mean(values)


def test_training_lowers_the_loss_saves_and_loads(family, configure, pictures):
    sizes = {"num_tokens": 8, "blocks": 1, "heads": 1, "base": str(family[1])}
    optim = {"name": "adamw", "pooler_lr": 1e-2, "tower_lr": 1e-3, "warmup_steps": 2, "ema_decay": 0.9}
    plain = {"tail_drop": "off", "caption_share": 0.0}
    config = configure(model=sizes, optim=optim, objective=plain, run={"steps": 50, "batch_size": 2})
    start = Training(config)
    before = loss_of(start.t2i, start.bare.eval(), pictures)
    lexicon = VisualLexicon.from_pretrained(train(config, quiet=True))
    assert loss_of(start.t2i, lexicon.encoder, pictures) < before
    assert lexicon.encoder.config.base_model == str(family[1])
    assert lexicon.reconstruct(pictures[:1], steps=2)[0].size == (lexicon.t2i.image_size,) * 2


def test_activations_made_again_change_nothing(family, lexicon, pictures):
    values = []
    for again in (False, True):
        t2i, encoder = load_t2i(family[1]), copy.deepcopy(lexicon.encoder).train()
        if again:
            checkpoint_activations(t2i, encoder)
        objective = DenoisingObjective(t2i, ObjectiveConfig(), seed=1)
        pixels = torch.stack([to_pixels(picture.resize((t2i.image_size,) * 2)) for picture in pictures[:2]])
        batch = Batch(pixels, encoder.preprocess(pictures[:2]), ["a cat", ""], torch.arange(2), torch.ones(2))
        with LiveBytes() as held:
            loss, _ = objective(encoder, 8, batch)
            live = held.live
            loss.backward()
        values.append((loss.item(), live, encoder.pooler.out.weight.grad))
    (loss, held, gradient), (loss_again, held_again, gradient_again) = values
    assert loss == pytest.approx(loss_again, rel=1e-5) and torch.allclose(
        gradient, gradient_again, rtol=1e-3, atol=1e-6
    )
    assert held_again < held


def test_another_familys_encoder_is_refused(folders, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    with pytest.raises(InputError, match="tokens have width 32, the text encoder 80; use the base model"):
        VisualLexicon(encoder, load_t2i(folders("sdxl")))
    with pytest.raises(InputError, match="not the weights this encoder was trained with"):
        VisualLexicon.from_pretrained(model_folder, t2i=folders("sdxl"))


def test_shapes_alone_have_the_same_sizes(family):
    assert shape_of(family[1]).sizes == load_t2i(family[1]).sizes
    assert all(p.is_meta for module in shape_of(family[1]).modules for p in module.parameters())


def test_a_plan_counts_every_family(family, configure):
    plan = make_plan(configure(model={"base": str(family[1]), "heads": 1}, data={"path": "images"}))
    assert plan.frozen == load_t2i(family[1]).sizes and plan.flops > 0


def test_an_unknown_pipeline_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(InputError, match="KandinskyPipeline is not supported; expected one of StableDiffusionPipeline"):
        load_t2i(tmp_path)


def test_long_words_are_cut_with_a_warning(folders):
    t2i = load_t2i(folders("sdxl"))
    with pytest.warns(PromptWarning, match="too many"):
        t2i.read([parse("cat " * 100)], [{}])


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
def test_prompt_embeds_go_into_diffusers_own_pipeline(family, lexicon):
    name, pipeline = family[0], own_pipeline(family)
    tokens = {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}
    if not lexicon.t2i.steered:
        embeds = prompt_arguments(lexicon, "<v:2> in snow", tokens)
        drawn = pipeline(
            **embeds, **guided(name), num_inference_steps=2, generator=torch.Generator().manual_seed(7),
            height=lexicon.t2i.image_size, width=lexicon.t2i.image_size,
        ).images[0]  # fmt: skip
        how = {"seed": 7, "steps": 2, "scheduler": FAMILIES[name].scheduler, "guidance": FAMILIES[name].guidance}
        assert same(lexicon.generate("<v:2> in snow", tokens, **how)[0], drawn)
        for asked in ({"negative": "red"}, {"text_free": True}):
            with pytest.raises(InputError, match="steers away from nothing; leave out the negative prompt"):
                prompt_arguments(lexicon, "<v:2> in snow", tokens, **asked)
        return
    for text_free, guidance in ((False, Guidance(2.5)), (True, Guidance(1.0, 2.5))):
        embeds = prompt_arguments(
            lexicon, "<v:2> in snow", tokens, negative="" if text_free else "red", text_free=text_free
        )
        expected = pipeline(
            **embeds, **guided(name), num_inference_steps=2, generator=torch.Generator().manual_seed(7),
            height=lexicon.t2i.image_size, width=lexicon.t2i.image_size,
        ).images[0]  # fmt: skip
        how = {"seed": 7, "steps": 2, "scheduler": FAMILIES[name].scheduler, "negative": "red"}
        assert same(lexicon.generate("<v:2> in snow", tokens, guidance=guidance, **how)[0], expected)


def rewritten(folder, tmp_path, part, change):
    """A copy of a pipeline folder, a part's weights changed."""
    copied = shutil.copytree(folder, tmp_path / "copy")
    (file,) = (copied / part).glob("*.safetensors")
    save_file(change(load_file(file)), file, {"format": "pt"})
    return copied


def test_a_weight_that_is_in_no_file_is_named(family, tmp_path):
    for part in load_t2i(family[1]).names:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        names = []

        def lose(weights, names=names):
            names += sorted(name for name in weights if name.endswith("weight"))[2:4]
            return {name: value for name, value in weights.items() if name not in names}

        folder = rewritten(family[1], tmp_path, part, lose)
        with pytest.raises(InputError, match=rf"{part}: has no weights for .* and 1 others; fetch it again"):
            load_t2i(folder)


def test_weights_in_several_files(folders, tmp_path):
    """As FLUX.1, Z-Image and IF are published; a file of them that is missing is named."""
    folder, own = shutil.copytree(folders("flux"), tmp_path / "copy"), load_t2i(folders("flux"))
    for part in ("transformer", "text_encoder_2"):
        for file in (folder / part).glob("*.safetensors"):
            file.unlink()
        getattr(own, part).save_pretrained(folder / part, max_shard_size="20KB")
    again, files = load_t2i(folder), sorted((folder / "transformer").glob("*.safetensors"))
    for part in ("transformer", "text_encoder_2"):
        found = getattr(again, part).state_dict()
        assert all(torch.equal(value, found[name]) for name, value in getattr(own, part).state_dict().items())
    files[1].unlink()
    with pytest.raises(InputError, match=rf"cannot be loaded: .*{files[1].name}"):
        load_t2i(folder)


def test_names_of_older_files_are_known(folders, tmp_path):
    """As Stable Diffusion 1.5 is published: a prefix in the text encoder, other names in the auto-encoder."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(weights):
        for new, before in old.items():
            weights = {name.replace(new, before): value for name, value in weights.items()}
        return weights

    def prefix(weights):
        prefixed = {f"text_model.{name}": value for name, value in weights.items()}
        return prefixed | {"text_model.embeddings.position_ids": torch.arange(77)[None]}

    own = load_t2i(folders("sd1"))
    for part, change in (("vae", rename), ("text_encoder", prefix)):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        again = getattr(load_t2i(rewritten(folders("sd1"), tmp_path, part, change)), part).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in getattr(own, part).state_dict().items())


def test_a_tokenizer_without_its_words_is_named(folders, tmp_path):
    folder = shutil.copytree(folders("if"), tmp_path / "if")
    (folder / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(InputError, match=r"tokenizer: knows \d+ words of the text encoder's \d+; a file is missing"):
        load_t2i(folder)
