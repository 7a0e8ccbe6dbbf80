import io
import json
import os
import pickle
import signal
import tarfile
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from vilex.data import make_loader, open_sources
from vilex.data.config import DataConfig, SourceConfig
from vilex.data.example import Example
from vilex.data.order import Batches, Mixture
from vilex.data.streamed import Lane
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def numbered(i, size=16):
    """A picture that says which one it is."""
    return Image.fromarray(np.full((size, size, 3), (i % 256, i // 256, 77), dtype=np.uint8))


def number_of(pixels):
    red, green = ((pixels[:2, 0, 0] + 1) * 127.5).round().int().tolist()
    return red + 256 * green


def open_one(**settings):
    return open_sources(DataConfig(**settings))[0]


def write_shards(folder, counts, caption="txt", suffix="tar"):
    """Tar shards of numbered pictures, as img2dataset writes them."""
    folder.mkdir(exist_ok=True)
    number = 0
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"{shard:03d}.{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tar:
            for _ in range(count):
                text = f"number {number}".encode() if caption == "txt" else b'{"caption": "number %d"}' % number
                for name, content in ((f"{number:05d}.png", png(numbered(number))), (f"{number:05d}.{caption}", text)):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                number += 1
    return number


def loader(sources, config, **settings):
    defaults = {"batch_size": 4, "seed": 0, "start": 0, "steps": 8, "image_size": 16}
    return make_loader(sources, config, **{**defaults, **settings}, preprocess=lambda images: torch.zeros(1, 3, 2, 2))


def numbers(batches):
    return [number_of(pixels) for batch in batches for pixels in batch.pixels]


@pytest.fixture
def folder(tmp_path, pictures):
    (tmp_path / "below").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "below" / f"{i}.png")
    (tmp_path / "below" / "3.txt").write_text("a cat\n\na red dog\n")
    (tmp_path / "below" / "4.json").write_text('{"caption": "a skull", "width": 32}')
    (tmp_path / "below" / "metadata.jsonl").write_text(
        '{"file_name": "5.png", "text": "a fox"}\n\n{"file_name": "3.png", "text": "overruled"}\n'
    )
    return tmp_path


class TestFolders:
    def test_captions_beside_and_in_metadata(self, folder):
        source = open_one(path=str(folder))
        assert len(source) == 8
        assert [source[i].captions for i in (0, 3, 4, 5)] == [(), ("a cat", "a red dog"), ("a skull",), ("a fox",)]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("4.json", "{", "4.json: not valid JSON"),
            ("4.json", '{"caption": 3}', "4.json: 'caption': expected a text or a list of texts, got 3"),
        ],
    )
    def test_broken_captions_are_named(self, folder, name, content, message):
        (folder / "below" / name).write_text(content)
        with pytest.raises(InputError, match=message):
            open_one(path=str(folder))[4]

    def test_broken_metadata_is_named(self, folder):
        (folder / "below" / "metadata.jsonl").write_text('{"file": "5.png"}\n')
        with pytest.raises(InputError, match=r"metadata\.jsonl line 1: expected an object with 'file_name'"):
            open_one(path=str(folder))


class TestParquet:
    @pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {"bytes": content, "path": None}])
    @pytest.mark.parametrize("stream", [False, True])
    def test_rows(self, tmp_path, pictures, wrap, stream):
        rows = [{"image": wrap(png(picture)), "captions": ["one", "two"]} for picture in pictures]
        pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=3)
        source = open_one(path=str(tmp_path / "t.parquet"), stream=stream)
        if stream:
            assert len(source.shards) == 3
            examples = [decode() for shard in range(3) for decode in source.read(shard)]
        else:
            examples = [source[i] for i in range(len(source))]
        assert [example.captions for example in examples] == [("one", "two")] * 8
        assert [e.image.tobytes() for e in examples] == [picture.tobytes() for picture in pictures]
        with pytest.raises(InputError, match="no column 'picture', only image, captions"):
            open_one(path=str(tmp_path / "t.parquet"), image_column="picture", stream=stream)

    def test_several_tables_and_another_name_for_captions(self, tmp_path, pictures):
        for part in range(2):
            rows = [{"image": png(picture), "text": f"{part}"} for picture in pictures]
            pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / f"{part}.parquet")
        for path in (tmp_path, tmp_path / "*.parquet", tmp_path / "{0..1}.parquet"):
            source = open_one(path=str(path))
            assert len(source) == 16 and source[0].captions == ("0",) and source[15].captions == ("1",)


def test_hugging_face_datasets(tmp_path, pictures):
    table = datasets.Dataset.from_dict(
        {"image": pictures, "text": [f"number {i}" for i in range(8)]},
        features=datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}),
    )
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "hub" / "train.parquet")
    saved = open_one(path=str(tmp_path / "saved"))
    loaded = open_one(path=f"hf:{tmp_path / 'hub'}")
    streamed = open_one(path=f"hf:{tmp_path / 'hub'}", stream=True)
    examples = [raw() for shard in range(len(streamed.shards)) for raw in streamed.read(shard)]
    for read in (saved, loaded, examples):
        assert len(read) == 8 and read[2].captions == ("number 2",)
        assert read[2].image.tobytes() == pictures[2].tobytes()
    with pytest.raises(InputError, match=r"hf:.*nowhere"):
        open_one(path=f"hf:{tmp_path / 'nowhere'}")


class TestShards:
    @pytest.mark.parametrize(("caption", "suffix"), [("txt", "tar"), ("json", "tar"), ("txt", "tar.gz")])
    def test_samples(self, tmp_path, caption, suffix):
        write_shards(tmp_path, [3, 2], caption, suffix)
        source = open_one(path=str(tmp_path / f"*.{suffix}"))
        examples = [raw() for shard in range(2) for raw in source.read(shard)]
        assert [example.captions for example in examples] == [(f"number {i}",) for i in range(5)]
        assert np.asarray(examples[4].image)[0, 0].tolist() == [4, 0, 77]

    def test_from_a_pipe_and_over_http(self, tmp_path):
        write_shards(tmp_path, [2, 2])
        piped = open_one(path=f"pipe:cat {tmp_path}/{{000..001}}.tar")
        assert len(piped.shards) == 2 and len(list(piped.read(1))) == 2
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        handler.log_message = lambda *_: None
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            fetched = open_one(path=f"{address}/{{000..001}}.tar")
            assert [raw().captions for raw in fetched.read(1)] == [("number 2",), ("number 3",)]
            missing = Lane(open_one(path=f"{address}/none.tar"), 0, 1, seed=0, chunk=4)
            assert "none.tar: broken shard" in str(next(iter(missing)))
            server.shutdown()

    def test_a_broken_shard_and_a_broken_image_are_named_and_the_rest_goes_on(self, tmp_path):
        write_shards(tmp_path, [4, 4, 4])
        whole = (tmp_path / "001.tar").read_bytes()
        (tmp_path / "001.tar").write_bytes(whole[: len(whole) // 2 + 200])
        content = (tmp_path / "002.tar").read_bytes()
        (tmp_path / "002.tar").write_bytes(content.replace(b"IHDR", b"XXXX", 1))
        found = list(islice(iter(Lane(open_one(path=str(tmp_path)), 0, 1, seed=0, chunk=10)), 11))
        good = [e.captions[0] for e in found if isinstance(e, Example)]
        bad = sorted(str(e) for e in found if isinstance(e, InputError))
        assert len(good) == len(set(good)) == 9 and len(bad) == 2
        assert "001.tar: broken shard" in bad[0] and "002.tar 00008: not a readable image" in bad[1]

    def test_empty_shards_do_not_hang(self, tmp_path):
        write_shards(tmp_path, [0, 0])
        lane = iter(Lane(open_one(path=str(tmp_path)), 0, 1, seed=0, chunk=10))
        assert "no samples in any" in str(next(lane)) and "no samples in any" in str(next(lane))

    def test_more_readers_than_shards_are_refused(self, tmp_path):
        write_shards(tmp_path, [4, 4])
        with pytest.raises(InputError, match="2 shards for 4 readers"):
            loader(open_sources(DataConfig(path=str(tmp_path))), DataConfig(path=str(tmp_path), workers=2), world=2)


def test_missing_data_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder, Parquet"):
        open_one(path=str(tmp_path / "none"))
    with pytest.raises(InputError, match="no images below"):
        open_one(path=str(tmp_path))
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_one(path=str(tmp_path / "t.parquet"))
    write_shards(tmp_path / "tars", [1])
    with pytest.raises(InputError, match="tar shards and other files together"):
        open_one(path=f"{tmp_path}/{{tars/000.tar,t.parquet}}")


class TestOrder:
    def batches(self, **settings):
        defaults = {"batch_size": 4, "seed": 3, "start": 0, "steps": 10}
        return list(Batches([10], [1.0], **{**defaults, **settings}))

    def test_all_are_visited_once_an_epoch_and_a_resumed_order_is_the_same(self):
        whole = self.batches()
        assert self.batches(start=6) == whole[6:]
        visited = [visit.index for batch in whole for visit in batch]
        assert all(sorted(visited[i : i + 10]) == list(range(10)) for i in range(0, 40, 10))
        assert visited[:10] != visited[10:20]
        assert self.batches(seed=4) != whole

    def test_ranks_share_the_one_order(self):
        whole = self.batches()
        for world in (2, 4):
            parts = [self.batches(rank=rank, world=world) for rank in range(world)]
            assert [[visit for part in step for visit in part] for step in zip(*parts, strict=True)] == whole

    def test_mixtures_meet_their_weights_and_visit_each_source_in_full(self):
        mixture = Mixture([1, 2, 7], seed=0)
        turns = [mixture.turn(visit) for visit in range(3000)]
        assert Counter(source for source, _ in turns) == {0: 300, 1: 600, 2: 2100}
        for source in range(3):
            assert [turn for s, turn in turns if s == source] == list(range(300 * (1, 2, 7)[source]))
        assert Counter(source for source, _ in turns[:100])[2] in range(60, 80)

    def test_mixture_of_a_folder_and_shards(self, tmp_path, folder):
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
        assert "6.png: not an image" in batch.bad[0]
        assert (batch.pixels[batch.weights == 0] == -1).all()


def test_tables_and_json_lines_agree(tmp_path):
    """What a shard's .json says is what a table's row says."""
    write_shards(tmp_path, [1], "json")
    row = {"image": png(numbered(0)), "caption": json.loads('"number 0"')}
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    (raw,) = open_one(path=str(tmp_path / "*.tar")).read(0)
    assert raw().captions == open_one(path=str(tmp_path / "t.parquet"))[0].captions == ("number 0",)


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
