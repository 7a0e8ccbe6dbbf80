import json
import tarfile

import pytest
import torch
from typer.testing import CliRunner

from vilex.bulk.encode import Job, encode_collection, load_shard, on_devices
from vilex.cli.app import app
from vilex.data.config import SourceConfig
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError


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
    return Job(SourceConfig(path=str(path)), tmp_path / "tokens", str(model_folder), **settings)


def expected(model_folder, pictures, n=75):
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    with torch.no_grad():
        return encoder(encoder.preprocess(pictures), n).tokens.half()


def test_a_folder_in_runs_of_rows(images, tmp_path, model_folder, pictures):
    count, refused = encode_collection(
        job(images, tmp_path, model_folder, num_tokens=4, rows=3, batch_size=2), on_devices(["cpu"])
    )
    assert count == 8 and not refused
    found = [load_shard(path) for path in sorted((tmp_path / "tokens").iterdir())]
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
    first, second = sorted((tmp_path / "tokens").iterdir())
    before = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    (tmp_path / "tokens" / "tokens-000001.1.tmp").write_bytes(b"left by a process that was killed")
    encode_collection(one, on_devices(["cpu"]))
    assert (first.stat().st_mtime_ns, second.read_bytes()) == before


def test_other_settings_and_damage_are_refused(images, tmp_path, model_folder):
    encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))
    with pytest.raises(InputError, match=r"tokens-000000\.safetensors: made with other settings"):
        encode_collection(job(images, tmp_path, model_folder, num_tokens=4), on_devices(["cpu"]))
    (tmp_path / "tokens" / "tokens-000000.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="damaged token shard"):
        encode_collection(job(images, tmp_path, model_folder), on_devices(["cpu"]))


def test_command_line(shards, tmp_path, model_folder):
    words = ["encode", "--data", str(shards), "-o", str(tmp_path / "out"), "--model", str(model_folder), "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2
    summary = json.loads(said.stdout.splitlines()[0])
    assert summary["images"] == 8 and len(summary["refused"]) == 1
