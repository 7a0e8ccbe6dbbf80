from tests.hub_server import at_hub, serve
from vilex.encoder import ViLexEncoder


def test_pushed_over_http_and_why_it_could_not(tmp_path, model_folder):
    ViLexEncoder.from_pretrained(model_folder).save_pretrained(tmp_path / "encoder")
    (tmp_path / "remote").mkdir()
    words = ["-m", "vilex", "push", tmp_path / "encoder", "me/it", "--private", "--revision", "v2"]
    with serve(tmp_path / "remote", "me/it", "v2") as hub:
        done = at_hub(tmp_path, *words, HF_ENDPOINT=hub.address)
    assert done.returncode == 0 and f"{hub.address}/me/it/commit/" in done.stdout, done.stderr
    created = dict(hub.asked)["api/repos/create"]
    assert (created["organization"], created["name"], created["visibility"]) == ("me", "it", "private")
    assert "api/models/me/it/branch/v2" in dict(hub.asked)
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "remote").iterdir()) == names
    for name in names:
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "encoder" / name).read_bytes()
    refused = at_hub(tmp_path, *words, HF_ENDPOINT=hub.address)  # nobody listens there any more
    assert refused.returncode == 2 and "error: me/it: the hub refused (" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0
