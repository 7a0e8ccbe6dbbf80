"""Captions to words as coco-caption has them: the Penn Treebank's rules, lower case, without punctuation.

coco-caption runs Stanford's PTBTokenizer 3.4.1, which is Java. These rules give the same words for what captions hold;
where they differ, and how often, is in docs/understanding-data.md. Known to differ: e-mail addresses, SGML, emoticons.
"""

import re
import unicodedata

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_REPLACED = str.maketrans({
    "‘": "'", "’": "'", "‛": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": " -- ", "—": " -- ",
    "…": " ... ", "\u200c": " ", "€": "$", "£": "#", "½": "1/2", "¼": "1/4", "¾": "3/4",
})  # fmt: skip
# Vowel signs and the like, which `\w` leaves out: without them Hindi and Thai would fall to pieces.
_MARKS = "".join(sign for sign in map(chr, range(0x300, 0xFE30)) if unicodedata.category(sign).startswith("M"))
_IN_WORD = rf"[\w{_MARKS}]"
_ENDS = "'(?:s|m|d|re|ve|ll)"
_TITLES = (
    "mr|mrs|ms|dr|prof|st|jr|sr|ave|blvd|rd|mt|ft|gen|col|lt|sgt|capt|rep|sen|gov|rev|hon|inc|ltd|corp|co|bros|"
    "vs|etc|dept|est|fig|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec|ph\\.d"
)
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)[^\s"<>]+
    | (?:[^\W\d_]\.){{2,}}                                   # u.s., a.m.
    | (?<!\w)[^\W\d_]\.(?=\s+[^\W\d_])                       # j. smith
    | (?:{_TITLES})\.(?=\s|$|['"),;:])                       # mr.
    | no\.(?=\s?\d)                                          # no. 5
    | \d+(?::\d\d)+                                          # 5:30
    | (?<![^\s(\['"])[-+]?\d*(?:[.,]\d+)+(?:-[^\W_]+)*         # 1,000 .5 1.5-inch
    | \d+(?:,\d+)+ | [-+]?(?<!\w)\d+(?=[ap]\.?m\b)
    | can(?=not\b) | gon(?=na\b) | got(?=ta\b) | wan(?=na\b) | gim(?=me\b) | lem(?=me\b)
    | d'ye\b | o'clock\b | ma'am\b | [ld]'[^\W\d_]{{2,}} | y'(?=all\b) | 't(?=is\b|was\b) | (?<!\w)'\d\ds?\b
    | 'n'?(?!\w) | 'em\b | 'til\b | 'cause\b | o'[^\W\d_]{{2,}} | ol'
    | [^\W_]+(?=n't(?!\w))                                   # does n't
    | n't(?!\w)
    | {_ENDS}(?!\w)
    | (?-i:[A-Z]+&[A-Z]+)                                    # AT&T
    | \#[^\W\d_]\w* | @\w+
    | {_IN_WORD}+(?:[-/.](?!\w*n't)[^\W_]{_IN_WORD}*)*
    | -?\.\.\.+ | --+ | [!?]+ | ``|'' | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def words_of(caption: str) -> list[str]:
    """The words of a caption that count.

    >>> words_of("A man's dog can't see (it).")
    ['a', 'man', "'s", 'dog', 'ca', "n't", 'see', '-lrb-', 'it', '-rrb-']
    """
    text = unicodedata.normalize("NFC", caption).translate(_REPLACED)
    found = (match[0].lower() for match in _TOKEN.finditer(text))
    return [BRACKETS.get(word, word) for word in found if not _is_dropped(word)]


def _is_dropped(word: str) -> bool:
    return word in DROPPED or word == '"' or (len(word) > 1 and not word.strip(".")) or not word.strip("-")
