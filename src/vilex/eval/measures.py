"""What is measured of re-created pictures: each against its source, and all together against all sources.

distance   1 - cosine of features
rank       the source's place among all sources by that distance, 1 at best (retrieval)
error      mean squared error of pixels in 0..1
psnr       dB, of that error
ssim       structural similarity
lpips      learned perceptual distance (AlexNet), where torchvision and its weights are to be had
fid        Fréchet distance of features; FID on Inception features
kid        kernel distance of features; KID on Inception features
is         Inception Score of the logits that go with the features
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.eval.distances import (
    Moments,
    check_frechet,
    check_kernel,
    check_score,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from vilex.eval.features import Extractor, Features, features_of, to_bytes
from vilex.extras import needs

with needs("eval"):
    from torchmetrics.functional.image import (
        learned_perceptual_image_patch_similarity,
        structural_similarity_index_measure,
    )

BY_FEATURES = ("distance", "rank")
BY_PIXELS = ("error", "psnr", "ssim", "lpips")
OF_SETS = ("fid", "kid", "is")
ALL = (*BY_FEATURES, *BY_PIXELS, *OF_SETS)
LOWER_IS_BETTER = {"distance", "rank", "error", "lpips", "fid", "kid"}


def check_measures(names: Sequence[str]) -> None:
    """Raise InputError for a name that is no measure, or one whose package is missing."""
    for name in names:
        if name not in ALL:
            raise InputError(f"measures: unknown '{name}'; there are {', '.join(ALL)}")
    if "lpips" in names:
        _torchvision()


def check_sets(
    measures: Sequence[str], extractors: Mapping[str, Extractor], count: int, reference: Moments | None = None
) -> None:
    """Raise InputError for a measure of sets that `count` pictures are too few for: found before any is drawn."""
    if "kid" in measures and extractors:
        check_kernel(count)
    if "is" in measures and extractors:
        check_score(count)
    for extractor in extractors.values() if "fid" in measures else ():
        width = features_of([Image.new("RGB", (64, 64))], extractor).vectors.shape[1]
        check_frechet(extractor.name, width, min(count, reference.count) if reference else count)


class SetFeatures:
    """What measures must know of the features of one set of pictures, added up a batch at a time.

    Moments for `fid`; the features themselves only where another measure needs them.

    Attributes:
        name: the extractor's.
    """

    def __init__(self, name: str, moments: bool, vectors: bool, logits: bool):
        self.name = name
        self.moments: Moments | None = None
        self._keeps = moments, vectors, logits
        self._vectors: list[Tensor] = []
        self._logits: list[Tensor] = []

    def add(self, features: Features) -> None:
        """Raises InputError where logits are asked for and the network has none."""
        moments, vectors, logits = self._keeps
        if moments:
            own = Moments.of(features.vectors, self.name)
            self.moments = own if self.moments is None else self.moments + own
        if vectors:
            self._vectors.append(features.vectors)
        if logits:
            if features.logits is None:
                raise InputError(f"measures: is: {self.name} features have no classes; use lite0 or inception")
            self._logits.append(features.logits)

    @property
    def vectors(self) -> Tensor:
        """[N, D]; one tensor however often it is asked for."""
        self._vectors = [torch.cat(self._vectors)]
        return self._vectors[0]

    @property
    def logits(self) -> Tensor:
        """[N, classes]."""
        return torch.cat(self._logits)


def source_features(measures: Sequence[str], name: str) -> SetFeatures:
    """What a row is compared with; to be filled with the sources' features."""
    asked = set(measures)
    return SetFeatures(name, "fid" in asked, bool(asked & {*BY_FEATURES, "kid"}), logits=False)


class RowMeasures:
    """All measures of one row, added up a batch of pictures at a time.

    Args:
        measures: see `ALL`. sources: features of all sources, by extractor.
        seeds: how many times every picture was drawn. reference: what `fid` compares with; the sources, if None.
    """

    def __init__(
        self, measures: Sequence[str], sources: Mapping[str, SetFeatures], seeds: int, reference: Moments | None = None
    ):
        self.measures, self.sources, self.reference = measures, sources, reference
        self._each: list[dict[str, list[np.ndarray]]] = [{} for _ in range(seeds)]
        asked = set(measures)
        self._sets = [
            {name: SetFeatures(name, "fid" in asked, "kid" in asked, "is" in asked) for name in sources}
            for _ in range(seeds)
        ]

    def add(
        self,
        seed: int,
        start: int,
        sources: list[Image.Image],
        drawn: list[Image.Image],
        features: Mapping[str, Features],
    ) -> None:
        """B pictures.

        Args:
            seed: which of the drawings. start: place of the first of these pictures among all sources.
            sources, drawn: B pictures each; features: of the drawn ones, by extractor.
        """
        each = self._each[seed]
        for measure in self.measures:
            if measure in BY_PIXELS:
                each.setdefault(title_of(measure), []).append(by_pixels(measure, sources, drawn))
            for name, own in features.items():
                if measure in BY_FEATURES:
                    values = by_features(measure, self.sources[name].vectors, own.vectors, start)
                    each.setdefault(title_of(measure, name), []).append(values)
        for name, own in features.items():
            self._sets[seed][name].add(own)

    def results(self) -> dict[str, dict[str, Any]]:
        """Every measure's mean, interval and means by seed.

        Raises:
            InputError: too few pictures for a measure of sets.
        """
        found: dict[str, dict[str, Any]] = {}
        for measure in self.measures:
            for title in [title_of(measure, name) for name in ("", *self.sources)]:
                if title in self._each[0]:
                    found[title] = interval(np.stack([np.concatenate(each[title]) for each in self._each]))
            if measure in OF_SETS:
                for name, source in self.sources.items():
                    values = [of_sets(measure, source, drawn[name], self.reference) for drawn in self._sets]
                    found[title_of(measure, name)] = spread(values)
        return found


def by_features(measure: str, sources: Tensor, drawn: Tensor, start: int = 0) -> np.ndarray:
    """`distance` or `rank` of pictures, [B].

    Args:
        sources: [N, D] of all sources. drawn: [B, D] of pictures of the sources from `start` on.
    """
    similarity = F.normalize(drawn, dim=1) @ F.normalize(sources, dim=1).T
    own = similarity[torch.arange(len(drawn)), torch.arange(start, start + len(drawn))]
    if measure == "distance":
        return (1 - own).numpy()
    return 1 + (similarity > own[:, None]).sum(1).numpy()


def by_pixels(measure: str, source: list[Image.Image], drawn: list[Image.Image]) -> np.ndarray:
    """`error`, `psnr`, `ssim` or `lpips` of each picture, [N]."""
    a, b = (to_bytes(pictures).float() / 255 for pictures in (drawn, source))
    if measure == "ssim":
        similarity = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
        assert isinstance(similarity, Tensor)  # a pair only where the gradient or the contrast is asked for
        return similarity.numpy()
    if measure == "lpips":
        return _lpips(a, b).numpy()
    error = (a - b).square().mean((1, 2, 3))
    return error.numpy() if measure == "error" else (-10 * error.clamp_min(1e-10).log10()).numpy()


def of_sets(measure: str, source: SetFeatures, drawn: SetFeatures, reference: Moments | None) -> float:
    """`fid`, `kid` or `is` of all pictures together.

    Args:
        reference: what `fid` compares with; the sources, if None.
    Raises:
        InputError: too few pictures.
    """
    if measure == "fid":
        compared = reference or source.moments
        if compared is None or drawn.moments is None:
            raise InputError("measures: fid: no pictures")
        return frechet_distance(compared, drawn.moments)
    if measure == "kid":
        return kernel_distance(source.vectors, drawn.vectors)[0]
    return inception_score(drawn.logits)[0]


def title_of(measure: str, features: str = "") -> str:
    """A measure's name in tables: only Inception's numbers are called FID, KID and IS."""
    plain = {"distance": "distance", "rank": "rank", "error": "squared error", "psnr": "PSNR", "ssim": "SSIM"}
    plain |= {"lpips": "LPIPS", "fid": "Fréchet distance", "kid": "kernel distance", "is": "score"}
    if features == "inception" and measure in OF_SETS:
        return measure.upper()
    return f"{features} {plain[measure]}".strip()


def interval(values: np.ndarray, draws: int = 2000) -> dict[str, Any]:
    """Mean and 95% bootstrap interval over pictures, [N] or [seeds, N]; of several seeds also each one's mean."""
    by_seed = np.atleast_2d(values)
    mean = by_seed.mean(0)
    rng = np.random.default_rng(0)
    again = mean[rng.integers(0, len(mean), (draws, len(mean)))].mean(1)
    low, high = np.quantile(again, (0.025, 0.975))
    return {"mean": float(mean.mean()), "low": float(low), "high": float(high), "seeds": by_seed.mean(1).tolist()}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and range over seeds of what is one number a seed."""
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values), "seeds": list(values)}


def _torchvision() -> None:
    with needs("lpips"):
        import torchvision  # noqa: F401 (torchmetrics needs it)


def _lpips(a: Tensor, b: Tensor) -> Tensor:
    _torchvision()
    return torch.stack(
        [learned_perceptual_image_patch_similarity(x[None], y[None], normalize=True) for x, y in zip(a, b, strict=True)]
    )
