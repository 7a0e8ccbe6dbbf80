import json

import pytest

from tests.hub_server import commands_at_hub, serve
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.errors import InputError
from vilex.hub.card import card_for
from vilex.hub.public import public_config, public_files, without_paths
from vilex.lexicon import VisualLexicon


@pytest.fixture
def encoder(tmp_path, model_folder):
    """As `vilex train` leaves it on someone's machine: with the paths of it."""
    own = ViLexEncoder.from_pretrained(model_folder)
    own.config.training = {
        "steps": 7,
        "data": "/home/me/scenes",
        "config": {
            "model": {"base": str(tmp_path / "base"), "tower": "google/siglip@main", "encoder": "runs/before/encoder"},
            "data": {"path": "images", "sources": [{"path": "hf:someone/data", "weight": 2.0}, {"path": "pipe:cat x"}],
                     "validation": "https://me:secret@host/x.tar"},
            "run": {"out": "~/runs", "steps": 7},
        },
    }  # fmt: skip
    own.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_pushed_over_http_and_why_it_could_not(tmp_path, encoder):
    remote = tmp_path / "remote"
    remote.mkdir()
    (encoder / "notes.log").write_text("mine")
    words = ["push", encoder, "me/it", "--private", "--revision", "v2"]
    named = [*words, "--base", "someone/base@v1"]
    with serve(remote, "me/it", "v2") as hub:
        ((status, _, said),) = commands_at_hub(tmp_path, words, HF_ENDPOINT=hub.address)
        assert status == 2 and "give its id on the hub with --base" in said and not hub.asked
        done, again, over = commands_at_hub(tmp_path, named, named, [*named, "--overwrite"], HF_ENDPOINT=hub.address)
    assert again[0] == 2 and "me/it: has README.md already; --overwrite makes a new commit" in again[2]
    assert over[0] == 0, over[2]
    assert done[0] == 0 and f"{hub.address}/me/it/commit/" in done[1], done[2]
    created = dict(hub.asked)["api/repos/create"]
    assert (created["organization"], created["name"], created["visibility"]) == ("me", "it", "private")
    assert "api/models/me/it/branch/v2" in dict(hub.asked)
    assert sorted(path.name for path in remote.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (remote / "model.safetensors").read_bytes() == (encoder / "model.safetensors").read_bytes()
    for name in ("README.md", "config.json"):
        text = (remote / name).read_text()
        assert not any(
            private in text for private in (str(tmp_path), "/home", "~/runs", "runs/before", "secret", "pipe:")
        )
    config = ViLexConfig.from_pretrained(remote)
    assert config.base_model == "someone/base@v1" and config.training["config"]["run"] == {"steps": 7}
    assert config.training["config"]["model"] == {"tower": "google/siglip@main"}
    assert config.training["config"]["data"] == {"sources": [{"path": "hf:someone/data", "weight": 2.0}, {}]}
    ((status, _, said),) = commands_at_hub(tmp_path, named, HF_ENDPOINT=hub.address)  # nobody listens there any more
    assert status == 2 and "error: me/it: the hub was not reached (" in said
    assert said.strip().count("\n") == 0


def test_what_is_published_is_what_draws(tmp_path, encoder, sd_folder, pictures):
    """A repository's files, written down again, are the same encoder."""
    copy = tmp_path / "copy"
    for name, content in public_files(encoder, "someone/base").items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    a, b = (VisualLexicon.from_pretrained(folder, sd_folder[1]) for folder in (encoder, copy))
    assert a.encoder_sha256 == b.encoder_sha256 and a.encode(pictures[:1]).equal(b.encode(pictures[:1]))


@pytest.mark.parametrize("base", ["./base", "/base", "base", "a/b/c", "hub id", "../base", ""])
def test_a_base_that_is_no_hub_id_is_refused(encoder, base):
    with pytest.raises(InputError, match=r"--base .*: no hub id; expected OWNER/NAME"):
        public_config(encoder, base)


def test_a_base_inside_the_folder_goes_with_it(encoder):
    (encoder / "t2i" / "unet").mkdir(parents=True)
    (encoder / "LICENSE").write_text("Apache-2.0")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"base_model": "t2i"}))
    (encoder / "t2i" / "unet" / "config.json").write_text('{"_name_or_path": "/home/me/unet", "layers": 2}')
    files = public_files(encoder)
    assert json.loads(files["config.json"])["base_model"] == "t2i" and files["LICENSE"] == encoder / "LICENSE"
    assert "| frozen model | t2i, in this repository |" in card_for(encoder, "me/it")
    assert json.loads(files["t2i/unet/config.json"]) == {"layers": 2}


def test_plain_values_stay():
    value = {"a": [1, "red / blue", None, 0.5], "b": {"c": "google/siglip"}, "path": "hf:some/data", "out": ""}
    assert without_paths(value) == value
