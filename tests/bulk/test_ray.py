"""A real Ray cluster of two workers on this machine."""

import json
import os
import signal
import tarfile
import threading
import time

import psutil
import pytest
import torch
from typer.testing import CliRunner

from vilex.bulk.encode import EncodingJob, encode_collection
from vilex.bulk.ray import on_ray
from vilex.bulk.shard import load_shard
from vilex.cli.app import app
from vilex.data.config import SourceConfig
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError


def map_workers():
    """The processes of Ray's workers that encode."""
    names = {p.pid: p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]}
    return [pid for pid, words in names.items() if words[0].startswith("ray::") and "RayWorker" in words[0]]


def test_a_worker_killed_in_the_middle_loses_nothing(images, tmp_path, model_folder, pictures, monkeypatch):
    for i in range(8):
        with tarfile.open(tmp_path / f"{i}.tar", "w") as tar:
            tar.add(images / f"{i}.png", arcname=f"{i}.png")
    out, killed = tmp_path / "tokens", []
    monkeypatch.chdir(tmp_path)
    data = "pipe:sleep 1; cat {0..7}.tar"  # a second a shard: time enough to be killed in

    def kill_one():
        while not list(out.glob("*.safetensors")):
            time.sleep(0.02)
        killed.append(map_workers()[0])
        os.kill(killed[0], signal.SIGKILL)
        killed.append(len(list(out.glob("*.safetensors"))))

    killer = threading.Thread(target=kill_one)
    killer.start()
    words = ["encode", "--data", data, "-o", "tokens", "--model", str(model_folder), "--ray", "local"]
    said = CliRunner().invoke(app, [*words, "--processes", "2", "--json"])
    killer.join()
    assert said.exit_code == 0, said.output
    summary = json.loads(said.stdout.splitlines()[-1])
    assert summary["images"] == 8 and not summary["refused"]
    assert killed[1] < 8 and not psutil.pid_exists(killed[0])
    shards = [load_shard(path) for path in sorted(out.glob("tokens-*"))]
    assert [shard.names for shard in shards] == [[str(i)] for i in range(8)]
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    with torch.no_grad():
        expected = encoder(encoder.preprocess(pictures)).tokens
    assert torch.allclose(torch.cat([shard.tokens for shard in shards]).float(), expected, atol=2e-3)


def test_no_cluster_is_said(images, tmp_path, model_folder):
    job = EncodingJob(SourceConfig(path=str(images)), tmp_path / "tokens", str(model_folder))
    with pytest.raises(InputError, match=r"--ray 127\.0\.0\.1:1: no cluster answers"):
        encode_collection(job, on_ray("127.0.0.1:1"))
