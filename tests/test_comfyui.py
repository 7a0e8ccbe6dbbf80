"""The ComfyUI nodes, against its CLIP interface; ComfyUI itself cannot be installed as a package.

`Clip` stands for ComfyUI's object over real tiny text encoders. Its tokenizer does what `comfy/sd1_clip.py` does:
weights in brackets, chunks of 77 with [BOS] and [EOS] of their own, padding; encoders in the order that ComfyUI's
tokenizers name them, `g` before `l`.

By hand, `compose` was tried on ComfyUI's own SDXL and SD3 tokenizers (Comfy-Org/ComfyUI at a125cd84): weights, three
chunks of 77, and every image token's columns were those that ComfyUI gives a prompt with words in their places.
"""

import importlib
import inspect
import re
import sys
import types
import typing

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from tests import families
from vilex.errors import InputError
from vilex.prompt import parse
from vilex.t2i import load_t2i
from vilex.t2i.text import shares
from vilex.tokens import save_tokens

compose = importlib.import_module("integrations.comfyui.compose")
nodes = importlib.import_module("integrations.comfyui.nodes")

CHUNK = 77


class Clip:
    """encoders: vilex's by ComfyUI's names, in ComfyUI's order."""

    def __init__(self, **encoders):
        self.encoders = encoders

    def tokenize(self, text):
        return {name: chunks(encoder.frame.tokenizer, text) for name, encoder in self.encoders.items()}

    def encode_from_tokens_scheduled(self, tokens):
        """Of one text encoder and weights of 1: [[features [1, L, d], {"pooled_output": ...}]]."""
        ((name, chunks),) = tokens.items()
        assert all(len(chunk) == CHUNK and all(weight == 1.0 for _, weight in chunk) for chunk in chunks)
        encoder = self.encoders[name]
        features = []
        for chunk in chunks:
            ids = torch.tensor([[0 if isinstance(token, torch.Tensor) else token for token, _ in chunk]])
            rows = [one if isinstance(one, torch.Tensor) else encoder.embed(torch.tensor(one)) for one, _ in chunk]
            features.append(encoder(ids, torch.stack(rows)[None])[0])
        return [[torch.cat(features, 1), {"pooled_output": features[0][:, 0], "start_percent": 0.0}]]


def chunks(tokenizer: CLIPTokenizer, text: str) -> list[list[tuple[int, float]]]:
    """[(id, weight)] in chunks; a segment of one weight with fewer than 8 tokens is never parted."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    found = [[(start, 1.0)]]
    for segment in re.split(r"(\([^()]*\))", text):
        words, weight = segment, 1.0
        if bracketed := re.fullmatch(r"\((.*?)(?::([\d.]+))?\)", segment):
            words, weight = bracketed.group(1), float(bracketed.group(2) or 1.1)
        ids = [(one, weight) for one in tokenizer(words, verbose=False).input_ids[1:-1]]
        while len(ids) + len(found[-1]) > CHUNK - 1:
            room = CHUNK - 1 - len(found[-1]) if len(ids) >= 8 else 0
            found[-1] += ids[:room]
            ids = ids[room:]
            found.append([(start, 1.0)])
        found[-1] += ids
    for chunk in found:
        chunk.append((end, 1.0))
        chunk += [(tokenizer.pad_token_id, 1.0)] * (CHUNK - len(chunk))
    return found


@pytest.fixture
def clip(sd_folder, monkeypatch):
    monkeypatch.setitem(compose.WIDTHS, "l", 32)  # the tiny model's
    return Clip(l=load_t2i(sd_folder[2]).encoders[0])


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return load_t2i(families.stable_diffusion_xl(tmp_path_factory.mktemp("base") / "xl"))


@pytest.fixture
def clips(xl, monkeypatch):
    """SDXL's: ComfyUI names the second text encoder first."""
    monkeypatch.setitem(compose.WIDTHS, "l", 32)
    monkeypatch.setitem(compose.WIDTHS, "g", 48)
    return Clip(g=xl.encoders[1], l=xl.encoders[0])


def images_in(tokens):
    """[(embedding, weight)] of one text encoder, in order."""
    return [entry for chunk in tokens for entry in chunk if isinstance(entry[0], torch.Tensor)]


def test_from_a_picture_to_conditioning(clip, sd_folder, model_folder, pictures):
    (encoder,) = nodes.LoadViLex().load(str(model_folder))
    image = torch.from_numpy(np.array(pictures[0])).float()[None] / 255
    (tokens,) = nodes.EncodeImage().encode(encoder, image, 4)
    assert tokens.shape == (1, 4, 32)
    assert torch.allclose(tokens, encoder(encoder.preprocess(pictures[:1]), 4).tokens, atol=1e-6)
    prompt, alone = nodes.ComposePrompt().compose(clip, "the <a> in snow", a=tokens)
    for found, text in ((prompt, "the <a:4> in snow"), (alone, "<a:4>")):
        expected = load_t2i(sd_folder[2]).read([parse(text)], [{"a": tokens[0]}]).sequence
        assert torch.allclose(found[0][0], expected, atol=1e-5)


def test_a_batch_of_pictures_is_a_batch_of_conditionings(clip, model_folder, pictures):
    (encoder,) = nodes.LoadViLex().load(str(model_folder))
    size = pictures[0].size
    image = torch.stack([torch.from_numpy(np.array(one.resize(size))) for one in pictures[:3]]).float() / 255
    (tokens,) = nodes.EncodeImage().encode(encoder, image, 4)
    assert tokens.shape == (3, 4, 32)
    one = torch.randn(1, 2, 32)
    both = nodes.ComposePrompt().compose(clip, "<a> and <b>", a=tokens, b=one)
    for i in range(3):
        single = nodes.ComposePrompt().compose(clip, "<a> and <b>", a=tokens[i : i + 1], b=one)
        for batch, alone in zip(both, single, strict=True):
            assert batch[0][0].shape == (3, 77, 32) and torch.equal(batch[0][0][i : i + 1], alone[0][0])
            assert torch.equal(batch[0][1]["pooled_output"][i : i + 1], alone[0][1]["pooled_output"])
            assert batch[0][1]["start_percent"] == 0.0
    with pytest.raises(InputError, match="batches of 2 and 3; give equal batches"):
        nodes.ComposePrompt().compose(clip, "<a> and <b>", a=tokens, b=torch.randn(2, 2, 32))


def test_each_text_encoder_gets_its_own_columns_whatever_their_order(clips, xl):
    tokens = torch.randn(1, 5, 80)
    assert list(clips.tokenize("")) == ["g", "l"]
    (composed,) = compose.compose(clips, "the <a:3> cat", {"a": tokens})
    own = shares([{"a": tokens[0, :3]}], xl.encoders)
    for name, (share,) in (("l", own[0]), ("g", own[1])):
        for side in (composed.prompt, composed.alone):
            assert torch.equal(torch.stack([row for row, _ in images_in(side[name])]), share["a"])


@pytest.mark.parametrize(
    ("names", "start"),
    [
        ({"g": 1280, "l": 768}, {"l": 0, "g": 768}),
        ({"g": 1280, "l": 768, "t5xxl": 4096}, {"l": 0, "g": 768, "t5xxl": 2048}),
        ({"l": 768, "t5xxl": 4096}, {"l": 0, "t5xxl": 768}),
        ({"h": 1024}, {"h": 0}),
    ],
    ids=["sdxl", "sd3", "flux", "sd2"],
)
def test_columns_at_the_real_widths(names, start):
    found = compose._columns({name: [] for name in names}, {"a": sum(names.values())})
    assert found == {name: slice(start[name], start[name] + width) for name, width in names.items()}


def test_a_part_of_sd3_that_is_not_loaded_shifts_no_other():
    """ComfyUI draws SD3 without T5, too; an image token is still as wide as all three."""
    found = compose._columns({"g": [], "l": []}, {"a": 6144})
    assert found == {"l": slice(0, 768), "g": slice(768, 2048)}


def test_words_alone_are_the_tokenizers_own(clip):
    (composed,) = compose.compose(clip, "a (photo:1.2) of the red cat", {})
    assert composed.prompt == clip.tokenize("a (photo:1.2) of the red cat") and composed.alone == clip.tokenize("")


def test_weights_of_words_and_images(clips):
    tokens = {"a": torch.randn(1, 4, 80), "b": torch.randn(1, 2, 80)}
    (composed,) = compose.compose(clips, "a (red:1.2) (<a:4>:1.3) and <b> (in <b>:0.5)", tokens)
    for name in ("l", "g"):
        assert [weight for _, weight in images_in(composed.prompt[name])] == [1.3] * 4 + [1.0] * 2 + [0.5] * 2
        assert [weight for _, weight in images_in(composed.alone[name])] == [1.3] * 4 + [1.0] * 2 + [0.5] * 2
        words = [entry for entry in composed.prompt[name][0] if not isinstance(entry[0], torch.Tensor)]
        expected = clips.tokenize("a (red:1.2) and (in:0.5)")[name][0]
        assert words[:6] == expected[:6]


def test_long_prompts_have_the_tokenizers_chunks(clips):
    tokens = {"a": torch.randn(1, 20, 80)}
    words = "red cat in snow " * 17
    for text, place in ((f"{words} <a:20> {words}", 1), (f"<a:20> {words} {words}", 0)):
        (composed,) = compose.compose(clips, text, tokens)
        plain = clips.tokenize(text.replace("<a:20>", "the " * 19 + "the"))
        for name in ("l", "g"):
            assert len(composed.prompt[name]) == 3 and {len(one) for one in composed.prompt[name]} == {77}
            rows = images_in(composed.prompt[name])
            assert len(rows) == 20 and isinstance(composed.prompt[name][place][10][0], torch.Tensor)
            for chunk, expected in zip(composed.prompt[name], plain[name], strict=True):
                for (token, weight), (other, its) in zip(chunk, expected, strict=True):
                    assert weight == its and (isinstance(token, torch.Tensor) or token == other)
            assert [row.tolist() for row, _ in rows] == tokens["a"][0, :, compose._columns(
                clips.tokenize(""), {"a": 80})[name]].tolist()  # fmt: skip


def test_budgets_and_mistakes(clip):
    tokens = torch.randn(1, 6, 32)
    (composed,) = compose.compose(clip, "<a:2> cat", {"a": tokens})
    assert torch.equal(torch.stack([token for token, _ in composed.prompt["l"][0][1:3]]), tokens[0, :2])
    assert composed.prompt["l"][0][3] == clip.tokenize("cat")["l"][0][1]
    for text, images, said in (
        ("<b>", {"a": tokens}, "<b> is not connected"),
        ("a cat", {"a": tokens}, "'a' is connected, but the prompt has no <a>"),
        ("<a:9>", {"a": tokens}, "has 6 tokens, got a budget of 9"),
        ("<a>", {"a": torch.randn(1, 6, 5)}, "width 5, the text encoders l 32"),
        (f"<a> {' '.join(compose.PLACEHOLDERS)}", {"a": tokens}, "leave one of them out"),
    ):
        with pytest.raises(InputError, match=said):
            compose.compose(clip, text, images)


def test_nodes_take_what_they_declare_and_give_as_much_as_they_say():
    """ComfyUI calls FUNCTION with the inputs by name, and gives out one socket for each of RETURN_TYPES."""
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        declared = node.INPUT_TYPES()
        taken = inspect.signature(getattr(node(), node.FUNCTION))
        taken.bind(**{name: None for group in declared.values() for name in group})
        taken.bind(**dict.fromkeys(declared["required"]))
        given = typing.get_args(typing.get_type_hints(getattr(node, node.FUNCTION))["return"])
        given = () if getattr(node, "OUTPUT_NODE", False) else given  # which give what is shown, not what goes on
        assert len(node.RETURN_TYPES) == len(given) == len(getattr(node, "RETURN_NAMES", given))
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()


def test_tokens_go_to_files_and_come_back(tmp_path, monkeypatch):
    comfy = types.ModuleType("folder_paths")
    comfy.get_output_directory = lambda: str(tmp_path)
    monkeypatch.setitem(sys.modules, "folder_paths", comfy)
    file, tokens = str(tmp_path / "t.safetensors"), torch.randn(2, 3, 8)
    said = nodes.SaveTokens().save(tokens, "t.safetensors", "cat")
    assert said["ui"]["text"] == ["2 image(s) -> t.safetensors"]
    assert torch.equal(nodes.LoadTokens().load(file, "")[0], tokens)
    assert torch.equal(nodes.LoadTokens().load(file, "cat-001")[0], tokens[1:])
    before = nodes.LoadTokens.IS_CHANGED(file, "")
    save_tokens(file, {"a": tokens[0], "b": tokens[1, :2]}, {})
    assert nodes.LoadTokens.IS_CHANGED(file, "") != before
    for call, message in (
        (lambda: nodes.SaveTokens().save(tokens, "t.safetensors", "cat"), "exists; give another name"),
        (lambda: nodes.SaveTokens().save(tokens, "../t.safetensors", "cat"), "in the output folder"),
        (lambda: nodes.SaveTokens().save(tokens, "", "cat"), "expected a name that ends in .safetensors"),
        (lambda: nodes.SaveTokens().save(tokens, "\0.safetensors", "cat"), "file: expected Unicode text without NUL"),
        (lambda: nodes.SaveTokens().save(tokens, "no/such/t.safetensors", "cat"), "tokens cannot be written"),
        (lambda: nodes.SaveTokens().save(tokens, "/tmp/vilex-t.safetensors", "cat"), "in the output folder"),
        (lambda: nodes.LoadTokens().load(file, "dog"), "holds no image 'dog', only a, b"),
        (lambda: nodes.LoadTokens().load(file, ""), "images of 2 and 3 tokens make no batch; name one of a, b"),
        (lambda: nodes.LoadTokens().load(str(tmp_path / "none.safetensors"), ""), "no such token file"),
    ):
        with pytest.raises(InputError, match=message):
            call()
