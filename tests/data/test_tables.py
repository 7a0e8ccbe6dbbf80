import json
from functools import partial

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.data.samples import numbered, open_one, png, write_shards
from vilex.errors import InputError


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


@pytest.mark.parametrize("stream", [False, True])
def test_tables_without_rows_are_named(tmp_path, stream):
    pa.parquet.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: no rows in it"):
        open_one(path=str(tmp_path / "t.parquet"), stream=stream)


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


def test_tables_and_json_lines_agree(tmp_path):
    """What a shard's .json says is what a table's row says."""
    write_shards(tmp_path, [1], "json")
    row = {"image": png(numbered(0)), "caption": json.loads('"number 0"')}
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    (raw,) = open_one(path=str(tmp_path / "*.tar")).read(0)
    assert raw().captions == open_one(path=str(tmp_path / "t.parquet"))[0].captions == ("number 0",)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caption_column_that_is_not_there_is_named(tmp_path, stream):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([{"image": png(numbered(0)), "prompt": "it"}]), path)
    with pytest.raises(InputError, match=r"data\.caption_column: .*no caption column 'promt', only image, prompt"):
        open_one(path=str(path), caption_column="promt", stream=stream)
    for column, expected in (("prompt", ("it",)), ("captions", ()), ("", ())):
        source = open_one(path=str(path), caption_column=column, stream=stream)
        example = next(source.read(0))() if stream else source[0]
        assert example.captions == expected


def test_tables_of_other_columns_are_named(tmp_path):
    pa.parquet.write_table(pa.Table.from_pylist([{"image": png(numbered(0)), "text": "it"}]), tmp_path / "a.parquet")
    pa.parquet.write_table(pa.Table.from_pylist([{"image": png(numbered(0))}]), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet has the columns image, .*a\.parquet image, text"):
        open_one(path=str(tmp_path))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wrap", [lambda path: path, lambda path: {"bytes": None, "path": path}])
def test_a_row_opens_no_file_but_below_its_table(tmp_path, wrap, stream):
    (tmp_path / "table" / "images").mkdir(parents=True)
    for name in ("table/images/in.png", "out.png"):
        numbered(5).save(tmp_path / name)
    inside = ["images/in.png", "images/../images/in.png", str(tmp_path / "table" / "images" / "in.png")]
    outside = [str(tmp_path / "out.png"), "../out.png", "images/../../out.png", "/etc/passwd"]
    rows = [{"image": wrap(path)} for path in inside + outside]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "table" / "t.parquet")
    source = open_one(path=str(tmp_path / "table" / "t.parquet"), stream=stream)
    raws = list(source.read(0)) if stream else [partial(source.__getitem__, i) for i in range(len(rows))]
    assert all(np.asarray(raw().image)[0, 0, 0] == 5 for raw in raws[: len(inside)])
    for raw in raws[len(inside) :]:
        with pytest.raises(InputError, match=r"t\.parquet .*row \d: '.*' lies outside .*table"):
            raw()


def test_a_row_of_a_hugging_face_dataset_opens_no_file_elsewhere(tmp_path):
    numbered(5).save(tmp_path / "out.png")
    table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(tmp_path / "out.png")}, {"bytes": None}]})
    table.to_parquet(tmp_path / "hub" / "train.parquet")
    source = open_one(path=f"hf:{tmp_path / 'hub'}")
    with pytest.raises(InputError, match=r"row 0: '.*out\.png' lies outside"):
        source[0]
    with pytest.raises(InputError, match="row 1: expected an image's bytes or path, got NoneType"):
        source[1]
