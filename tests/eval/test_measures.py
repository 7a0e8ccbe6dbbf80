import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio

from vilex.errors import InputError
from vilex.eval.distances import Moments, frechet_distance
from vilex.eval.features import Features, to_bytes
from vilex.eval.measures import (
    RowMeasures,
    by_features,
    by_pixels,
    check_measures,
    interval,
    source_features,
    title_of,
)


def test_distance_and_rank_of_known_features():
    source = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    drawn = torch.tensor([[2.0, 0.0], [1.0, 0.1], [1.0, 1.0]])
    distance, rank = by_features("distance", source, drawn), by_features("rank", source, drawn)
    assert distance[0] == pytest.approx(0, abs=1e-6) and distance[1] == pytest.approx(1 - 0.1 / 1.01**0.5, abs=1e-6)
    assert rank.tolist() == [1, 3, 1]
    for measure, whole in (("distance", distance), ("rank", rank)):
        parts = [by_features(measure, source, drawn[i : i + 2], i) for i in (0, 2)]
        assert np.concatenate(parts) == pytest.approx(whole)


def test_a_row_in_batches_is_the_row_at_once(pictures):
    generator = torch.Generator().manual_seed(0)
    vectors, again = (torch.randn(2, 8, 3, generator=generator).unbind() for _ in range(2))
    measures = ("distance", "rank", "error", "fid", "kid")
    sources = pictures[::-1]

    def measured(size):
        seen = source_features(measures, "lite0")
        row = RowMeasures(measures, {"lite0": seen}, seeds=2)
        for i in range(0, 8, size):
            seen.add(Features(vectors[0][i : i + size]))
        for seed in range(2):
            for i in range(0, 8, size):
                part = slice(i, i + size)
                row.add(seed, i, sources[part], pictures[part], {"lite0": Features(again[seed][part])})
        return row.results()

    whole, parts = measured(8), measured(3)
    assert list(whole) == ["lite0 distance", "lite0 rank", "squared error", "lite0 Fréchet distance",
                           "lite0 kernel distance"]  # fmt: skip
    for title, values in whole.items():
        for name, value in values.items():
            assert parts[title][name] == pytest.approx(value, rel=1e-5)
    both = [frechet_distance(Moments.of(vectors[0], "lite0"), Moments.of(one, "lite0")) for one in again]
    assert whole["lite0 Fréchet distance"]["seeds"] == pytest.approx(both)
    assert whole["squared error"]["mean"] == pytest.approx(float(by_pixels("error", sources, pictures).mean()))


def test_pixels(pictures):
    assert by_pixels("error", pictures, pictures).tolist() == [0] * 8
    assert by_pixels("ssim", pictures, pictures) == pytest.approx(np.ones(8), abs=1e-3)
    found = by_pixels("psnr", pictures[:1], pictures[1:2])[0]
    pixels = [to_bytes([picture]).float() / 255 for picture in pictures[:2]]
    assert found == pytest.approx(float(peak_signal_noise_ratio(*pixels, data_range=1.0)), rel=1e-4)
    black, white = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), "white")
    assert by_pixels("error", [black], [white]) == pytest.approx([1.0])


def test_measures_that_need_more_are_refused(pictures):
    with pytest.raises(InputError, match="unknown 'fidd'"):
        check_measures(["rank", "fidd"])
    with pytest.raises(InputError, match="clip features have no classes"):
        RowMeasures(["is"], {"clip": source_features(["is"], "clip")}, 1).add(
            0, 0, pictures, pictures, {"clip": Features(torch.zeros(8, 2))}
        )


def test_only_inceptions_numbers_are_called_fid():
    assert title_of("fid", "inception") == "FID" and title_of("fid", "lite0") == "lite0 Fréchet distance"
    assert title_of("distance", "inception") == "inception distance"


def test_interval_covers_the_mean_and_keeps_each_seed():
    values = np.random.default_rng(0).normal(5, 1, (3, 400))
    found = interval(values)
    assert found["low"] < found["mean"] < found["high"] and found["high"] - found["low"] < 0.2
    assert found["seeds"] == pytest.approx(values.mean(1))
