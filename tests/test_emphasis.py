"""Stressed words and long prompts: what CLIP reads of them is compel's and ComfyUI's reading, by numbers."""

import warnings

import pytest
import torch
from compel import Compel, ReturnedEmbeddingsType
from compel.embeddings_provider import SplitLongTextMode

from tests.drawings import same
from tests.families import FAMILIES
from vilex.composition import compose_chunks
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.prompt import Prompt, PromptWarning, Slot, literal, parse
from vilex.t2i import load_t2i

LONG = " ".join(["cat in snow with dog"] * 40)  # five chunks
CHUNKS = {"truncate_long_prompts": False, "split_long_text_mode": SplitLongTextMode.BRUTAL}


@pytest.fixture(scope="module")
def lexicon(model_folder):
    return VisualLexicon.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory, tower_folder):
    t2i = load_t2i(FAMILIES["sdxl"].make(tmp_path_factory.mktemp("sdxl") / "base"))
    return VisualLexicon(
        ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=4, blocks=1, heads=1), t2i
    )


@pytest.mark.parametrize(
    ("text", "parts", "emphasis"),
    [
        ("a (red:1.3) cat", ("a", "red", "cat"), (1, 1.3, 1)),
        ("((deep:2):2)", ("deep",), (4,)),
        ("a ((red:1.2) <cat:4>:1.5)", ("a", "red", Slot("cat", 4)), (1, 1.2 * 1.5, 1.5)),
        ("(<a>:0)", (Slot("a"),), (0,)),
        ("( red : .5 )", ("red",), (0.5,)),
        ("a (b (c:1.5) d) e", ("a (b", "c", "d) e"), (1, 1.5, 1)),
        ("(a:b:1.5)", ("a:b",), (1.5,)),
        ("(cat) and ratio 4:3", ("(cat) and ratio 4:3",), ()),
        ("(a:1) b", ("a b",), ()),
        ("x :1.2) (y", ("x :1.2) (y",), ()),
        (r"\(red:1.3\)", ("(red:1.3)",), ()),
        (r"(a \(b\):1.5)", ("a (b)",), (1.5,)),
        ("(:1.3)", (), ()),
        ("(a:2.) (b:+2)", ("a", "b"), (2, 2)),
        ("(a:1,5) (b:x)", ("(a:1,5) (b:x)",), ()),
    ],
)
def test_what_is_stressed(text, parts, emphasis):
    prompt = parse(text)
    assert prompt.parts == parts and prompt.emphasis == pytest.approx(emphasis)


def test_brackets_that_cannot_be_meant_are_named():
    with pytest.raises(InputError, match=r":30\)': expected 0 to 10 .* written \\\(") as caught:
        parse("(at 10:30)")
    assert "\n" not in str(caught.value)
    for text in ("(a:-1)", "(a:10.5)"):
        with pytest.raises(InputError, match="expected 0 to 10"):
            parse(text)
    assert parse("(at 10:30)", emphasis=False).parts == ("(at 10:30)",)
    assert literal(" (at 10:30) <x> ") == Prompt(("(at 10:30) <x>",)) and literal(" ") == Prompt(())
    with pytest.raises(InputError, match="brackets within brackets multiply, here to 16; expected 0 to 10"):
        parse("((a:4) b:4)")


def test_parts_keep_their_stress():
    prompt = parse("(a:2) <x> (b:3) <y>")
    assert prompt.image_only() == Prompt((Slot("x"), Slot("y")))
    assert prompt.without({"x"}) == Prompt(("a", "b", Slot("y")), (2, 3, 1))
    assert prompt.without({"x", "y"}) == prompt.words_only() == Prompt(("a", "b"), (2, 3))
    assert prompt.words == "a b" and prompt != parse("a <x> b <y>")


def test_stress_is_compels(lexicon):
    compel = Compel(lexicon.t2i.tokenizer, lexicon.t2i.text_encoder)
    ours = lexicon.prompt_embeds("a (cat in snow:1.3) with (dog:2)")["prompt_embeds"]
    assert torch.allclose(ours, compel("a (cat in snow)1.3 with (dog)2.0"), atol=1e-5)
    assert not torch.allclose(ours, lexicon.prompt_embeds("a cat in snow with dog")["prompt_embeds"], atol=1e-2)


@pytest.mark.parametrize("stress", [0.0, 0.4, 1.7])
def test_stress_of_words_and_images_is_comfyuis(lexicon, stress):
    """Towards what an empty prompt has in that position, or away from it; marks and padding as they are."""
    tokens = {"it": torch.randn(3, lexicon.t2i.width)}
    plain, empty = (lexicon.prompt_embeds(text, tokens)["prompt_embeds"][0] for text in ("cat <it:2> in", ""))
    stressed = lexicon.prompt_embeds(f"cat (<it:2> in:{stress})", tokens)["prompt_embeds"][0]
    expected = plain.clone()
    expected[2:5] = empty[2:5] + stress * (plain[2:5] - empty[2:5])
    assert torch.allclose(stressed, expected, atol=1e-6)


def test_two_text_encoders_and_what_is_pooled(sdxl):
    t2i = sdxl.t2i
    compel = Compel(
        [t2i.tokenizers["tokenizer"], t2i.tokenizers["tokenizer_2"]], [t2i.text_encoder, t2i.text_encoder_2],
        returned_embeddings_type=ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
        requires_pooled=[False, True], **CHUNKS,
    )  # fmt: skip
    for ours, theirs in (("a (cat:1.5) in snow", "a (cat)1.5 in snow"), (LONG, LONG)):
        sequence, pooled = compel(theirs)
        found = sdxl.prompt_embeds(ours, long_prompts=True)
        assert torch.allclose(found["prompt_embeds"], sequence, atol=1e-5)
        assert found["negative_prompt_embeds"].shape == sequence.shape
    assert torch.allclose(found["pooled_prompt_embeds"], pooled, atol=1e-5)
    plain, stressed = (sdxl.prompt_embeds(text)["pooled_prompt_embeds"] for text in ("a cat", "a (cat:1.5)"))
    assert torch.equal(plain, stressed)  # what is pooled is not stressed


def test_long_prompts_are_read_as_compel_reads_them(lexicon):
    compel = Compel(lexicon.t2i.tokenizer, lexicon.t2i.text_encoder, **CHUNKS)
    ours = lexicon.prompt_embeds(f"{LONG} (dog:1.5)", negative="cat", long_prompts=True)
    theirs, against = compel.pad_conditioning_tensors_to_same_length([compel(f"{LONG} (dog)1.5"), compel("cat")])
    assert ours["prompt_embeds"].shape[1] == 5 * 77
    assert torch.allclose(ours["prompt_embeds"], theirs, atol=1e-5)
    assert torch.allclose(ours["negative_prompt_embeds"], against, atol=1e-5)


@pytest.mark.parametrize("clip_skip", [0, 1])
def test_chunks_are_prompts_of_their_own(lexicon, clip_skip):
    found = [
        lexicon.prompt_embeds(text, long_prompts=True, clip_skip=clip_skip)["prompt_embeds"]
        for text in (f"{'cat ' * 75} dog", "cat " * 75, "dog")
    ]
    assert torch.allclose(found[0], torch.cat(found[1:], dim=1), atol=1e-5)


def test_an_images_tokens_stay_in_one_chunk(lexicon):
    layouts = compose_chunks(parse(f"{' '.join(['cat'] * 70)} <a:10> cat <b:75> cat"), lexicon.t2i.frame)
    assert [layout.slots for layout in layouts] == [(), (("a", 1, 10),), (("b", 1, 75),), ()]
    assert [layout.length for layout in layouts] == [72, 13, 77, 3]


def test_pictures_of_a_call_are_each_as_alone(lexicon):
    tokens = {"it": torch.randn(75, lexicon.t2i.width)}
    prompts = ["cat", f"{LONG} <it>", "(dog:1.4)"]
    together = lexicon.generate(prompts, tokens, steps=2, seed=[5, 6, 7], long_prompts=True, num_images=1)
    for prompt, seed, picture in zip(prompts, (5, 6, 7), together, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)  # of the image that not all of them name
            (alone,) = lexicon.generate(prompt, tokens, steps=2, seed=seed, long_prompts=True)
        assert same(alone, picture)
    with pytest.warns(PromptWarning, match="tokens too many"):
        assert lexicon.generate(LONG, steps=1)


def test_gradients_reach_stressed_tokens_in_later_chunks(lexicon):
    token = torch.randn(2, lexicon.t2i.width, requires_grad=True)
    embeds = lexicon.prompt_embeds(f"{LONG} (<it:2>:1.2)", {"it": token}, long_prompts=True)["prompt_embeds"]
    embeds[:, -77:].square().sum().backward()
    assert token.grad.norm(dim=1).min() > 0


def test_what_does_not_read_them_says_so(tmp_path, tower_folder):
    t2i = load_t2i(FAMILIES["sd3.5-without-t5"].make(tmp_path / "base"))
    other = VisualLexicon(
        ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=4, blocks=1, heads=1), t2i
    )
    with pytest.raises(InputError, match=r"'\(red:\.\.\.\)': this base model's text encoders are not CLIP's alone"):
        other.generate("a (red:1.3) cat", steps=1)
    with pytest.raises(InputError, match="long prompts: StableDiffusion3Pipeline reads none in chunks"):
        other.generate("a cat", steps=1, long_prompts=True)
    other.prompt_embeds(r"a \(red:1.3\) cat")
