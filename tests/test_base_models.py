"""A lexicon over a base model as people have it: in few bits, with LoRAs, in one file, on another device."""

import itertools
import json
import warnings

import numpy as np
import pytest

from tests import single_files
from tests.drawings import same
from tests.t2i.test_lora import make_lora
from vilex.errors import InputError
from vilex.hub.folder import EMBEDDED, file_hash
from vilex.lexicon import VisualLexicon


def drawn(lexicon, **how):
    return lexicon.generate("a cat", steps=2, **how)[0]


@pytest.fixture(scope="module")
def plain(model_folder):
    return drawn(VisualLexicon.from_pretrained(model_folder))


def test_a_lora_by_its_weight(model_folder, sd_folder, tmp_path, plain):
    file = make_lora(sd_folder[1], tmp_path / "lora")
    one, again, half, off = (
        drawn(VisualLexicon.from_pretrained(model_folder, loras=[lora]))
        for lora in (file, (file, 1.0), (str(file), 0.5), (file, 0))
    )
    assert same(one, again) and same(off, plain)
    assert not any(same(*pair, within=0) for pair in itertools.combinations((one, half, plain), 2))


def test_one_file_draws_as_its_folder_and_says_what_is_not_known(model_folder, sd_folder, tmp_path, plain):
    file = single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors")
    with pytest.warns(UserWarning, match="whether the encoder was trained on these weights is not known"):
        lexicon = VisualLexicon.from_pretrained(model_folder, checkpoint=file)
    assert same(drawn(lexicon), plain) and lexicon.base_sha256 == {"sd.safetensors": file_hash(file)}


@pytest.mark.parametrize("offload", [None, "model"])
def test_eight_bits_draw_wherever_their_parts_wait(model_folder, plain, offload):
    lexicon = VisualLexicon.from_pretrained(model_folder, offload=offload, quantize="int8")
    assert 0 < np.abs(np.asarray(drawn(lexicon)).astype(int) - np.asarray(plain)).mean() < 8


def test_a_lexicon_moves_unless_it_is_offloaded(model_folder, plain):
    lexicon = VisualLexicon.from_pretrained(model_folder)
    assert lexicon.to("cpu") is lexicon and same(drawn(lexicon), plain)
    with pytest.raises(InputError, match="device: no device 'cuda:99'"):
        lexicon.to("cuda:99")
    with pytest.raises(InputError, match="the frozen model is offloaded"):
        VisualLexicon.from_pretrained(model_folder, offload="model").to("cpu")


def test_the_command_line_keeps_what_it_drew_with(tmp_path, capsys):
    from vilex.cli.app import app

    file = make_lora(EMBEDDED["nano"] / "t2i", tmp_path / "lora")
    app(
        ["generate", "a cat", "--steps", "1", "--quantize", "int8", "--lora", f"{file}:0.5", "-o", str(tmp_path)],
        standalone_mode=False,
    )
    about = json.loads((tmp_path / "manifest.json").read_text())
    assert about["quantize"] == "int8" and "checkpoint" not in about
    assert about["loras"] == [{"file": str(file), "weight": 0.5, "sha256": file_hash(file)}]


def test_visitors_of_the_app_do_not_learn_where_files_lie(tmp_path):
    from vilex.cli.demo import without_paths

    (tmp_path / "x.safetensors").touch()
    file = str(tmp_path / "x.safetensors")
    about = {"model": str(tmp_path), "base": "owner/name", "checkpoint": file, "loras": [{"file": file, "weight": 1.0}]}
    assert without_paths(about) == {
        "model": tmp_path.name, "base": "owner/name", "checkpoint": "x.safetensors",
        "loras": [{"file": "x.safetensors", "weight": 1.0}],
    }  # fmt: skip


def test_what_cannot_be_is_one_line(model_folder, tmp_path):
    for how, message in (
        ({"quantize": "int8", "offload": "sequential"}, "quantised layers cannot wait one by one; use model"),
        ({"quantize": "int2"}, "quantize 'int2': expected int8 or nf4"),
        ({"loras": [tmp_path / "none.safetensors"]}, "none.safetensors: no such file"),
        ({"loras": [(tmp_path / "none.safetensors", "much")]}, "expected a number|no such file"),
        ({"loras": 5}, "loras: expected a list of files"),
        ({"checkpoint": 7}, "checkpoint: expected a file, got 7"),
        ({"checkpoint": tmp_path / "none.safetensors"}, "none.safetensors: no such file"),
    ):
        with warnings.catch_warnings(), pytest.raises(InputError, match=message):
            VisualLexicon.from_pretrained(model_folder, **how)
