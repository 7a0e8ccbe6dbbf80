import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers import DPMSolverMultistepScheduler as DPMSolver

from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.hub.folder import fingerprint
from vilex.lexicon import VisualLexicon
from vilex.prompt import PromptWarning
from vilex.sample import make_scheduler
from vilex.t2i import load_t2i

PROMPT = "a photo of the cat in snow"
BY_NAME = {"dpm++": DPMSolver, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


def pixels(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


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
    assert np.array_equal(pixels(drawn), pixels(expected))
    # the vocabulary's own vectors, injected as if they were an image, are those words
    ids = torch.tensor(lexicon.t2i.tokenizer("the cat in").input_ids[1:-1])
    vectors = lexicon.t2i.embed(ids)
    injected = lexicon.generate("a photo of <x:3> snow", {"x": vectors}, num_images=2, **settings)
    assert np.array_equal(pixels(injected), pixels(expected))


def test_image_at_weight_zero_is_the_base_model(lexicon, pictures):
    settings = {"steps": 4, "seed": 1, "guidance": Guidance(3.0)}
    words = lexicon.generate("a photo of in snow", **settings)
    named = {"x": pictures[0]}
    without = lexicon.generate("a photo of <x:8> in snow", named, weights={"x": 0}, **settings)
    with_image = lexicon.generate("a photo of <x:8> in snow", named, **settings)
    assert np.array_equal(pixels(words), pixels(without))
    assert not np.array_equal(pixels(words), pixels(with_image))


def test_encode_prefix_and_determinism(lexicon, pictures):
    full = lexicon.encode(pictures)
    assert full.shape == (8, 75, 32)
    assert torch.allclose(lexicon.encode(pictures, 4), full[:, :4], atol=1e-6)
    assert torch.equal(lexicon.encode(pictures), full)


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
        return pixels(lexicon.generate(prompt, named, guidance=Guidance(1, tfg), steps=4))

    assert np.array_equal(draw(text, 1), pixels(lexicon.generate(text, named, guidance=Guidance(), steps=4)))
    assert np.array_equal(draw(text, 0), draw("<x:4>", None))
    assert not np.array_equal(draw(text, 1), draw(text, 0))


def test_a_picture_does_not_depend_on_its_batch(lexicon, pictures):
    named = {f"x{i}": picture for i, picture in enumerate(pictures[:3])}
    prompts = ["<x0:16>", "a photo of <x1:4> in snow", "cat", "<x2> and <x0:2>"]
    settings = {"guidance": Guidance(2, 4), "steps": 4, "num_images": 2, "seed": 3}
    together = pixels(lexicon.generate(prompts, named, **settings))
    alone = np.concatenate([pixels(lexicon.generate(one, named, batch_size=1, **settings)) for one in prompts])
    assert np.abs(together - alone).max() <= 1  # 1e-4 of 0..1 may tip a rounding to 8 bits


def test_latents_do_not_depend_on_their_batch(lexicon, pictures):
    from vilex.guidance import PLAIN
    from vilex.prompt import parse
    from vilex.sample import make_scheduler, sample

    prompts = [parse("<x:16>"), parse("cat in snow")]
    tokens = {"x": lexicon.encode(pictures[:1])[0]}

    def draw(chosen, seeds):
        mixture = lexicon.mixture([Guidance(3).branches(one) for one in chosen], chosen, tokens)
        scheduler = make_scheduler("dpm++", lexicon.t2i.scheduler_config)
        return sample(lexicon.t2i, scheduler, mixture, mixture, PLAIN.acts, seeds, 6)

    together = draw(prompts, [1, 2])
    assert (together[0] - draw(prompts[:1], [1])[0]).abs().max() < 1e-4
    assert (together[1] - draw(prompts[1:], [2])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("scheduler", ["euler-a", "ddpm", "unipc", "pndm", "heun"])
def test_other_schedulers_run_and_repeat(lexicon, pictures, scheduler):
    def draw():
        return pixels(lexicon.generate("<x:4>", {"x": pictures[0]}, steps=4, scheduler=scheduler))

    assert np.array_equal(draw(), draw())


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
        (("cat",), {"steps": 0}, "at least 1 step"),
        (("cat",), {"scheduler": "magic"}, "use one of dpm"),
        (("<x>", {"x": torch.zeros(3, 5)}), {}, r"expected tokens \[n, 32\]"),
        (("cat",), {"num_images": 2, "seed": [1]}, "expected 2 seeds"),
    ]
    for arguments, settings, message in cases:
        with pytest.raises(InputError, match=message):
            lexicon.generate(*arguments, **settings)


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
        lexicon.generate("a cat", named, negative=negative, steps=2)[0].tobytes()
        for negative in ("", "<cat>", "<cat:2> in snow")
    )
    assert len({plain, away, fewer}) == 3


def test_names_are_matched_and_what_no_prompt_uses_is_said(lexicon, pictures):
    composed, parted = (
        lexicon.generate("<café:2>", {name: pictures[0]}, steps=2)[0] for name in ("café", "cafe\u0301")
    )
    assert composed.tobytes() == parted.tobytes()
    with pytest.warns(PromptWarning, match="image 'dog': no prompt has a slot <dog>"):
        lexicon.generate("a cat", {"dog": pictures[0]}, steps=2)
    with pytest.raises(InputError, match="image '2cat': is no image's name"):
        lexicon.generate("a cat", {"2cat": pictures[0]}, steps=2)
    with pytest.raises(InputError, match="weights: there is no image named 'dog'"):
        lexicon.generate("<cat:2>", {"cat": pictures[0]}, weights={"dog": 0.5}, steps=2)
    with pytest.raises(InputError, match="<dog> has no image"):
        lexicon.generate("a cat", {"cat": pictures[0]}, negative="<dog>", steps=2)
