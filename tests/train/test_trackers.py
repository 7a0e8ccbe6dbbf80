import json
import struct
import sys

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from vilex.errors import InputError
from vilex.train.trackers import TensorBoard, WeightsAndBiases


def records_of(path, block=32768):
    """The records of an offline run's file: a LevelDB log behind a header of seven bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(record)
            record = b""


def history_of(path):
    """The rows logged, each a dict."""
    for record in records_of(path):
        if record.WhichOneof("record_type") == "history":
            yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}


def test_wandb_keeps_numbers_pictures_and_one_id_over_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (10, 20):
        board = WeightsAndBiases("a-project", tmp_path, {"run": {"steps": 20}})
        board.scalars(step, {"loss": step / 100})
        board.picture(step, Image.new("RGB", (8, 4), "red"))
        board.close()
    run_id = (tmp_path / "wandb-id").read_text()
    files = sorted(tmp_path.glob(f"wandb/offline-run-*-{run_id}*/run-{run_id}.wandb"))
    rows = [row for path in files for row in history_of(path)]
    assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == [(10, 0.1), (20, 0.2)]
    assert [row["samples/width"] for row in rows if "samples/width" in row] == [8, 8]


def test_without_wandb_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r'pip install "vilex\[wandb\]"'):
        WeightsAndBiases("a-project", tmp_path, {})


def test_tensorboard_hides_steps_that_are_done_again(tmp_path):
    for start, values in ((0, {5: 1.0, 10: 2.0, 15: 9.0}), (10, {15: 3.0})):
        board = TensorBoard(tmp_path, start)
        for step, value in values.items():
            board.scalars(step, {"loss": value})
        board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert {event.step: event.value for event in events}[15] == 3.0
