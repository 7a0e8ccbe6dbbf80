"""A language model that sees: equal to transformers' own where that can say it, and to its definition elsewhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PaliGemmaForConditionalGeneration

from tests.understand import small
from vilex.encoder.eyes import Eyes, load_eyes
from vilex.encoder.preprocess import Preprocess
from vilex.errors import InputError
from vilex.understand.features import FeaturesConfig, ImageFeatures
from vilex.understand.layout import UNLABELLED
from vilex.understand.vlm import VisualLanguageModel

HALF = (0.5, 0.5, 0.5)
PREFIXES = ["caption en", "what colour is this", "answer en where is a red square"]
SUFFIXES = ["a red square", "blue", "left top"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {"paligemma": small.paligemma(folder / "p"), "llama": small.llama(folder / "l")}


def model_of(bases, base, encoder=None, **features) -> VisualLanguageModel:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bases[base])
    if base == "paligemma":
        lm = PaliGemmaForConditionalGeneration.from_pretrained(bases[base])
    else:
        lm = AutoModelForCausalLM.from_pretrained(bases[base])
    eyes = load_eyes(str(encoder)) if encoder else Eyes.of_tower(lm.model.vision_tower, Preprocess(32, HALF, HALF))
    return VisualLanguageModel(lm, tokenizer, ImageFeatures(eyes, FeaturesConfig(**features))).eval()


@pytest.fixture(params=["paligemma", "llama"])
def vlm(request, bases, model_folder):
    """336 in small, with every projector random, so that all vectors speak."""
    vlm = model_of(bases, request.param, model_folder, kind="patches+tokens")
    for projector in vlm.projectors.values():
        torch.nn.init.normal_(projector.weight, std=0.2)
    return vlm


@pytest.fixture
def seen(vlm, pictures):
    return vlm.features.of_images(pictures[:3])


@pytest.fixture
def laid(vlm):
    return vlm.layout.training(PREFIXES, SUFFIXES, [1, 1, 1])


def test_patches_through_our_path_are_transformers_own_exactly(bases, pictures):
    plain = PaliGemmaForConditionalGeneration.from_pretrained(bases["paligemma"]).eval()
    vlm = model_of(bases, "paligemma", kind="patches")
    assert vlm.own_patches and not vlm.projectors
    pixels = torch.cat([vlm.features.views(picture) for picture in pictures[:3]])
    parts = vlm.features.of_images(pictures[:3])
    laid = vlm.layout.training(PREFIXES, SUFFIXES, [1, 1, 1])
    types = torch.where(laid.labels != UNLABELLED, 1, 0)
    own = plain(
        input_ids=laid.ids, pixel_values=pixels, attention_mask=laid.there.long(), token_type_ids=types
    ).logits  # fmt: skip
    assert torch.equal(vlm.logits(parts, laid), own)
    assert torch.equal(vlm.logits(parts, laid, laid.text), own[:, -laid.text :])


@pytest.mark.parametrize("beams", [1, 3])
def test_and_so_are_answers_greedy_and_by_beams(bases, pictures, beams):
    plain = PaliGemmaForConditionalGeneration.from_pretrained(bases["paligemma"]).eval()
    vlm = model_of(bases, "paligemma", kind="patches")
    asked = vlm.layout.questions(PREFIXES, [1, 1, 1])
    made = plain.generate(
        input_ids=asked.ids, pixel_values=torch.cat([vlm.features.views(picture) for picture in pictures[:3]]),
        attention_mask=asked.there.long(), token_type_ids=torch.zeros_like(asked.ids), max_new_tokens=9,
        num_beams=beams, do_sample=False,
    )  # fmt: skip
    wanted = [vlm.layout.answer(ids) for ids in made[:, asked.ids.shape[1] :].tolist()]
    assert vlm.answer(pictures[:3], PREFIXES, max_new_tokens=9, beams=beams) == wanted
    assert len(set(wanted)) == 3


def next_words(vlm, parts, prefix, count):
    """Greedy decoding with nothing kept: everything is computed again for each word."""
    ids: list[int] = []
    for _ in range(count):
        laid = vlm.layout.questions([prefix], [1])
        if ids:
            more = torch.tensor([ids])
            no, yes = torch.zeros_like(more, dtype=torch.bool), torch.ones_like(more, dtype=torch.bool)
            laid = type(laid)(
                torch.cat([laid.ids, more], 1), torch.cat([laid.image, no], 1), torch.cat([laid.there, yes], 1),
                torch.cat([laid.prefix, no], 1), torch.cat([laid.labels, more], 1),
            )  # fmt: skip
        ids.append(int(vlm.logits(parts, laid)[0, -1].argmax()))
    return vlm.layout.answer(ids)


def test_answers_are_what_teacher_forcing_says(vlm, seen):
    """Padding on the left, a cache and, for causal models, a prompt read at once change nothing."""
    made = vlm.generate(seen, PREFIXES, max_new_tokens=7)
    for i, prefix in enumerate(PREFIXES):
        assert made[i] == next_words(vlm, [part[i : i + 1] for part in seen], prefix, 7)
    assert len(set(made)) == 3


def test_one_beam_of_many_is_greedy_and_more_find_likelier_answers(vlm, seen):
    def score(answer, i):
        laid = vlm.layout.training([PREFIXES[i]], [answer], [1])
        losses, _ = vlm([part[i : i + 1] for part in seen], laid)
        return -losses.item()

    greedy, beams = (vlm.generate(seen, PREFIXES, max_new_tokens=3, beams=n) for n in (1, 4))
    assert sum(score(beams[i], i) for i in range(3)) >= sum(score(greedy[i], i) for i in range(3)) - 1e-4


def test_the_first_step_is_the_model_as_it_was_but_for_empty_places(bases, model_folder, pictures):
    more = model_of(bases, "paligemma", model_folder, kind="patches+tokens")
    vectors = more.project(more.features.of_images(pictures[:2]))
    assert vectors.shape == (2, 96, 24) and (vectors[:, 16:] == 0).all() and (vectors[:, :16] != 0).any()
    less = model_of(bases, "paligemma", model_folder, kind="patches")
    assert torch.equal(vectors[:, :16], less.project(less.features.of_images(pictures[:2])))


def test_with_the_tokens_hidden_it_is_the_model_of_patches(bases, model_folder, pictures):
    """336 with the 80 masked out equals 256, when words keep their positions."""
    more, less = (model_of(bases, "paligemma", model_folder, kind=kind) for kind in ("patches+tokens", "patches"))
    torch.nn.init.normal_(more.projectors["tokens"].weight)
    long, short = (one.layout.training(PREFIXES, SUFFIXES, [1, 1, 1]) for one in (more, less))
    there = long.there.clone()
    there[:, 16:96] = False
    vectors = more.project(more.features.of_images(pictures[:3]))
    from transformers.modeling_outputs import BaseModelOutputWithPooling as Seen

    hidden = more.lm(
        input_ids=long.ids, mm_encoder_outputs={"image": Seen(pooler_output=vectors)},
        attention_mask=there.long(), token_type_ids=(~long.prefix & long.there).long(),
        position_ids=(there.cumsum(1) - 1).clamp(min=0) + 1,
    ).logits  # fmt: skip
    own = less.logits(less.features.of_images(pictures[:3]), short)
    real = short.there[:, 16:]
    assert (hidden[:, 96:][real] - own[:, 16:][real]).abs().max() < 1e-5 * own.abs().max()


def test_prefix_words_see_each_other_and_the_suffix_does_not_see_ahead(vlm, seen, laid):
    def changed(place):
        ids = laid.ids.clone()
        ids[:, place] = torch.where(ids[:, place] == 10, 11, 10)
        other = type(laid)(ids, laid.image, laid.there, laid.prefix, laid.labels)
        return (vlm.logits(seen, other) - vlm.logits(seen, laid)).abs().amax((0, 2)) > 1e-4

    image = vlm.features.count
    assert changed(image + 1)[:image].any() and changed(image + 1)[image:].any()  # a word of every prefix
    row = [part[:1] for part in seen]
    one = vlm.layout.training(PREFIXES[:1], SUFFIXES[:1], [1])
    first = int((one.labels[0] != UNLABELLED).nonzero()[0])
    for place in (first, first + 1, one.ids.shape[1] - 1):
        ids = one.ids.clone()
        ids[0, place] = 30
        other = type(one)(ids, one.image, one.there, one.prefix, one.labels)
        differs = (vlm.logits(row, other) - vlm.logits(row, one)).abs().amax((0, 2))
        assert (differs[:place] == 0).all() and differs[place] > 1e-4


def test_padding_on_either_side_and_the_order_of_a_batch_change_nothing(vlm, seen, laid):
    together = vlm.logits(seen, laid)
    for i in range(3):
        alone = vlm.layout.training([PREFIXES[i]], [SUFFIXES[i]], [1])
        own = vlm.logits([part[i : i + 1] for part in seen], alone)[0]
        assert torch.allclose(together[i, : len(own)], own, atol=2e-5)
    losses, _ = vlm(seen, laid)
    order = [2, 0, 1]
    mixed = vlm.layout.training([PREFIXES[i] for i in order], [SUFFIXES[i] for i in order], [1, 1, 1])
    others, _ = vlm([part[order] for part in seen], mixed)
    assert torch.allclose(others, losses[order], atol=1e-5)
    asked = vlm.layout.questions(PREFIXES, [1, 1, 1])  # padded on the left
    ends = vlm.logits(seen, asked)[:, -1]
    for i in range(3):
        alone = vlm.layout.questions([PREFIXES[i]], [1])
        assert torch.allclose(ends[i], vlm.logits([part[i : i + 1] for part in seen], alone)[0, -1], atol=2e-5)


def reference_loss(logits, ids, labels, smoothing):
    """The definition, word for word, in double precision."""
    means = []
    for row in range(len(labels)):
        losses = []
        for place in range(1, labels.shape[1]):
            if labels[row, place] != UNLABELLED:
                values = logits[row, place - 1].astype(np.float64)
                p = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
                wanted = np.full(len(p), smoothing / (len(p) - 1))
                wanted[ids[row, place]] = 1 - smoothing
                losses.append(-(wanted * np.log(p)).sum())
        means.append(np.mean(losses))
    return means


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_loss_is_the_mean_over_each_suffix_smoothed_over_the_other_words(vlm, seen, laid, smoothing):
    losses, there = vlm(seen, laid, smoothing)
    logits = vlm.logits(seen, laid).detach().numpy()
    wanted = reference_loss(logits, laid.ids.numpy(), laid.labels.numpy(), smoothing)
    assert losses.shape == (3, 1) and there.all()
    assert losses[:, 0].tolist() == pytest.approx(wanted, rel=1e-5)
    if smoothing:  # torch's own, with its other meaning
        size = logits.shape[-1]
        own = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits)[0, :-1], laid.labels[0, 1:], label_smoothing=smoothing * size / (size - 1)
        )
        assert losses[0, 0].item() == pytest.approx(own.item(), rel=1e-5)
    else:  # transformers' mean over all words of the batch is another number
        pooled = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits)[:, :-1].flatten(0, 1), laid.labels[:, 1:].flatten()
        )
        assert abs(losses.mean().item() - pooled.item()) > 1e-3


def test_packed_questions_are_each_as_if_alone(vlm, seen):
    pairs = list(zip(PREFIXES, SUFFIXES, strict=True))
    packed = vlm.layout.packed([pairs, pairs[:1]])
    losses, there = vlm([part[:2] for part in seen], packed)
    assert there.tolist() == [[True] * 3, [True, False, False]]
    for picture, question in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        alone = vlm.layout.packed([[pairs[question]]])
        own, _ = vlm([part[picture : picture + 1] for part in seen], alone)
        assert losses[picture, question].item() == pytest.approx(own.item(), abs=1e-5)


def test_a_model_of_packed_questions_answers_as_it_learnt(vlm, seen):
    vlm.layout.apart = True
    said = vlm.generate(seen, PREFIXES, max_new_tokens=4)
    laid = vlm.layout.training(PREFIXES, ["a red blue green yellow"] * 3, [1, 1, 1])
    pairs = [[(prefix, "a red blue green yellow")] for prefix in PREFIXES]
    assert torch.allclose(vlm.logits(seen, laid), vlm.logits(seen, vlm.layout.packed(pairs)))
    for i, prefix in enumerate(PREFIXES):
        prompt, row = vlm.layout.prompt(prefix), [part[i : i + 1] for part in seen]
        ids = []
        for _ in range(4):  # greedily, each word from all before it at once
            one = vlm.layout.training([prefix], [""], [1])
            start = vlm.features.count + len(prompt)
            given = torch.tensor([[*one.ids[0, :start].tolist(), *ids]])
            blank = torch.zeros(1, len(ids))
            grown = replace(
                one, ids=given, there=torch.ones_like(given).bool(),
                image=torch.cat([one.image[:, :start], blank.bool()], 1),
                prefix=torch.cat([one.prefix[:, :start], blank.bool()], 1),
                question=torch.cat([one.question[:, :start], blank.long() + 1], 1),
            )  # fmt: skip
            ids.append(int(vlm.logits(row, grown)[0, -1].argmax()))
        assert said[i] == vlm.layout.answer(ids)


def test_several_images_of_a_question_stand_one_after_another(vlm, pictures):
    parts = vlm.features.of_images(pictures[:3])
    laid = vlm.layout.training(["caption en", "caption en"], ["a", "blue"], [2, 1])
    assert laid.image.sum(1).tolist() == [2 * vlm.features.count, vlm.features.count]
    losses, _ = vlm(parts, laid)
    last, _ = vlm([part[2:] for part in parts], vlm.layout.training(["caption en"], ["blue"], [1]))
    assert losses[1].item() == pytest.approx(last.item(), abs=1e-4)
    video = vlm.generate([part[:2] for part in parts], ["caption en"], images=2, max_new_tokens=4)
    assert video != vlm.generate([part[:1] for part in parts], ["caption en"], max_new_tokens=4)


def test_the_row_is_image_bos_prefix_newline_suffix_eos(vlm):
    laid = vlm.layout.training(["caption en"], ["a red"], [1])
    n = vlm.features.count
    words = vlm.tokenizer.convert_ids_to_tokens(laid.ids[0, n:].tolist())
    assert words == ["<bos>", "caption", "en", "\n", "a", "red", "<eos>"]
    assert laid.prefix[0].tolist() == [True] * (n + 4) + [False] * 3 and laid.text == 4
    assert (laid.labels[0] != UNLABELLED).sum() == 3


def test_a_long_suffix_is_cut_and_counted_a_long_prefix_refused(vlm):
    vlm.layout.text_length = 7
    laid = vlm.layout.training(["caption en"] * 2, ["a red blue green yellow", "a"], [1, 1], ["x", "y"])
    assert laid.cut == 1 and (laid.labels != UNLABELLED).sum(1).tolist() == [4, 2]
    with pytest.raises(InputError, match=r"y: its prefix has 8 tokens and leaves no room .* data.text_length = 7"):
        vlm.layout.training(["caption", "caption en a a a a"], ["a", "a"], [1, 1], ["x", "y"])
    if vlm.is_paligemma:
        with pytest.raises(InputError, match="holds the image's own token"):
            vlm.layout.training(["<image>"], ["a"], [1])


def test_nothing_looks_back_into_the_eyes(vlm, seen, laid, pictures):
    before = {name: value.clone() for name, value in vlm.features.modules[0].state_dict().items()}
    vlm.train()
    learning = [p for p in vlm.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        losses, _ = vlm(vlm.features.of_images(pictures[:3]), laid)
        losses.mean().backward()
        optimizer.step()
    eyes = vlm.features.modules[0]
    assert all(p.grad is None for p in eyes.parameters())
    assert all(torch.equal(value, before[name]) for name, value in eyes.state_dict().items())
    assert all(p.grad is not None for p in vlm.projector_parameters)


@pytest.mark.parametrize("kind", ["tokens", "vae", "pooled", "patches+pooled"])
def test_every_kind_of_feature_answers(bases, model_folder, pictures, kind):
    for base in bases:
        vlm = model_of(bases, base, model_folder, kind=kind)
        assert len(vlm.answer(pictures[:1], ["caption en"], max_new_tokens=2)) == 1
        assert sorted(vlm.projectors) == sorted(
            {"tokens": ["tokens"], "vae": ["latents"], "pooled": ["pooled"]}.get(kind)
            or (["pooled"] if base == "paligemma" else ["patches", "pooled"])
        )


def test_another_tower_than_paligemmas_has_a_projector_of_its_own_and_it_is_said(bases, pictures):
    vlm = model_of(bases, "paligemma", "nano", kind="patches")
    assert not vlm.own_patches and list(vlm.projectors) == ["patches"] and "new projector" in vlm.notes[0]
    assert vlm.answer(pictures[:1], ["caption en"], max_new_tokens=2)
    with pytest.raises(InputError, match="a prefix for each picture, got 1 pictures, 2 prefixes"):
        vlm.answer(pictures[:1], ["caption en"] * 2)
    assert Path(bases["llama"]).is_dir()
