import json
import os
import tarfile
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from vilex.bulk.encode import LOCK, EncodingJob, Worker, encode_collection, on_devices
from vilex.bulk.shard import load_shard
from vilex.cli.app import app
from vilex.data.config import SourceConfig
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.pictures.load import load_image


@pytest.fixture
def shards(tmp_path, images):
    """Two tar shards of four pictures; the second holds a broken one besides."""
    out = tmp_path / "shards"
    out.mkdir()
    (images / "bad.png").write_bytes(b"no picture")
    for shard, names in enumerate((["0", "1", "2", "3"], ["4", "bad", "5", "6", "7"])):
        with tarfile.open(out / f"{shard}.tar", "w") as tar:
            for name in names:
                tar.add(images / f"{name}.png", arcname=f"{name}.png")
    (images / "bad.png").unlink()
    return out


def job(path, tmp_path, model_folder, **settings):
    return EncodingJob(SourceConfig(path=str(path)), tmp_path / "tokens", str(model_folder), **settings)


def expected(model_folder, pictures, n=75):
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    with torch.no_grad():
        return encoder(encoder.preprocess(pictures), n).tokens.half()


def test_a_folder_in_runs_of_rows(images, tmp_path, model_folder, pictures):
    count, refused = encode_collection(
        job(images, tmp_path, model_folder, num_tokens=4, rows=3, batch_size=2), on_devices(["cpu"])
    )
    assert count == 8 and not refused
    found = [load_shard(path) for path in sorted((tmp_path / "tokens").glob("tokens-*.safetensors"))]
    assert [shard.names for shard in found] == [
        ["0.png", "1.png", "2.png"],
        ["3.png", "4.png", "5.png"],
        ["6.png", "7.png"],
    ]
    tokens = torch.cat([shard.tokens for shard in found])
    assert torch.allclose(tokens.float(), expected(model_folder, pictures, 4).float(), atol=2e-3)


def test_shards_by_two_processes_and_what_is_broken_is_named(shards, tmp_path, model_folder, pictures):
    count, refused = encode_collection(job(shards, tmp_path, model_folder), on_devices(["cpu", "cpu"]))
    assert count == 8 and len(refused) == 1 and "1.tar bad: not a readable image" in refused[0]
    second = load_shard(tmp_path / "tokens" / "tokens-000001.safetensors")
    assert second.names == ["4", "5", "6", "7"]
    assert torch.allclose(second.tokens.float(), expected(model_folder, pictures[4:]).float(), atol=2e-3)


def test_what_is_there_stays_and_what_is_missing_is_made(images, tmp_path, model_folder):
    one = job(images, tmp_path, model_folder, rows=4)
    encode_collection(one, on_devices(["cpu"]))
    first, second = sorted((tmp_path / "tokens").glob("tokens-*.safetensors"))
    before = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    left = tmp_path / "tokens" / ".tokens-000001.1-2.tmp"
    left.write_bytes(b"left by a process that was killed")
    encode_collection(one, on_devices(["cpu"]))
    assert (first.stat().st_mtime_ns, second.read_bytes()) == before and not left.exists()


def test_other_settings_and_damage_are_refused(images, tmp_path, model_folder):
    encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))
    with pytest.raises(
        InputError, match=r"000000\.safetensors: made with other settings \(num_tokens None there, 4 now\)"
    ):
        encode_collection(job(images, tmp_path, model_folder, num_tokens=4), on_devices(["cpu"]))
    (tmp_path / "tokens" / "tokens-000000.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="damaged token shard"):
        encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))


def test_a_strangers_file_among_token_shards_is_named(images, tmp_path, model_folder):
    encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))
    whole = tmp_path / "tokens" / "tokens-000000.safetensors"
    (tmp_path / "tokens" / "tokens-000000 (1).safetensors").write_bytes(whole.read_bytes())
    with pytest.raises(InputError, match=r"tokens-000000 \(1\)\.safetensors: no token shard's name"):
        encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))


def test_tokens_of_no_numbers_are_not_kept(images, tmp_path, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    with torch.no_grad():
        encoder.pooler.queries.fill_(float("nan"))
    encoder.save_pretrained(tmp_path / "broken")
    with pytest.raises(InputError, match=r"tokens-000000\.safetensors: tokens are NaN or infinite"):
        encode_collection(job(images, tmp_path, tmp_path / "broken"), on_devices(["cpu"]))
    assert not list((tmp_path / "tokens").glob("tokens-*"))
    with pytest.raises(InputError, match="the encoder's tokens are NaN or infinite"):
        encoder.encode([load_image(images / "0.png")])


def test_command_line(shards, tmp_path, model_folder):
    words = ["encode", "--data", str(shards), "-o", str(tmp_path / "out"), "--model", str(model_folder), "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2
    summary = json.loads(said.stdout.splitlines()[0])
    assert summary["images"] == 8 and len(summary["refused"]) == 1


def names_and_tokens(tmp_path):
    """Tokens by name, over all shards; each name once."""
    shards = [load_shard(path) for path in sorted((tmp_path / "tokens").glob("tokens-*"))]
    names = [name for shard in shards for name in shard.names]
    assert len(names) == len(set(names))
    return dict(zip(names, torch.cat([shard.tokens for shard in shards]), strict=True))


@pytest.fixture
def encoded(monkeypatch):
    """The names that are encoded, in order."""
    names = []
    original = Worker._encode
    monkeypatch.setattr(Worker, "_encode", lambda self, one: (names.extend(one.names), original(self, one))[1])
    return names


def test_pictures_that_are_new_changed_or_mended_are_encoded_and_no_others(
    images, tmp_path, model_folder, pictures, encoded
):
    one = job(images, tmp_path, model_folder, num_tokens=4, rows=3)
    (images / "bad.png").write_bytes(b"no picture")
    count, refused = encode_collection(one, on_devices(["cpu"]))
    assert count == 8 and len(refused) == 1 and len(encoded) == 8
    encoded.clear()
    assert encode_collection(one, on_devices(["cpu"])) == (8, refused) and not encoded  # tried again, in vain
    pictures[3].save(images / "00.png")  # in front of all others
    pictures[1].save(images / "5.png")
    pictures[2].save(images / "bad.png")
    assert encode_collection(one, on_devices(["cpu"])) == (10, [])
    assert sorted(encoded) == ["00.png", "5.png", "bad.png"]
    order = {f"{i}.png": i for i in range(8)} | {"00.png": 3, "5.png": 1, "bad.png": 2}
    found = names_and_tokens(tmp_path)
    whole = expected(model_folder, pictures, 4).float()
    assert all(torch.allclose(found[name].float(), whole[i], atol=2e-3) for name, i in order.items())


def test_a_repaired_shard_and_a_new_one_in_front_are_encoded_and_no_others(shards, tmp_path, model_folder, encoded):
    whole = (shards / "1.tar").read_bytes()
    (shards / "1.tar").write_bytes(whole[:700])
    count, refused = encode_collection(job(shards, tmp_path, model_folder), on_devices(["cpu"]))
    assert count == 4 and "1.tar: broken shard" in refused[0]
    encoded.clear()
    (shards / "1.tar").write_bytes(whole)
    (shards / "00.tar").write_bytes((shards / "0.tar").read_bytes())
    count, refused = encode_collection(job(shards, tmp_path, model_folder), on_devices(["cpu"]))
    assert count == 12 and len(refused) == 1 and "1.tar bad: not a readable image" in refused[0]
    assert sorted(encoded) == ["0", "1", "2", "3", "4", "5", "6", "7"]
    encoded.clear()
    encode_collection(job(shards, tmp_path, model_folder), on_devices(["cpu"]))
    assert not encoded  # the same bytes are refused again


def test_captions_are_not_read(images, tmp_path, model_folder):
    for path in images.glob("*.txt"):
        path.rename(path.with_suffix(".json"))  # which is no JSON
    assert encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"])) == (8, [])


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_workers_decode_and_half_precision_is_close(kind, images, shards, tmp_path, model_folder, pictures):
    one = job(images if kind == "folder" else shards, tmp_path, model_folder, rows=5, batch_size=2)
    encode_collection(replace(one, workers=2, dtype="bfloat16"), on_devices(["cpu"]))
    found = names_and_tokens(tmp_path)
    tokens = torch.stack([found[f"{i}.png" if kind == "folder" else f"{i}"] for i in range(8)]).float()
    whole = expected(model_folder, pictures).float()
    assert 0 < (tokens - whole).abs().max() < 0.05 * whole.abs().max()


def test_the_process_of_the_device_decodes_nothing_where_there_are_workers(images, tmp_path, model_folder, monkeypatch):
    here = os.getpid()

    def load(path, side=None):
        assert os.getpid() != here
        return load_image(path, side)

    monkeypatch.setattr("vilex.data.indexed.load_image", load)
    one = job(images, tmp_path, model_folder)
    assert encode_collection(replace(one, workers=1), on_devices(["cpu"])) == (8, [])
    (tmp_path / "tokens" / "tokens-000000.safetensors").unlink()
    with pytest.raises(AssertionError):
        encode_collection(one, on_devices(["cpu"]))


def test_it_begins_with_what_was_found(images, tmp_path, model_folder):
    lines = []
    for _ in range(2):
        encode_collection(job(images, tmp_path, model_folder, rows=4), on_devices(["cpu"]), on_begin=lines.append)
    assert lines[0].startswith(f"{images}: 8 images, 8 with captions | 0 encoded in ")
    assert lines[0].endswith("2 token shards to make") and "| 8 encoded in" in lines[1] and "0 token shards" in lines[1]


def test_two_commands_do_not_share_a_folder(images, tmp_path, model_folder):
    (tmp_path / "tokens").mkdir()
    with FileLock(tmp_path / "tokens" / LOCK), pytest.raises(InputError, match="another command is encoding into it"):
        encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))


def test_a_failure_in_one_of_several_processes_is_one_line(images, tmp_path, model_folder):
    with pytest.raises(InputError, match="a process ended"):
        encode_collection(job(images, tmp_path, model_folder, rows=4), on_devices(["cpu", "cuda:99"]))


def test_more_tokens_than_there_are_is_said_before_the_work(images, tmp_path, model_folder, encoded):
    with pytest.raises(InputError, match="expected 1 to 75 tokens of an image, got 76"):
        encode_collection(job(images, tmp_path, model_folder, num_tokens=76), on_devices(["cpu"]))
    assert not (tmp_path / "tokens").exists()
