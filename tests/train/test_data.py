import io

import pyarrow as pa
import pyarrow.parquet
import pytest

from vilex.errors import InputError
from vilex.train.config import DataConfig
from vilex.train.data import Shuffled, make_loader, open_dataset


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path, pictures):
    (tmp_path / "below").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "below" / f"{i}.png")
    (tmp_path / "below" / "3.txt").write_text("a cat\n\na red dog\n")
    return tmp_path


def test_folder_with_captions_beside(folder):
    dataset = open_dataset(DataConfig(path=str(folder)))
    assert len(dataset) == 8
    assert dataset[3].captions == ("a cat", "a red dog") and dataset[0].captions == ()


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {"bytes": content, "path": None}])
def test_parquet(tmp_path, pictures, wrap):
    rows = [{"image": wrap(png(picture)), "captions": ["one", "two"]} for picture in pictures]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    dataset = open_dataset(DataConfig(path=str(tmp_path / "t.parquet")))
    assert len(dataset) == 8 and dataset[2].captions == ("one", "two")
    assert dataset[2].image.tobytes() == pictures[2].tobytes()
    with pytest.raises(InputError, match="no column 'picture', only image, captions"):
        open_dataset(DataConfig(path=str(tmp_path / "t.parquet"), image_column="picture"))


def test_missing_data_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder or Parquet"):
        open_dataset(DataConfig(path=str(tmp_path / "none")))
    with pytest.raises(InputError, match="no images below"):
        open_dataset(DataConfig(path=str(tmp_path)))
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_dataset(DataConfig(path=str(tmp_path / "t.parquet")))


def test_order_visits_all_once_an_epoch_and_resumes():
    whole = list(Shuffled(10, 4, seed=3, start=0, steps=10))
    assert list(Shuffled(10, 4, seed=3, start=6, steps=10)) == whole[6:]
    visited = [index for batch in whole for index, _ in batch]
    assert all(sorted(visited[i : i + 10]) == list(range(10)) for i in range(0, 40, 10))
    assert visited[:10] != visited[10:20]
    assert list(Shuffled(10, 4, seed=4, start=0, steps=10)) != whole


def test_batches_are_ready_for_both_models(folder):
    loader = make_loader(
        open_dataset(DataConfig(path=str(folder))), DataConfig(), batch_size=4, seed=0, start=0, steps=4, image_size=16,
        preprocess=lambda images: __import__("torch").zeros(len(images), 3, 32, 32),
    )  # fmt: skip
    batches = list(loader)
    assert len(batches) == 4
    assert batches[0].pixels.shape == (4, 3, 16, 16) and batches[0].pixel_values.shape == (4, 3, 32, 32)
    assert batches[0].pixels.min() >= -1 and batches[0].pixels.max() <= 1
    assert {caption for batch in batches for caption in batch.captions} <= {"", "a cat", "a red dog"}
