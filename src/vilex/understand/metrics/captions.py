"""CIDEr-D and BLEU of captions, as coco-caption computes them (Vedantam et al. 2015; Papineni et al. 2002).

CIDEr weighs n-grams by how few of the evaluated images' references hold them. It depends on that set: of a subset the
number is another one, and of a single image it is 0.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vilex.errors import InputError
from vilex.understand.metrics.ptb import words_of

ORDERS = 4  # of n-grams, from 1
SPREAD = 6.0  # words, of CIDEr-D's penalty of another length

Ngrams = Counter[tuple[str, ...]]


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each image's caption; their mean is the corpus's. Published numbers are 100 times that.

    Args:
        captions: [N]. references: of each image, one or more.
    Returns:
        [N], from 0 to 10.
    Raises:
        InputError: an image has no reference, or there are not as many captions as images.
    """
    _check(captions, references)
    told = [_ngrams(words_of(caption)) for caption in captions]
    wanted = [[_ngrams(words_of(text)) for text in texts] for texts in references]
    images_with = Counter(ngram for texts in wanted for ngram in set().union(*texts))
    idf = _Weights(images_with, len(wanted))
    return np.array([_similarity(one, texts, idf) for one, texts in zip(told, wanted, strict=True)])


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus, each from 0 to 1, with the closest reference's length.

    Raises:
        InputError: as `cider`.
    """
    _check(captions, references)
    right, made = np.zeros(ORDERS), np.zeros(ORDERS)
    length = wanted_length = 0
    for caption, texts in zip(captions, references, strict=True):
        words, others = words_of(caption), [words_of(text) for text in texts]
        ceiling: Ngrams = Counter()
        for other in others:
            ceiling |= _ngrams(other)
        length += len(words)
        wanted_length += min((abs(len(other) - len(words)), len(other)) for other in others)[1]
        for ngram, count in _ngrams(words).items():
            right[len(ngram) - 1] += min(count, ceiling[ngram])
        made += [max(0, len(words) - order) for order in range(ORDERS)]
    tiny, small = 1e-15, 1e-9  # as coco-caption guards against 0 / 0
    precision = (right + tiny) / (made + small)
    ratio = (length + tiny) / (wanted_length + small)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [float(precision[: n + 1].prod() ** (1 / (n + 1)) * brevity) for n in range(ORDERS)]


class _Weights:
    """Of an n-gram, log(images / images whose references hold it)."""

    def __init__(self, images_with: Ngrams, images: int):
        self.images_with, self.log_images = images_with, math.log(images)

    def __call__(self, ngrams: Ngrams) -> list[dict[tuple[str, ...], float]]:
        """By order, the weighted counts of a caption's n-grams."""
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
        for ngram, count in ngrams.items():
            vectors[len(ngram) - 1][ngram] = count * (self.log_images - math.log(max(1, self.images_with[ngram])))
        return vectors


def _similarity(caption: Ngrams, references: list[Ngrams], idf: _Weights) -> float:
    """10 times the mean over orders and references of the clipped cosine, less for another length."""
    vectors, total = idf(caption), 0.0
    for reference in references:
        delta = _bigrams(caption) - _bigrams(reference)
        for one, other in zip(vectors, idf(reference), strict=True):
            dot = sum(min(value, other.get(ngram, 0.0)) * other.get(ngram, 0.0) for ngram, value in one.items())
            norms = math.sqrt(sum(v**2 for v in one.values())) * math.sqrt(sum(v**2 for v in other.values()))
            total += (dot / norms if norms else dot) * math.exp(-(delta**2) / (2 * SPREAD**2))
    return 10 * total / ORDERS / len(references)


def _ngrams(words: list[str]) -> Ngrams:
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def _bigrams(ngrams: Ngrams) -> int:
    """What coco-caption takes for a caption's length."""
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(captions) != len(references):
        raise InputError(f"captions: {len(captions)} for {len(references)} images; give one for each")
    if not captions:
        raise InputError("captions: expected at least one, got none")
    for i, texts in enumerate(references):
        if not len(texts) or isinstance(texts, str):
            raise InputError(f"references of image {i}: expected a list of at least one text, got {texts!r:.60}")
