import pytest
import torch

from benchmarks.words import clip_words
from vilex.composition import Frame, compose, inject, set_budgets
from vilex.errors import InputError
from vilex.prompt import Prompt, PromptWarning, Slot, parse


@pytest.fixture(scope="module", params=["<|endoftext|>", "!"], ids=["pads-with-eos", "pads-with-0"])
def words(request):
    return clip_words(request.param)


def test_parse():
    assert parse("a photo of <cat:16> and <dog> in the snow") == Prompt(
        ("a photo of", Slot("cat", 16), "and", Slot("dog"), "in the snow")
    )
    with pytest.warns(PromptWarning, match="'< 2 >' is read as words; an image is written <cat>"):
        assert parse("no image, 1 < 2 > 0").parts == ("no image, 1 < 2 > 0",)
    assert parse("").parts == ()


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("< cat >", Slot("cat")),
        ("<cat : 4>", Slot("cat", 4)),
        ("< cat: 4 >", Slot("cat", 4)),
        ("<my-cat_2:4>", Slot("my-cat_2", 4)),
        ("<_>", Slot("_")),
        ("<Кошка:4>", Slot("Кошка", 4)),
        ("<猫>", Slot("猫")),
        ("<बिल्ली:8>", Slot("बिल्ली", 8)),
        ("<cafe\u0301>", Slot("café")),  # as some file systems write it
    ],
)
def test_names_of_every_script_and_spaces_in_brackets(text, slot):
    assert parse(f"a {text} there").parts == ("a", slot, "there")


@pytest.mark.parametrize(
    "text", ["<cat:0>", "<cat:x>", "<cat:>", "<cat:-3>", "<cat:4.5>", "<cat:1:2>", f"<cat:{'9' * 5000}>"]
)
def test_bad_budget_is_refused(text):
    with pytest.raises(InputError, match="as in <cat:16>"):
        parse(text)


@pytest.mark.parametrize("text", ["<2cat>", "<a b>", "<-cat>", "<:4>", "<cat.png>", "<cat,dog>", "<a/b:4>", "<4>"])
def test_a_slot_whose_name_is_none_is_refused(text):
    with pytest.raises(InputError, match="is no image's name; use letters"):
        parse(f"a {text} in snow")


@pytest.mark.parametrize("text", ["< 2cat >", "<>", "a < b c >", "<cat in snow", "a cat> in snow", "<<cat>>", "< <cat"])
def test_brackets_that_are_words_are_warned_of(text):
    with pytest.warns(PromptWarning, match="is read as words; an image is written <cat>"):
        parse(text)


@pytest.mark.parametrize("text", ["I <3 cats", "a -> b", "5 > 4", "=>", "cats & dogs"])
def test_other_signs_are_words_without_a_word(text, recwarn):
    assert parse(text).parts == (text,) and not recwarn.list


@pytest.mark.parametrize("text", [None, 5, b"cat", "a\0b", "caf\udce9"])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(InputError, match=r"prompt: expected .*text"):
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
    with pytest.raises(InputError, match="<cat> has no image; give one named 'cat', beside dog"):
        set_budgets(parse("<cat>"), Frame.of(words, 77), {"dog": 4})
    with pytest.raises(
        InputError, match=r"at most 75 image tokens in one prompt, got 75 \+ 1; ask for fewer with <a:37>"
    ):
        set_budgets(parse("<a:75> <b>"), Frame.of(words, 77), {"a": 75, "b": 75})
    with pytest.raises(InputError, match=r"got 1 \+ .*; ask for fewer images"):
        set_budgets(parse("<a>" * 76), Frame.of(words, 77), {"a": 75})


def test_words_are_cut_never_images(words):
    prompt = set_budgets(parse("cat " * 50 + "<cat:40> dog"), Frame.of(words, 77), {"cat": 75})
    with pytest.warns(PromptWarning, match="16 tokens too many; these words were cut: 'cat.* dog'"):
        composed = compose(prompt, Frame.of(words, 77))
    assert composed.slots == (("cat", 36, 40),) and composed.length == 77
    long = Prompt(("cat " * 50, Slot("cat", 40), "dog " * 30))
    with pytest.warns(PromptWarning, match="45 tokens too many"):
        assert compose(long, Frame.of(words, 77)).ids.equal(composed.ids)  # of what follows, nothing is left


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
