import os
import pickle
import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from tests.data.samples import loader, numbered, numbers, png, write_shards
from vilex.data import make_loader, open_sources
from vilex.data.config import DataConfig, SourceConfig
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError


def test_more_readers_than_shards_are_refused(tmp_path):
    write_shards(tmp_path, [4, 4])
    with pytest.raises(InputError, match="2 shards for 4 readers"):
        loader(open_sources(DataConfig(path=str(tmp_path))), DataConfig(path=str(tmp_path), workers=2), world=2)


def test_mixture_of_a_folder_and_shards(tmp_path, folder):
    write_shards(tmp_path / "tars", [10, 10])
    config = DataConfig(
        sources=(
            SourceConfig(path=str(folder / "below"), weight=1.0),
            SourceConfig(path=str(tmp_path / "tars"), weight=3.0),
        )
    )
    batches = list(loader(open_sources(config), config, batch_size=20, steps=50))
    from_tars = sum(caption.startswith("number") for batch in batches for caption in batch.captions)
    assert from_tars == 750


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "tar", "parquet stream"])
class TestAccounting:
    """Two epochs, however many ranks and workers: every sample exactly twice, and once by half time."""

    def source(self, tmp_path, kind, workers):
        if kind == "tar":
            write_shards(tmp_path / "data", [4] * 8)
        elif kind == "folder":
            (tmp_path / "data").mkdir()
            for i in range(32):
                numbered(i).save(tmp_path / "data" / f"{i}.png")
        else:
            (tmp_path / "data").mkdir()
            table = pa.Table.from_pylist([{"image": png(numbered(i))} for i in range(32)])
            pa.parquet.write_table(table, tmp_path / "data" / "t.parquet", row_group_size=4)
        return DataConfig(path=str(tmp_path / "data"), workers=workers, stream=kind != "folder", shuffle_chunk=3)

    def test_no_sample_twice_in_an_epoch(self, tmp_path, world, workers, kind):
        config = self.source(tmp_path, kind, workers)
        halves = [[], []]
        for rank in range(world):
            batches = list(loader(open_sources(config), config, batch_size=8, steps=8, rank=rank, world=world))
            halves[0] += numbers(batches[:4])
            halves[1] += numbers(batches[4:])
        assert all(sorted(half) == list(range(32)) for half in halves)
        assert halves[0] != halves[1]

    def test_resume_at_any_step_gives_what_would_have_come(self, tmp_path, world, workers, kind):
        config = self.source(tmp_path, kind, workers)
        settings = {"batch_size": 8, "steps": 8, "rank": world - 1, "world": world}
        whole = list(loader(open_sources(config), config, **settings))
        for start in (1, 2, 5):
            places = dict(place for batch in whole[:start] for place in batch.places)
            rest = list(loader(open_sources(config), config, **settings, start=start, places=places))
            assert numbers(rest) == numbers(whole[start:])


def test_batches_are_ready_for_both_models(folder):
    config = DataConfig(path=str(folder))
    batches = list(
        make_loader(
            open_sources(config), config, batch_size=4, seed=0, start=0, steps=4, image_size=16,
            preprocess=lambda images: torch.zeros(len(images), 3, 32, 32),
        )
    )  # fmt: skip
    assert len(batches) == 4
    assert batches[0].pixels.shape == (4, 3, 16, 16) and batches[0].pixel_values.shape == (4, 3, 32, 32)
    assert batches[0].pixels.min() >= -1 and batches[0].pixels.max() <= 1
    captions = {caption for batch in batches for caption in batch.captions}
    assert captions <= {"", "a cat", "a red dog", "a skull", "a fox"}
    assert torch.equal(torch.cat([batch.visits for batch in batches]), torch.arange(16))


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_and_named(folder, workers):
    (folder / "below" / "6.png").write_bytes(b"text")
    config = DataConfig(path=str(folder), workers=workers)
    batches = list(loader(open_sources(config), config, batch_size=8, steps=2))
    for batch in batches:
        assert len(batch) == 8 and batch.weights.sum() == 7 and len(batch.bad) == 1
        assert "6.png: not a readable image" in batch.bad[0]
        assert (batch.pixels[batch.weights == 0] == -1).all()


def batches_in(context, folder, encoder):
    source = DataConfig(path=str(folder), workers=2)
    made = make_loader(
        open_sources(source), source, batch_size=4, seed=0, start=0, steps=2, image_size=16,
        preprocess=encoder.preprocessing,
    )  # fmt: skip
    made.multiprocessing_context = context
    return list(made)


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_workers_prepare_pictures_without_the_encoder_or_its_device(context, folder, model_folder, monkeypatch):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    expected = torch.cat([batch.pixel_values for batch in batches_in(None, folder, encoder)])
    encoder.to("meta")  # a device on which no picture can be made

    def refused(*_, **__):
        raise AssertionError("a worker moves the encoder or its pictures")

    monkeypatch.setattr(torch.Tensor, "to", refused)  # forked workers inherit it
    found = batches_in(context, folder, encoder)
    assert all(batch.pixel_values.device.type == "cpu" for batch in found)
    assert torch.equal(torch.cat([batch.pixel_values for batch in found]), expected)
    assert len(pickle.dumps(encoder.preprocessing)) < 1000


def test_workers_leave_signals_to_the_run(folder):
    source = DataConfig(path=str(folder), workers=1)
    batches = iter(loader(open_sources(source), source, steps=40))
    next(batches)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(batches._workers[0].pid, number)
    assert len(list(batches)) == 39


def halves(folder, count=32):
    """Pictures whose left half is black and right half white, each with two captions."""
    folder.mkdir()
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 255
    for i in range(count):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("the first\nthe second\n")
    return DataConfig(path=str(folder))


def all_of(config, encoder, steps=8):
    batches = list(
        make_loader(
            open_sources(config), config, batch_size=16, seed=0, start=0, steps=steps, image_size=16,
            preprocess=encoder.preprocessing,
        )
    )  # fmt: skip
    pixels, pixel_values = (torch.cat([getattr(b, name) for b in batches]) for name in ("pixels", "pixel_values"))
    return pixels, pixel_values, [caption for batch in batches for caption in batch.captions]


def test_flip_mirrors_half_of_the_images_for_both_models_alike(tmp_path, model_folder):
    encoder, config = ViLexEncoder.from_pretrained(model_folder), halves(tmp_path / "halves")
    pixels, pixel_values, _ = all_of(config, encoder)
    assert (pixels[..., 0] < pixels[..., -1]).all()
    pixels, pixel_values, _ = all_of(replace(config, flip=True), encoder)
    mirrored = pixels[:, 0, 0, 0] > pixels[:, 0, 0, -1]
    assert 0.35 < mirrored.float().mean() < 0.65
    assert torch.equal(mirrored, pixel_values[:, 0, 0, 0] > pixel_values[:, 0, 0, -1])
    plain = pixels[~mirrored][0]
    assert torch.equal(pixels[mirrored][0], plain.flip(-1))


def test_of_several_captions_each_is_drawn_as_often(tmp_path, model_folder):
    _, _, captions = all_of(halves(tmp_path / "halves"), ViLexEncoder.from_pretrained(model_folder))
    share = captions.count("the second") / len(captions)
    assert set(captions) == {"the first", "the second"} and 0.35 < share < 0.65
