import pytest
import torch

from benchmarks.words import clip_words
from vilex.errors import InputError
from vilex.prompt import Frame, Prompt, PromptWarning, Slot, compose, inject, parse, set_budgets


@pytest.fixture(scope="module", params=["<|endoftext|>", "!"], ids=["pads-with-eos", "pads-with-0"])
def words(request):
    return clip_words(request.param)


def test_parse():
    assert parse("a photo of <cat:16> and <dog> in the snow") == Prompt(
        ("a photo of", Slot("cat", 16), "and", Slot("dog"), "in the snow")
    )
    assert parse("no image, 1 < 2 > 0").parts == ("no image, 1 < 2 > 0",)
    assert parse("").parts == ()


@pytest.mark.parametrize("text", ["<cat:0>", "<cat:x>", "<cat:>", "<cat:-3>"])
def test_bad_budget_is_refused(text):
    with pytest.raises(InputError, match="as in <cat:16>"):
        parse(text)


@pytest.mark.parametrize("text", ["", "a photo of the red cat, in flat style!", "  spaced   out  ", "cat " * 100])
def test_plain_words_give_the_tokenizers_own_ids(words, text):
    expected = words(text, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids[0]
    if len(text) > 200:
        with pytest.warns(PromptWarning, match="25 tokens too many.*cat"):
            composed = compose(parse(text), Frame.of(words, 77))
    else:
        composed = compose(parse(text), Frame.of(words, 77))
    assert torch.equal(composed.ids, expected)


def test_layout_of_words_and_images(words):
    prompt = parse("a photo of <cat:3> and <dog:2>")
    composed = compose(prompt, Frame.of(words, 77))
    assert composed.slots == (("cat", 4, 3), ("dog", 8, 2))
    assert composed.ids[0] == words.bos_token_id and composed.ids[10] == words.eos_token_id
    assert (composed.ids[11:] == words.pad_token_id).all()
    specials = {words.bos_token_id, words.eos_token_id, words.pad_token_id}
    assert not specials & set(composed.ids[4:7].tolist())


def test_budgets(words):
    def counts(text, default=None, available=75):
        prompt = set_budgets(parse(text), Frame.of(words, 77), {"cat": available, "dog": available}, default)
        return [part.count for part in prompt.parts if isinstance(part, Slot)]

    assert counts("<cat>") == [75]
    assert counts("a photo of <cat> in the snow") == [75 - 6]
    assert counts("<cat> and <dog>") == [37, 37]
    assert counts("<cat:10> and <dog>") == [10, 64]
    assert counts("<cat> and <dog>", default=8) == [8, 8]
    assert counts("<cat> and <dog>", available=16) == [16, 16]


def test_too_many_image_tokens_say_the_remedy(words):
    with pytest.raises(InputError, match=r"at most 75 image tokens in one prompt, got 40 \+ 40.*<cat:37>"):
        set_budgets(parse("<cat:40><dog:40>"), Frame.of(words, 77), {"cat": 75, "dog": 75})
    with pytest.raises(InputError, match="<cat> has 16 tokens"):
        set_budgets(parse("<cat:40>"), Frame.of(words, 77), {"cat": 16})
    with pytest.raises(InputError, match="<cat> has no image"):
        set_budgets(parse("<cat>"), Frame.of(words, 77), {})


def test_words_are_cut_never_images(words):
    prompt = set_budgets(parse("cat " * 50 + "<cat:40> dog"), Frame.of(words, 77), {"cat": 75})
    with pytest.warns(PromptWarning, match="16 tokens too many; these words were cut: 'cat.* dog'"):
        composed = compose(prompt, Frame.of(words, 77))
    assert composed.slots == (("cat", 36, 40),) and composed.length == 77


def test_prompt_without_some_images():
    prompt = parse("a <cat> and <dog> in snow")
    assert prompt.words == "a and in snow" and prompt.names == ("cat", "dog")
    assert prompt.without({"cat"}).names == ("dog",)
    assert prompt.without({"cat", "dog"}).parts == ("a and in snow",)
    assert prompt.image_only().words == ""


def test_inject_writes_tokens_and_passes_gradients(words):
    composed = compose(parse("a <cat:2> photo"), Frame.of(words, 77))
    embeddings, tokens = torch.zeros(1, 77, 4), torch.ones(5, 4, requires_grad=True)
    out = inject(embeddings, [composed], [{"cat": tokens}])
    assert out[0].sum(1).nonzero().flatten().tolist() == [2, 3]
    out.sum().backward()
    assert tokens.grad.sum(1).tolist() == [4, 4, 0, 0, 0]
