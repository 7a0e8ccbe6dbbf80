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

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.eval.distances import Moments, frechet_distance, inception_score, kernel_distance
from vilex.eval.features import Features, to_bytes
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
    """Raise InputError for a name that is no measure."""
    for name in names:
        if name not in ALL:
            raise InputError(f"measures: unknown '{name}'; there are {', '.join(ALL)}")


def measure_row(
    measures: Sequence[str],
    sources: list[Image.Image],
    seen: dict[str, Features],
    drawn: list[list[Image.Image]],
    again: dict[str, list[Features]],
    reference: Moments | None,
) -> dict[str, dict[str, Any]]:
    """All measures of one row.

    Args:
        seen: the sources' features by extractor. drawn, again: pictures and their features, by seed.
    """
    found = {}
    for measure in measures:
        if measure in BY_PIXELS:
            found[title_of(measure)] = interval(np.stack([by_pixels(measure, sources, one) for one in drawn]))
        for name, features in again.items():
            if measure in BY_FEATURES:
                values = np.stack([by_features(measure, seen[name], one) for one in features])
                found[title_of(measure, name)] = interval(values)
            elif measure in OF_SETS:
                values = [of_sets(measure, seen[name], one, name, reference) for one in features]
                found[title_of(measure, name)] = spread(values)
    return found


def by_features(measure: str, source: Features, drawn: Features) -> np.ndarray:
    """`distance` or `rank` of each picture, [N]."""
    similarity = F.normalize(drawn.vectors, dim=1) @ F.normalize(source.vectors, dim=1).T
    own = similarity.diagonal()
    if measure == "distance":
        return (1 - own).numpy()
    return 1 + (similarity > own[:, None]).sum(1).numpy()


def by_pixels(measure: str, source: list[Image.Image], drawn: list[Image.Image]) -> np.ndarray:
    """`error`, `psnr`, `ssim` or `lpips` of each picture, [N]."""
    a, b = (to_bytes(pictures).float() / 255 for pictures in (drawn, source))
    if measure == "ssim":
        return structural_similarity_index_measure(a, b, data_range=1.0, reduction="none").numpy()
    if measure == "lpips":
        return _lpips(a, b).numpy()
    error = (a - b).square().mean((1, 2, 3))
    return error.numpy() if measure == "error" else (-10 * error.clamp_min(1e-10).log10()).numpy()


def of_sets(measure: str, source: Features, drawn: Features, name: str, reference: Moments | None) -> float:
    """`fid`, `kid` or `is` of all pictures together.

    Args:
        name: the extractor's. reference: what `fid` compares with; the sources, if None.
    Raises:
        InputError: too few pictures, or features without logits.
    """
    if measure == "fid":
        return frechet_distance(reference or Moments.of(source.vectors, name), Moments.of(drawn.vectors, name))
    if measure == "kid":
        return kernel_distance(source.vectors, drawn.vectors)[0]
    if drawn.logits is None:
        raise InputError(f"measures: is: {name} features have no classes; use lite0 or inception")
    return inception_score(drawn.logits)[0]


def title_of(measure: str, features: str = "") -> str:
    """A measure's name in tables: only Inception's numbers are called FID, KID and IS."""
    plain = {"distance": "distance", "rank": "rank", "error": "squared error", "psnr": "PSNR", "ssim": "SSIM"}
    plain |= {"lpips": "LPIPS", "fid": "Fréchet distance", "kid": "kernel distance", "is": "score"}
    if features == "inception" and measure in OF_SETS:
        return measure.upper()
    return f"{features} {plain[measure]}".strip()


def interval(values: np.ndarray, draws: int = 2000) -> dict[str, float]:
    """Mean and 95% bootstrap interval over pictures, [N] or [seeds, N]; of several seeds also each one's mean."""
    by_seed = np.atleast_2d(values)
    mean = by_seed.mean(0)
    rng = np.random.default_rng(0)
    again = mean[rng.integers(0, len(mean), (draws, len(mean)))].mean(1)
    low, high = np.quantile(again, (0.025, 0.975))
    return {"mean": float(mean.mean()), "low": float(low), "high": float(high), "seeds": by_seed.mean(1).tolist()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and range over seeds of what is one number a seed."""
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values), "seeds": list(values)}


def _lpips(a: Tensor, b: Tensor) -> Tensor:
    with needs("lpips"):
        import torchvision  # noqa: F401 (torchmetrics needs it)
    return torch.stack(
        [learned_perceptual_image_patch_similarity(x[None], y[None], normalize=True) for x, y in zip(a, b, strict=True)]
    )
