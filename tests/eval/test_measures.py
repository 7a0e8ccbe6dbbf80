import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio

from vilex.errors import InputError
from vilex.eval.features import Features, to_bytes
from vilex.eval.measures import by_features, by_pixels, check_measures, interval, of_sets, title_of


def test_distance_and_rank_of_known_features():
    source = Features(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    drawn = Features(torch.tensor([[2.0, 0.0], [1.0, 0.1], [1.0, 1.0]]))
    distance, rank = by_features("distance", source, drawn), by_features("rank", source, drawn)
    assert distance[0] == pytest.approx(0, abs=1e-6) and distance[1] == pytest.approx(1 - 0.1 / 1.01**0.5, abs=1e-6)
    assert rank.tolist() == [1, 3, 1]


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
        of_sets("is", Features(torch.zeros(4, 2)), Features(torch.zeros(4, 2)), "clip", None)


def test_only_inceptions_numbers_are_called_fid():
    assert title_of("fid", "inception") == "FID" and title_of("fid", "lite0") == "lite0 Fréchet distance"
    assert title_of("distance", "inception") == "inception distance"


def test_interval_covers_the_mean_and_keeps_each_seed():
    values = np.random.default_rng(0).normal(5, 1, (3, 400))
    found = interval(values)
    assert found["low"] < found["mean"] < found["high"] and found["high"] - found["low"] < 0.2
    assert found["seeds"] == pytest.approx(values.mean(1))
