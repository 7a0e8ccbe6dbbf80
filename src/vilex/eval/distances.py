"""Distances between sets of pictures, by features: Fréchet, kernel, and Inception Score. torchmetrics computes them.

A Fréchet distance is called FID on Inception features only; everywhere here it carries its features' name.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vilex.errors import InputError
from vilex.extras import needs

with needs("eval"):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

IMAGES_PER_FEATURE = 2  # fewer, and the covariance of the features is mostly noise
SPLITS = 10  # of Inception Score, as published
FEWEST = 4  # images of a kernel distance
SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance; at most half the images make a subset


@dataclass(frozen=True)
class Moments:
    """What a Fréchet distance must know of a set: count, sum [D] and sum of outer products [D, D], in float64."""

    features: str
    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, vectors: Tensor, features: str) -> "Moments":
        """vectors: [N, D]. features: the extractor's name."""
        vectors = vectors.double()
        return cls(features, len(vectors), vectors.sum(0), vectors.T @ vectors)

    def __add__(self, other: "Moments") -> "Moments":
        """Of both sets together; their features are the same extractor's."""
        return Moments(self.features, self.count + other.count, self.total + other.total, self.outer + other.outer)

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write them as safetensors, `metadata` in the header; `load` reads them."""
        save_file(
            {"total": self.total, "outer": self.outer},
            path,
            metadata={**metadata, "features": self.features, "count": str(self.count)},
        )

    @classmethod
    def load(cls, path: Path) -> "Moments":
        """Raises InputError where the file is missing, damaged or something else."""
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                return cls(about["features"], int(about["count"]), file.get_tensor("total"), file.get_tensor("outer"))
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{path}: no reference statistics ({error}); `vilex eval reference` writes them") from None


def frechet_distance(reference: Moments, drawn: Moments) -> float:
    """|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^1/2) of the Gaussians that fit both sets (arXiv 1706.08500).

    Raises:
        InputError: features differ, or a set is too small for its covariance to mean anything.
    """
    if reference.features != drawn.features:
        raise InputError(f"Fréchet distance: reference of {reference.features}, pictures of {drawn.features} features")
    check_frechet(drawn.features, len(drawn.total), min(reference.count, drawn.count))
    metric = FrechetInceptionDistance(feature=_GivenFeatures(len(drawn.total))).set_dtype(torch.float64)
    for kind, moments in (("real", reference), ("fake", drawn)):
        setattr(metric, f"{kind}_features_sum", moments.total)
        setattr(metric, f"{kind}_features_cov_sum", moments.outer)
        setattr(metric, f"{kind}_features_num_samples", torch.tensor(moments.count))
    metric.orig_dtype = torch.float64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing was added up before: the sums were given
        return float(metric.compute())


def check_frechet(features: str, width: int, count: int) -> None:
    """Raise InputError if `count` images are too few for the covariance of `width` features."""
    if count < (needed := IMAGES_PER_FEATURE * width):
        raise InputError(
            f"Fréchet distance on {features}: at least {needed} images needed, got {count}; "
            "give more, or measure kid, which small sets can bear"
        )


def check_kernel(count: int) -> None:
    """Raise InputError if `count` images are too few for a kernel distance."""
    if count < FEWEST:
        raise InputError(f"kernel distance: at least {FEWEST} images needed, got {count}; give more, or leave kid out")


def check_score(count: int) -> None:
    """Raise InputError if `count` images are too few for an Inception Score."""
    if count < 10 * SPLITS:
        raise InputError(
            f"Inception Score: at least {10 * SPLITS} images needed, got {count}; give more, or leave is out"
        )


def kernel_distance(reference: Tensor, drawn: Tensor, seed: int = 0) -> tuple[float, float]:
    """The kernel (KID) distance of features [N, D] and [M, D]: mean and deviation over subsets (arXiv 1801.01401).

    The polynomial kernel's unbiased estimate, so small sets make it noisy but not larger.

    Raises:
        InputError: a set has under 4 images.
    """
    check_kernel(fewest := min(len(reference), len(drawn)))
    size = min(SUBSET_SIZE, fewest // 2)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all features are held in memory
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_GivenFeatures(drawn.shape[1]), subsets=SUBSETS, subset_size=size)
        metric.update(reference, real=True)
        metric.update(drawn, real=False)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def inception_score(logits: Tensor, seed: int = 0) -> tuple[float, float]:
    """exp E KL(p(y|x) || p(y)) of classifier logits [N, classes]: mean and deviation over 10 splits.

    Raises:
        InputError: under 10 images a split.
    """
    check_score(len(logits))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)  # the metric shuffles before it splits
        metric = InceptionScore(feature=_GivenFeatures(logits.shape[1]), splits=SPLITS)
        metric.update(logits)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


class _GivenFeatures(nn.Module):
    """In the place of torchmetrics' network: features were extracted before."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
