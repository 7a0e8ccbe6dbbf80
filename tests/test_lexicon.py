import itertools
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers import DPMSolverMultistepScheduler as DPMSolver

from tests.drawings import same
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.hub.folder import fingerprint
from vilex.lexicon import VisualLexicon
from vilex.prompt import PromptWarning
from vilex.sample import make_scheduler
from vilex.t2i import load_t2i
from vilex.tokens import TokenWarning, save_tokens

PROMPT = "a photo of the cat in snow"
BY_NAME = {"dpm++": DPMSolver, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


def plain_pipeline(lexicon, sd_folder, scheduler):
    version = 2 if lexicon.t2i.prediction_type == "v_prediction" else 1
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder[version], safety_checker=None)
    said = {"clip_sample": False} if scheduler == "ddim" else {}  # as in Stable Diffusion's own configuration
    pipeline.scheduler = BY_NAME[scheduler].from_config(pipeline.scheduler.config, **said)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_samplers_of_another_class_clip_no_latents_and_an_own_one_stays_as_it_is():
    betas = {"beta_start": 0.001, "beta_end": 0.01}
    assert not make_scheduler("ddim", {"_class_name": "EulerDiscreteScheduler", **betas}).config.clip_sample
    assert make_scheduler("ddim", {"_class_name": "DDIMScheduler", **betas}).config.clip_sample
    clips = {"_class_name": "DDPMScheduler", "clip_sample": True, **betas}
    assert make_scheduler("ddim", clips).config.clip_sample


@pytest.mark.parametrize("scheduler", list(BY_NAME))
def test_words_give_the_plain_pipelines_pictures(lexicon, sd_folder, scheduler):
    pipeline = plain_pipeline(lexicon, sd_folder, scheduler)
    seeds = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    expected = pipeline(
        PROMPT,
        negative_prompt="red dog",
        num_inference_steps=6,
        guidance_scale=4.0,
        num_images_per_prompt=2,
        generator=seeds,
    ).images
    settings = {"negative": "red dog", "guidance": Guidance(4.0), "steps": 6, "scheduler": scheduler, "seed": 7}
    drawn = lexicon.generate(PROMPT, num_images=2, **settings)
    assert same(drawn, expected)
    # the vocabulary's own vectors, injected as if they were an image, are those words
    ids = torch.tensor(lexicon.t2i.tokenizer("the cat in").input_ids[1:-1])
    vectors = lexicon.t2i.embed(ids)
    injected = lexicon.generate("a photo of <x:3> snow", {"x": vectors}, num_images=2, **settings)
    assert same(injected, expected)


def test_image_at_weight_zero_is_the_base_model(lexicon, pictures):
    settings = {"steps": 4, "seed": 1, "guidance": Guidance(3.0)}
    words = lexicon.generate("a photo of in snow", **settings)
    named = {"x": pictures[0]}
    without = lexicon.generate("a photo of <x:8> in snow", named, weights={"x": 0}, **settings)
    with_image = lexicon.generate("a photo of <x:8> in snow", named, **settings)
    assert same(words, without)
    assert not same(words, with_image)


def test_encode_prefix_and_determinism(lexicon, pictures):
    full = lexicon.encode(pictures)
    assert full.shape == (8, 75, 32)
    assert torch.allclose(lexicon.encode(pictures, 4), full[:, :4], atol=1e-6)
    assert torch.allclose(lexicon.encode(pictures), full, atol=1e-5)


def count_rows(t2i):
    rows = []
    predict = t2i.predict
    t2i.predict = lambda x_t, t, condition: rows.append(len(x_t)) or predict(x_t, t, condition)
    return rows


@pytest.mark.parametrize(
    ("guidance", "rows"),
    [(Guidance(1, 1), 1), (Guidance(1, 0), 1), (Guidance(1, 3), 2), (Guidance(3), 2), (Guidance(2, 5), 3)],
)
def test_only_branches_with_weight_are_computed(lexicon, pictures, guidance, rows):
    seen = count_rows(lexicon.t2i)
    lexicon.generate("a <x:4> in snow", {"x": pictures[0]}, guidance=guidance, steps=3)
    assert seen == [rows] * 3


def test_interval_saves_calls(lexicon, pictures):
    seen = count_rows(lexicon.t2i)
    lexicon.generate("a <x:4>", {"x": pictures[0]}, guidance=Guidance(3, interval=(0.0, 0.5)), steps=4)
    assert seen == [2, 2, 1, 1]


def test_tfg_one_is_both_and_zero_is_the_image(lexicon, pictures):
    named, text = {"x": pictures[0]}, "<x:4> in snow"

    def draw(prompt, tfg):
        return lexicon.generate(prompt, named, guidance=Guidance(1, tfg), steps=4)

    assert same(draw(text, 1), lexicon.generate(text, named, guidance=Guidance(), steps=4))
    assert same(draw(text, 0), draw("<x:4>", None))
    assert not same(draw(text, 1), draw(text, 0), within=0)


def test_a_picture_does_not_depend_on_its_batch(lexicon, pictures):
    named = {f"x{i}": picture for i, picture in enumerate(pictures[:3])}
    prompts = ["<x0:16>", "a photo of <x1:4> in snow", "cat", "<x2> and <x0:2>"]
    settings = {"guidance": Guidance(2, 4), "steps": 4, "num_images": 2, "seed": 3}
    together = lexicon.generate(prompts, named, **settings)
    alone = [picture for one in prompts for picture in lexicon.generate(one, named, batch_size=1, **settings)]
    assert same(together, alone)


def test_latents_do_not_depend_on_their_batch(lexicon, pictures):
    from vilex.guidance import PLAIN, Mixture
    from vilex.prompt import Prompt, parse
    from vilex.sample import make_scheduler, sample

    prompts = [parse("<x:16>"), parse("cat in snow")]
    tokens = {"x": lexicon.encode(pictures[:1])[0]}

    def draw(chosen, seeds):
        mixture = Mixture.read(lexicon.t2i, [Guidance(3).branches(one) for one in chosen], chosen, tokens, Prompt(()))
        scheduler = make_scheduler("dpm++", lexicon.t2i.scheduler_config)
        return sample(lexicon.t2i, scheduler, mixture, mixture, PLAIN.acts, seeds, 6)

    together = draw(prompts, [1, 2])
    assert (together[0] - draw(prompts[:1], [1])[0]).abs().max() < 1e-4
    assert (together[1] - draw(prompts[1:], [2])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("scheduler", ["euler-a", "ddpm", "unipc", "pndm", "heun"])
def test_other_schedulers_run_and_repeat(lexicon, pictures, scheduler):
    def draw():
        return lexicon.generate("<x:4>", {"x": pictures[0]}, steps=4, scheduler=scheduler)

    assert same(draw(), draw())


def test_generation_changes_no_byte(sd_folder, model_folder, pictures):
    before = fingerprint(sd_folder[1])
    lexicon = VisualLexicon.from_pretrained(model_folder)
    weights = [p.clone() for module in lexicon.t2i.modules for p in module.state_dict().values()]
    lexicon.generate("a <x> in snow", {"x": pictures[0]}, steps=2)
    after = [p for module in lexicon.t2i.modules for p in module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))
    assert fingerprint(sd_folder[1]) == before


def test_bad_requests_are_one_line(lexicon, pictures):
    cases = [
        (("<x>", {}), {}, "<x> has no image"),
        (("cat",), {"steps": 0}, "steps: expected a whole number from 1 to 1000"),
        (("cat",), {"scheduler": "magic"}, "use one of dpm"),
        (("<x>", {"x": torch.zeros(3, 5)}), {}, r"expected tokens \[n, 32\]"),
        (("cat",), {"num_images": 2, "seed": [1]}, "expected 2 seeds"),
        ((None,), {}, "prompt: expected a text, got None"),
        ((b"cat",), {}, "prompt: expected a text"),
        (("<x>", [torch.zeros(3, 32)]), {}, "images: expected something for each name"),
        (("<x>", torch.zeros(3, 32)), {}, "images: expected something for each name"),
        (("<x>", {1: torch.zeros(3, 32)}), {}, "image '1': is no image's name"),
        (("cat", {}), {"weights": [1.0]}, "weights: expected something for each name"),
        (("cat",), {"guidance": 3.0}, r"guidance: expected weights as of Guidance\(cfg=3.0\), got 3.0"),
        (("cat",), {"scheduler": {}}, "scheduler: expected a text"),
    ]
    for arguments, settings, message in cases:
        with pytest.raises(InputError, match=message):
            lexicon.generate(*arguments, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu"}, "device: 'gpu' is no device"),
        ({"device": "cuda:99"}, "device: no device 'cuda:99' here"),
        ({"device": "meta"}, "device: 'meta' is no device"),
        ({"dtype": "float16"}, "dtype: expected torch.float32"),
        ({"dtype": torch.int8}, "dtype: expected torch.float32"),
        ({"name": None}, "model: expected a folder or a hub id, got None"),
        ({"t2i": 3}, "base_model; give the frozen model by t2i"),
    ],
)
def test_where_and_as_what_a_model_is_loaded_is_checked(settings, message):
    with pytest.raises(InputError, match=message):
        VisualLexicon.from_pretrained(**settings)


def test_wrong_width_is_refused(sd_folder, tower_folder):
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=64, num_tokens=4, heads=4)
    with pytest.raises(InputError, match="tokens have width 64, the text encoder 32"):
        VisualLexicon(encoder, load_t2i(sd_folder[1]))


def test_no_vilex_folder_is_refused(tower_folder, tmp_path):
    with pytest.raises(InputError, match="no ViLex encoder"):
        VisualLexicon.from_pretrained(tower_folder)
    with pytest.raises(InputError, match=r"config\.json: missing"):
        VisualLexicon.from_pretrained(tmp_path)
    assert ViLexConfig().model_type == "vilex"


def test_images_in_negative_prompts_have_budgets_of_their_own(lexicon, pictures):
    named = {"cat": pictures[0]}
    plain, away, fewer = (
        lexicon.generate("a cat", named, negative=negative, steps=2)[0] for negative in ("", "<cat>", "<cat:2> in snow")
    )
    assert not any(same(*pair, within=0) for pair in itertools.combinations((plain, away, fewer), 2))


def test_names_are_matched_and_what_no_prompt_uses_is_said(lexicon, pictures):
    composed, parted = (
        lexicon.generate("<café:2>", {name: pictures[0]}, steps=2)[0] for name in ("café", "cafe\u0301")
    )
    assert same(composed, parted)
    with pytest.warns(PromptWarning, match="image 'dog': no prompt has a slot <dog>"):
        lexicon.generate("a cat", {"dog": pictures[0]}, steps=2)
    with pytest.raises(InputError, match="image '2cat': is no image's name"):
        lexicon.generate("a cat", {"2cat": pictures[0]}, steps=2)
    with pytest.raises(InputError, match="weights: there is no image named 'dog'"):
        lexicon.generate("<cat:2>", {"cat": pictures[0]}, weights={"dog": 0.5}, steps=2)
    with pytest.raises(InputError, match="<dog> has no image"):
        lexicon.generate("a cat", {"cat": pictures[0]}, negative="<dog>", steps=2)


def test_pictures_of_every_form_and_tokens_of_every_shape(lexicon, pictures, tmp_path):
    pictures[0].save(tmp_path / "cat.png")
    tokens = lexicon.encode(tmp_path / "cat.png")
    assert tokens.shape == (1, 75, 32) and not tokens.is_inference()
    forms = [pictures[0], np.asarray(pictures[0]), (tmp_path / "cat.png").read_bytes(), str(tmp_path / "cat.png")]
    assert all(
        torch.allclose(lexicon.encode(form), tokens, atol=1e-5)
        for form in [*forms, forms[1:2], tmp_path, f"{tmp_path}/*.png"]
    )
    expected = lexicon.generate("a <x:4>", {"x": tmp_path / "cat.png"}, steps=2)
    for form in [*forms, tokens[0], tokens[:, :4], tokens.half().float()]:
        drawn = lexicon.generate("a <x:4>", {"x": form}, steps=2)
        assert same(drawn, expected)
    with pytest.raises(InputError, match=r"image 0: expected a path, .* got a tensor"):
        lexicon.encode([tokens[0]])


def test_reconstruct_takes_one_or_several_and_tokens_of_any_length(lexicon, pictures, tmp_path):
    tokens = lexicon.encode(pictures[:2])
    save_tokens(tmp_path / "t.safetensors", {"a": tokens[0], "b": tokens[1, :16]}, {})
    settings = {"steps": 2, "guidance": Guidance()}
    both = lexicon.reconstruct(tokens, **settings)
    assert same(both, lexicon.reconstruct(pictures[:2], **settings))
    assert same(both[:1], lexicon.reconstruct(pictures[0], **settings))
    assert same(both[:1], lexicon.reconstruct(tokens[0], **settings))
    kept = lexicon.reconstruct(tmp_path / "t.safetensors", **settings)
    short = lexicon.reconstruct(tokens[1], 16, **settings)
    assert same(kept, [both[0], short[0]])
    again = lexicon.reconstruct([pictures[0], f"{tmp_path}/t.safetensors#b"], **settings)
    assert same(again, [both[0], short[0]])
    with pytest.raises(InputError, match="<image1> has 16 tokens, got a budget of 20"):
        lexicon.reconstruct(tmp_path / "t.safetensors", 20)


def test_a_token_file_of_another_encoder_is_refused_and_one_of_none_said(lexicon, pictures, tmp_path):
    lexicon.encoder_sha256, tokens = "ab" * 32, lexicon.encode(pictures[0])[0]
    for name, made_by in {"own": "ab" * 32, "other": "cd" * 32, "none": None}.items():
        provenance = {} if made_by is None else {name: {"encoder_sha256": made_by}}
        save_tokens(tmp_path / f"{name}.safetensors", {name: tokens}, provenance)
    expected = lexicon.generate("<x:4>", {"x": tokens}, steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TokenWarning)
        own = lexicon.generate("<x:4>", {"x": tmp_path / "own.safetensors"}, steps=1)
    assert same(own, expected)
    with pytest.raises(
        InputError, match=r"other.safetensors#other: tokens of another encoder \(cdcdcdcdcdcd, not abab"
    ):
        lexicon.generate("<x:4>", {"x": tmp_path / "other.safetensors"})
    with pytest.raises(InputError, match="tokens of another encoder"):
        lexicon.reconstruct([tmp_path / "other.safetensors"])
    with pytest.warns(TokenWarning, match="none.safetensors#none: says not which encoder"):
        lexicon.generate("<x:4>", {"x": f"{tmp_path}/none.safetensors#none"}, steps=1)


BAD_NUMBERS = [
    ({"steps": 2.5}, "steps: expected a whole number"),
    ({"steps": True}, "steps: expected a whole number"),
    ({"steps": 10**6}, "steps: expected a whole number from 1 to 1000"),
    ({"num_images": 0}, "num_images: expected a whole number from 1"),
    ({"batch_size": 0}, "batch_size: expected a whole number from 1"),
    ({"num_tokens": 0}, "num_tokens: expected a whole number from 1 to 75"),
    ({"num_tokens": 76}, "num_tokens: expected a whole number from 1 to 75"),
    ({"num_tokens": 4.0}, "num_tokens: expected a whole number"),
    ({"seed": 2**70}, "seed: expected a whole number"),
    ({"seed": 0.5}, "seed: expected a whole number"),
    ({"seed": []}, "seed: expected at least one"),
    ({"seed": [1, 2, 3]}, "expected 1 seeds, or 1 for one a picture, got 3"),
    ({"weights": {"x": float("nan")}}, "weights: x: expected a number from -1000"),
    ({"weights": {"x": float("inf")}}, "weights: x: expected a number"),
    ({"weights": {"x": "1"}}, "weights: x: expected a number"),
    ({"negative": "<y>", "weights": {"y": 0.5}}, "weights: no prompt has a slot <y>"),
    ({"negative": ["red"]}, "prompt: expected a text"),
    ({"strength": 0.5}, "give start"),
    ({"start": np.zeros((8, 8, 3), np.uint8), "strength": float("nan")}, "strength: expected a number from 0 to 1"),
    ({"start": np.zeros((8, 8, 3), np.uint8), "strength": 1.5}, "strength: expected a number from 0 to 1"),
    ({"start": 3}, "start: expected a path, bytes"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_NUMBERS)
def test_numbers_are_checked_before_anything_is_drawn(lexicon, pictures, settings, message):
    def draws(*_):
        raise AssertionError("something was drawn")

    lexicon.t2i.predict = draws
    with pytest.raises(InputError, match=message):
        lexicon.generate("<x>", {"x": pictures[0], "y": pictures[1]}, **settings)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's, of a number too large for float32
def test_numbers_of_other_kinds_are_numbers(lexicon, pictures):
    plain = lexicon.generate("<x:4>", {"x": pictures[0]}, steps=2, seed=[7, 8], num_images=2, weights={"x": 0.5})
    other = lexicon.generate(
        "<x>", {"x": pictures[0]}, steps=np.int64(2), seed=np.uint8(7), num_images=torch.tensor(2),
        num_tokens=np.int32(4), weights={"x": np.float32(0.5)}, guidance=Guidance(np.float64(3)),
    )  # fmt: skip
    listed = lexicon.generate("<x:4>", {"x": pictures[0]}, steps=2, seed=np.array([7, 8]), num_images=2)
    assert same(plain, other) and len(listed) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cfg": float("nan")}, "cfg: expected a number"),
        ({"cfg": "3"}, "cfg: expected a number"),
        ({"tfg": float("inf")}, "tfg: expected a number"),
        ({"interval": (0.5, 0.2)}, "expected 0 <= from <= to <= 1"),
        ({"interval": (0, float("nan"))}, "guidance interval: expected a number"),
        ({"interval": 0.5}, "expected two numbers"),
    ],
)
def test_guidance_is_of_numbers(settings, message):
    with pytest.raises(InputError, match=message):
        Guidance(**settings)


def test_a_picture_of_no_numbers_is_refused(lexicon, pictures):
    lexicon.t2i.decode = lambda x0: torch.full((len(x0), 3, 64, 64), float("nan"))
    with pytest.raises(InputError, match="NaN or infinite; use float32"):
        lexicon.generate("a cat", steps=1)


def test_gradients_flow_through_prompt_embeds_to_tokens(lexicon, pictures):
    tokens = lexicon.encode(pictures[0])[0, :4].requires_grad_()
    embeds = lexicon.prompt_embeds("a <x> cat", {"x": tokens})
    embeds["prompt_embeds"].square().sum().backward()
    assert tokens.grad.abs().sum(-1).min() > 0
    fixed = lexicon.prompt_embeds("a <x> cat", {"x": pictures[0]}, num_tokens=4)["prompt_embeds"]
    assert not fixed.requires_grad and not fixed.is_inference()
    assert torch.allclose(fixed, embeds["prompt_embeds"].detach(), atol=1e-6)


@pytest.mark.parametrize("offloaded", [False, True], ids=["whole", "offloaded"])
def test_requests_in_threads_get_their_own_pictures(sd_folder, model_folder, pictures, offloaded):
    frozen = load_t2i(sd_folder[1])
    lexicon = VisualLexicon(
        ViLexEncoder.from_pretrained(model_folder), frozen.offload("cpu", "model") if offloaded else frozen
    )
    named = {f"p{i}": tokens for i, tokens in enumerate(lexicon.encode(pictures))}
    rng = random.Random(3)

    def request(i):
        name = rng.choice(list(named))
        prompt = rng.choice([f"<{name}:4>", f"a photo of <{name}:16> in snow", "a cat", f"<{name}:2> and <{name}:8>"])
        guidance = rng.choice([Guidance(), Guidance(3), Guidance(2, 4)])
        images = {name: named[name]} if name in prompt else {}
        return {"prompt": prompt, "images": images, "guidance": guidance, "seed": i, "steps": 1}

    requests = [request(i) for i in range(200)]
    alone = [lexicon.generate(**one) for one in requests]
    alone_embeds = [lexicon.prompt_embeds(one["prompt"], one["images"])["prompt_embeds"] for one in requests]
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)
    try:
        with ThreadPoolExecutor(8) as pool:
            drawn = list(pool.map(lambda one: lexicon.generate(**one), requests))
            embeds = list(pool.map(lambda one: lexicon.prompt_embeds(one["prompt"], one["images"]), requests))
    finally:
        sys.setswitchinterval(before)
    assert all(same(*pair) for pair in zip(drawn, alone, strict=True))
    for a, b in zip(embeds, alone_embeds, strict=True):
        assert torch.allclose(a["prompt_embeds"], b, atol=1e-5)
