"""All that is measured of one pair of eyes, seed by seed, on the same pictures for all eyes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vilex.encoder.eyes import Eyes, load_eyes
from vilex.errors import InputError
from vilex.eval.eyesight.asked import EyesSettings, Sets
from vilex.eval.eyesight.labelled import LabelledSet, check_learnable, with_classes
from vilex.eval.eyesight.looking import Seen, chosen_by_content, look
from vilex.eval.eyesight.masked import IGNORED, MaskedSet, counted_patches, overlap_of, patch_labels, read_mask
from vilex.eval.eyesight.mmvp import Pair, by_pattern, pair_scores
from vilex.eval.eyesight.probes import LinearProbe, by_neighbours, fit_best
from vilex.eval.eyesight.scores import Overlaps, Score, Shares
from vilex.eval.eyesight.text_side import TextSide, by_text, class_vectors, has_text
from vilex.understand.features import FeaturesConfig, ImageFeatures

TEACHING = 0.8  # of the pictures that may teach; the rest chooses
MOST_PATCHES = 100_000  # that teach a dense probe
Progress = Callable[[str, int, int], None]


@dataclass
class Found:
    """Scores of some eyes by title, and what else is said of them."""

    scores: dict[str, Score] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def measure_eyes(name: str, settings: EyesSettings, sets: Sets, on_picture: Progress) -> Found:
    """All that is measured of one pair of eyes."""
    eyes, found = load_eyes(name), Found()
    sight = _Sight(name, eyes, settings, on_picture, found.refused)
    if sets.classes:
        kinds = {"": FeaturesConfig("pooled", 1, 1)}
        if settings.tokens and eyes.encoder is not None:
            kinds[f", {settings.tokens} tokens"] = FeaturesConfig("tokens", settings.tokens, 1)
        for title, config in kinds.items():
            _classify(found, title, sets.classes, sets.test, sight, config)
    if sets.dense:
        _segment(found, sets.dense, sets.dense_test, sight)
    if settings.zero_shot or sets.pairs:
        own = has_text(name)
        side = TextSide(name if own else settings.text, None if own else eyes, settings.device)
        if settings.zero_shot and sets.classes:
            _name(found, sets.classes, sets.test, sight, side)
        if sets.pairs:
            seen = sight.of(side, _PairPictures(sets.pairs), "MMVP-VLM")
            if seen.refused:
                raise InputError(f"{seen.refused[0]}; MMVP-VLM is only whole with all of its pictures")
            score = pair_scores(side, sets.pairs, seen.vectors()[:, 0])
            found.scores["MMVP-VLM"] = score
            found.notes["MMVP-VLM by pattern"] = by_pattern(sets.pairs, score)
    return found


@dataclass(frozen=True)
class _Sight:
    """Eyes, and where what they saw is kept."""

    name: str
    eyes: Eyes
    settings: EyesSettings
    on_picture: Progress
    refused: list[str]

    def features(self, config: FeaturesConfig) -> ImageFeatures:
        return ImageFeatures(self.eyes, config).to(self.settings.device)

    def of(self, features: ImageFeatures | TextSide, given: Any, what: str, dtype: torch.dtype = torch.float32) -> Seen:
        """What they see of a set."""
        seen = look(
            features, given, self.settings.out / "features", self.settings.batch_size,
            lambda done, total: self.on_picture(f"{self.name}: {what}", done, total), dtype,
        )  # fmt: skip
        self.refused.extend(seen.refused)
        return seen


class _PairPictures:
    """The pictures of pairs, one after the other."""

    name = "MMVP-VLM"

    def __init__(self, pairs: list[Pair]):
        self.paths = [path for pair in pairs for path in pair.pictures]

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, number: int) -> Path:
        return self.paths[number]


@dataclass(frozen=True)
class _Parts:
    """What teaches and what is tested: vectors [K, D] and [N, D], labels [K] and [N]."""

    known: Tensor
    labels: Tensor
    asked: Tensor
    truth: Tensor


def _parts(given: LabelledSet, test: LabelledSet | None, sight: _Sight, features: ImageFeatures) -> _Parts:
    seen = sight.of(features, given, given.name)
    vectors, labels = seen.vectors().flatten(1), torch.from_numpy(given.labels)[seen.numbers]
    if test is None:
        tested = chosen_by_content(seen.hashes)
        if not tested.any():
            raise InputError(f"{given.name}: too few pictures to leave some for the test; give --test")
        return _Parts(vectors[~tested], labels[~tested], vectors[tested], labels[tested])
    others = sight.of(features, test, test.name)
    truth = torch.from_numpy(with_classes(test, given.classes))[others.numbers]
    return _Parts(vectors, labels, others.vectors().flatten(1), truth)


def _classify(
    found: Found, title: str, given: LabelledSet, test: LabelledSet | None, sight: _Sight, config: FeaturesConfig
) -> None:
    parts = _parts(given, test, sight, sight.features(config))
    check_learnable(given.name, given.classes, parts.labels.numpy())
    device, count = sight.settings.device, len(given.classes)
    near, linear, strengths = [], [], []
    truth, asked = parts.truth.to(device), parts.asked.to(device)
    for seed in sight.settings.seeds:
        teaching = taught(parts.labels, seed)
        known, labels = parts.known[teaching].to(device), parts.labels[teaching].to(device)
        near.append((by_neighbours(known, labels, count, asked) == truth).cpu().numpy())
        left, theirs = parts.known[~teaching].to(device), parts.labels[~teaching].to(device)
        probe, strength = fit_best(known, labels, count, left, theirs)
        linear.append((probe(asked).argmax(1) == truth).cpu().numpy())
        strengths.append(strength)
    found.scores[f"k-NN{title}"] = Shares(np.array(near, dtype=float))
    found.scores[f"linear{title}"] = Shares(np.array(linear, dtype=float))
    found.notes[f"weight decay{title}"] = strengths


def taught(labels: Tensor, seed: int) -> Tensor:
    """Which pictures teach: of every class another random four fifths for every seed, at least one, never all. [N]."""
    rng, teaching = np.random.default_rng((seed, 1)), torch.zeros(len(labels), dtype=torch.bool)
    for one in torch.unique(labels).tolist():
        own = torch.nonzero(labels == one)[:, 0].numpy()
        count = min(len(own) - 1, max(1, round(TEACHING * len(own))))
        teaching[torch.from_numpy(rng.permutation(own)[:count])] = True
    return teaching


def _segment(found: Found, given: MaskedSet, test: MaskedSet | None, sight: _Sight) -> None:
    features, count = sight.features(FeaturesConfig("patches")), len(given.classes)
    seen = sight.of(features, given, given.name, torch.bfloat16)
    if test is None:
        tested = chosen_by_content(seen.hashes)
        others, masks = seen, given.masks
        learners, asked = (torch.nonzero(part)[:, 0].tolist() for part in (~tested, tested))
    else:
        others, masks = sight.of(features, test, test.name, torch.bfloat16), test.masks
        learners, asked = list(range(len(seen.numbers))), list(range(len(others.numbers)))
    if len(learners) < 2 or not asked:
        raise InputError(f"{given.name}: too few pictures to learn from and to test; give more, or --dense-test")
    side, device = features.side, sight.settings.device
    labels = np.stack([patch_labels(read_mask(given.masks[seen.numbers[i]]), side, count) for i in learners])
    patches, inside, joined, right = seen.vectors(learners), list[Any](), list[Any](), list[Any]()
    for seed in sight.settings.seeds:
        probe = _dense_probe(patches, labels, count, seed, device)
        each = [
            overlap_of(probe, others.vectors([i])[0].to(device), read_mask(masks[others.numbers[i]])) for i in asked
        ]
        inside.append([one[0] for one in each])
        joined.append([one[1] for one in each])
        right.append([one[2] for one in each])
    found.scores["dense mIoU"] = Overlaps(np.array(inside, dtype=float), np.array(joined, dtype=float))
    found.scores["dense pixels"] = Shares(np.array(right))


def _dense_probe(patches: Tensor, labels: np.ndarray, classes: int, seed: int, device: str) -> LinearProbe:
    """Of patches [N, P, D] and their classes [N, P]; four fifths of the pictures teach, the others choose."""
    order = np.random.default_rng((seed, 2)).permutation(len(labels))
    cut = min(len(order) - 1, max(1, round(TEACHING * len(order))))
    (known, theirs), (left, those) = (
        _some(*counted_patches(patches[part], labels[part]), seed) for part in (order[:cut], order[cut:])
    )
    return fit_best(known.to(device), theirs.to(device), classes, left.to(device), those.to(device))[0]


def _some(patches: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """At most so many patches, at random."""
    if not len(patches):
        raise InputError(f"masks: no patch of a picture counts; every pixel is {IGNORED}")
    chosen = np.random.default_rng((seed, 3)).permutation(len(patches))[:MOST_PATCHES]
    return patches[chosen], labels[chosen]


def _name(found: Found, given: LabelledSet, test: LabelledSet | None, sight: _Sight, side: TextSide) -> None:
    """Zero-shot classification; only what is tested is looked at, where that is a set of its own."""
    seen = sight.of(side, test or given, (test or given).name)
    truth = with_classes(test or given, given.classes)[seen.numbers]
    said = by_text(seen.vectors()[:, 0], class_vectors(side, given.classes, sight.settings.templates)).numpy()
    asked = np.ones(len(truth), dtype=bool) if test else chosen_by_content(seen.hashes).numpy()
    found.scores["zero-shot"] = Shares((said == truth)[asked][None].astype(float))
