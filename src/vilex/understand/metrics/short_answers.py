"""Accuracy of short answers. One name, four definitions, so each has its own:

vqa_accuracy   the official one (Antol et al. 2015; visualqa.org), and big_vision's of VQAv2 and TextVQA: an answer
               counts as many thirds as other people gave it, averaged over leaving each person out; texts are
               normalised only where the people differ
vqa_lmms       as lmms-eval's of VQAv2: the same, always normalised
vqa_evalai     as lmms-eval's of OKVQA, TextVQA and VizWiz: leave-one-out, normalised as EvalAI's processor does
vqa_any3       big_vision's of OKVQA and VizWiz: min(1, matches / 3), texts as they are
exact_match    GQA, easy-VQA: the text is the answer
"""

import re
from collections.abc import Sequence

from vilex.errors import InputError

_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
_COMMA, _COMMAS = re.compile(r"\d,\d"), re.compile(r"\d,+\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_REMOVED = 32  # the published code hands re.UNICODE, 32, to `sub` as its count

# What the published list of contractions says, by the end that loses or gains an apostrophe.
_ENDINGS = {
    "n't": "are ca could did does do had has have is might must need ought sha should was were wo would",
    "'ve": "could I might must not should we what where who would you they",
    "'d": "he how it someone there they where who you",
    "'ll": "how it somebody someone something they what who why you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
}
_ODD = {
    "aint": "ain't", "hadnt've": "hadn't've", "hadn'tve": "hadn't've", "couldn'tve": "couldn't've",
    "couldnt've": "couldn't've", "hed've": "he'd've", "he'dve": "he'd've", "Id've": "I'd've", "I'dve": "I'd've",
    "Im": "I'm", "itd've": "it'd've", "it'dve": "it'd've", "let's": "let's", "maam": "ma'am",
    "mightnt've": "mightn't've", "mightn'tve": "mightn't've", "oclock": "o'clock", "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "shed've": "she'd've", "she'dve": "she'd've", "she's": "she's",
    "shouldnt've": "shouldn't've", "shouldn'tve": "shouldn't've", "somebody'd": "somebodyd",
    "somebodyd've": "somebody'd've", "somebody'dve": "somebody'd've", "someoned've": "someone'd've",
    "someone'dve": "someone'd've", "somethingd": "something'd", "somethingd've": "something'd've",
    "something'dve": "something'd've", "thered've": "there'd've", "there'dve": "there'd've",
    "they'dve": "they'd've", "theyd've": "they'd've", "twas": "'twas", "wed've": "we'd've", "we'dve": "we'd've",
    "whod've": "who'd've", "who'dve": "who'd've", "wouldnt've": "wouldn't've", "wouldn'tve": "wouldn't've",
    "yall": "y'all", "yall'll": "y'all'll", "y'allll": "y'all'll", "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've", "youd've": "you'd've", "you'dve": "you'd've",
}  # fmt: skip
_CONTRACTIONS = _ODD | {
    word + ending.replace("'", ""): word + ending for ending, words in _ENDINGS.items() for word in words.split()
}


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """The official accuracy of one answer, 0 to 1.

    Args:
        truths: what people answered, ten of them as published.
    Raises:
        InputError: there are too few to leave one out.
    """
    answer, truths = _plain(answer), [_plain(truth) for truth in truths]
    if len(set(truths)) > 1:
        answer, truths = normalised(answer), [normalised(truth) for truth in truths]
    return _leaving_one_out(answer, truths)


def vqa_lmms(answer: str, truths: Sequence[str]) -> float:
    """lmms-eval's accuracy of VQAv2; see `vqa_accuracy`."""
    told, *wanted = (normalised(_plain(text), _COMMAS) for text in (answer, *truths))
    return _leaving_one_out(told, wanted)


def vqa_evalai(answer: str, truths: Sequence[str]) -> float:
    """lmms-eval's accuracy of OKVQA, TextVQA and VizWiz; see `vqa_accuracy`."""
    told, *wanted = (evalai(text) for text in (answer, *truths))
    return _leaving_one_out(told, wanted)


def vqa_any3(answer: str, truths: Sequence[str]) -> float:
    """big_vision's accuracy of OKVQA and VizWiz: three who say the same, letter by letter, are enough."""
    return min(1.0, sum(answer == truth for truth in truths) / 3)


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """Whether the answer is one of the truths, letter by letter."""
    return float(answer in truths)


def normalised(text: str, comma: re.Pattern[str] = _COMMA) -> str:
    """The official normal form: no punctuation, articles or capitals, digits, contractions with their apostrophe."""
    words = (_NUMBERS.get(word, word) for word in _without_punctuation(text, comma).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def evalai(text: str) -> str:
    """EvalAI's normal form (mmf's processor): first without commas and question marks, `'s` on its own."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalised(_plain(text), _COMMAS)


def _leaving_one_out(answer: str, truths: Sequence[str]) -> float:
    """The mean of min(1, matches / 3) over leaving each person out."""
    if len(truths) < 4:
        raise InputError(f"expected at least 4 people's answers to leave one out (ten are usual), got {len(truths)}")
    same = sum(answer == truth for truth in truths)
    of_same, of_others = min(1.0, (same - 1) / 3), min(1.0, same / 3)
    return (same * of_same + (len(truths) - same) * of_others) / len(truths)


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str, comma: re.Pattern[str]) -> str:
    """A mark beside a space vanishes, one within a word becomes a space; all vanish where a number has a comma."""
    found, vanish = text, comma.search(text) is not None
    for mark in _PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside or vanish else " ")
    return _PERIOD.sub("", found, count=_PERIODS_REMOVED)
