import datasets
import pyarrow as pa
import pyarrow.parquet

from tests.data.samples import numbered, open_one, png, write_shards
from vilex.data.counting import count_found


def said(**settings):
    return str(count_found(open_one(**settings)))


def test_folders(folder):
    assert said(path=str(folder)) == "8 images, 3 with captions"
    assert said(path=str(folder), caption_column="") == "8 images, 0 with captions"


def test_tables(tmp_path):
    rows = [{"image": png(numbered(i)), "text": "it" if i else None} for i in range(4)]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=3)
    path = str(tmp_path / "t.parquet")
    assert said(path=path) == "4 images, 3 with captions"
    assert said(path=path, stream=True) == "2 shards, 4 images, captions in column 'text'"
    assert said(path=path, stream=True, caption_column="") == "2 shards, 4 images, 0 with captions"
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    assert said(path=str(tmp_path / "saved")) == "4 images, 3 with captions"
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "hub" / "train.parquet")
    streamed = said(path=f"hf:{tmp_path / 'hub'}", stream=True)
    assert streamed == "1 shard, captions in column 'text', images are counted as they are read"


def test_shards(tmp_path):
    write_shards(tmp_path, [3, 4])
    assert said(path=str(tmp_path)) == "2 shards, of the first 3 images 3 with captions"
    (tmp_path / "000.tar").write_bytes(b"no tar")
    assert said(path=str(tmp_path)) == "2 shards, images are counted as they are read"
    piped = said(path=f"pipe:touch {tmp_path}/ran", allow_pipe=True)
    assert piped == "1 shard, images are counted as they are read" and not (tmp_path / "ran").exists()
