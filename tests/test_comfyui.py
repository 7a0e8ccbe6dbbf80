"""The ComfyUI nodes, against its documented CLIP interface; ComfyUI itself cannot be installed as a package.

`Clip` stands for ComfyUI's object over a real tiny text encoder: `tokenize` gives, for each text encoder, batches of
(id or embedding, weight); `encode_from_tokens_scheduled` gives [[features, {"pooled_output": ...}]].
"""

import importlib

import numpy as np
import pytest
import torch

from vilex.errors import InputError
from vilex.prompt import parse
from vilex.t2i import load_t2i

nodes = importlib.import_module("integrations.comfyui.nodes")


class Clip:
    def __init__(self, t2i):
        self.t2i, self.frame = t2i, t2i.frame

    def tokenize(self, text):
        ids = self.t2i.tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
        return {"l": [[(i, 1.0) for i in ids]]}

    def encode_from_tokens_scheduled(self, tokens):
        (batch,) = tokens["l"]
        assert len(batch) == 77 and all(weight == 1.0 for _, weight in batch)
        ids = torch.tensor([[0 if isinstance(token, torch.Tensor) else token for token, _ in batch]])
        rows = [token if isinstance(token, torch.Tensor) else self.t2i.embed(torch.tensor(token)) for token, _ in batch]
        return [[self.t2i.encoders[0](ids, torch.stack(rows)[None])[0], {"pooled_output": None}]]


@pytest.fixture
def clip(sd_folder, monkeypatch):
    monkeypatch.setitem(nodes.WIDTHS, "l", 32)  # the tiny model's
    return Clip(load_t2i(sd_folder[2]))


def test_from_a_picture_to_conditioning(clip, model_folder, pictures):
    (encoder,) = nodes.LoadViLex().load(str(model_folder))
    image = torch.from_numpy(np.array(pictures[0])).float()[None] / 255
    (tokens,) = nodes.EncodeImage().encode(encoder, image, 4)
    assert tokens.shape == (4, 32)
    assert torch.allclose(tokens, encoder(encoder.preprocess(pictures[:1]), 4).tokens[0], atol=1e-6)
    prompt, alone = nodes.ComposePrompt().compose(clip, "the <a> in snow", a=tokens)
    named = {"a": tokens}
    for found, text in ((prompt, "the <a:4> in snow"), (alone, "<a:4>")):
        expected = clip.t2i.read([parse(text)], [named]).sequence
        assert torch.allclose(found[0][0], expected, atol=1e-5)


def test_words_alone_are_the_tokenizers_own(clip):
    composed = nodes.compose_tokens(clip, parse("a photo of the red cat").parts, {})
    assert composed == clip.tokenize("a photo of the red cat")


def test_budgets_and_mistakes(clip):
    tokens = torch.randn(6, 32)
    composed = nodes.compose_tokens(clip, parse("<a:2> cat").parts, {"a": tokens})["l"][0]
    assert torch.equal(torch.stack([token for token, _ in composed[1:3]]), tokens[:2])
    assert composed[3] == clip.tokenize("cat")["l"][0][1]
    for text, images, said in (
        ("<b>", {"a": tokens}, "<b> is not connected"),
        ("<a:9>", {"a": tokens}, "has 6 tokens, got a budget of 9"),
        ("<a>", {"a": torch.randn(6, 5)}, "width 5, the text encoders 32"),
        ("<a>", {"a": torch.randn(76, 32)}, "76 tokens, at most 75 fit"),
    ):
        with pytest.raises(InputError, match=said):
            nodes.compose_tokens(clip, parse(text).parts, images)


def test_nodes_declare_what_comfyui_asks_for():
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert hasattr(node, node.FUNCTION) and node.RETURN_TYPES and node.CATEGORY == "vilex"
        assert all(isinstance(kinds, tuple) for group in node.INPUT_TYPES().values() for kinds in group.values())
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
