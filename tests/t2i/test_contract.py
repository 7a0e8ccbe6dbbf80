"""What a family must have, and that a token is what a lookup gives."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2Model

from benchmarks.words import qwen_words
from tests.families import FAMILIES as TINY
from vilex.encoder.config import ViLexConfig
from vilex.encoder.pooler import AttentionPooler
from vilex.prompt import parse
from vilex.t2i import FAMILIES, load_t2i
from vilex.t2i.chat import MARK, ChatReader, template_frame
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder


def test_a_family_without_a_verb_cannot_be_made():
    class Silent(DiffusersT2I):
        def setup(self):
            pass

    with pytest.raises(TypeError, match=r"abstract methods '?predict'?, '?read'?"):
        Silent({}, {}, {})
    assert not any(family.__abstractmethods__ for family in FAMILIES)


@pytest.fixture
def gemma():
    """A language model whose lookup multiplies by the root of its width."""
    torch.manual_seed(1)
    words = qwen_words()
    model = Gemma2Model(
        Gemma2Config(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=8,
        )
    ).requires_grad_(False).eval()  # fmt: skip
    return TextEncoder(model, template_frame(words, f"say:{MARK}<|im_end|>", 24), native=True)


def test_a_token_is_what_the_lookup_gives(gemma):
    ids = torch.tensor(gemma.frame.ids("cat in snow"))
    assert torch.equal(gemma.lookup[ids], gemma.embed(ids[None])[0]) and gemma.width == 16
    assert torch.allclose(gemma.lookup, gemma.table.weight * 4)
    plain = gemma.model(torch.tensor([[*gemma.frame.before, *ids.tolist(), *gemma.frame.after]]))[0]
    reader = ChatReader(gemma, layers=(-1,), trimmed=True)
    prompt, tokens = parse(f"<v:{len(ids)}>"), gemma.lookup[ids]
    sequence, lengths = reader.read([prompt], [{"v": tokens}])
    assert lengths.tolist() == [plain.shape[1]] and torch.allclose(sequence, plain, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "scale"), [("sana", 32**0.5), ("lumina2", 32**0.5), ("prx", 1.0)])
def test_vocabulary_words_and_poolers_agree_on_what_a_token_is(name, scale, dtype, tmp_path):
    """Gemma 2's lookup multiplies by the root of its width, T5Gemma's model does so behind it."""
    t2i = load_t2i(TINY[name].make(tmp_path / name), dtype)
    ids = t2i.frame.ids("cat dog in snow")
    looked_up = t2i.text_encoder.get_input_embeddings()(torch.tensor(ids))
    assert torch.equal(t2i.vocabulary[ids], looked_up) and torch.equal(t2i.lookups[0], t2i.vocabulary)
    assert torch.equal(t2i.word("cat"), looked_up[0])
    rows, words = t2i.text_encoder.get_input_embeddings().weight.float(), t2i.vocabulary.float()
    assert words.norm(dim=1).mean().item() == pytest.approx(scale * rows.norm(dim=1).mean().item(), rel=0.01)
    pooler = AttentionPooler(ViLexConfig(width=t2i.width, num_tokens=64, blocks=1, heads=1), patch_width=8)
    pooler.match_vocabulary(*t2i.lookups)
    with torch.no_grad():
        tokens = pooler(torch.randn(4, 9, 8), 64)
    assert tokens.norm(dim=-1).mean().item() == pytest.approx(words.norm(dim=1).mean().item(), rel=0.3)


def test_a_reader_joins_layers_drops_and_trims(gemma):
    prompts, none = [parse("cat"), parse("a red dog in the snow")], [{}, {}]
    whole, ends = ChatReader(gemma, layers=(1, -1)).read(prompts, none)
    assert whole.shape == (2, 24, 32)
    reader = ChatReader(gemma, layers=(1, -1), dropped=3, trimmed=True)
    kept, lengths = reader.read(prompts, none)
    assert torch.equal(lengths, ends - 3) and kept.shape[1] == int(lengths.max())
    for row in range(2):
        own = slice(0, int(lengths[row]))
        assert torch.allclose(kept[row, own], whole[row, 3:][own], atol=1e-5)


def test_a_prompt_of_nothing_may_have_another_frame(gemma):
    frame = template_frame(gemma.frame.tokenizer, MARK + "<|im_end|>", 24)
    reader = ChatReader(gemma, nothing=frame)
    (empty, words) = reader.read([parse(""), parse("cat")], [{}, {}])[1].tolist()
    assert empty == 1 and words == len(gemma.frame.before) + len(gemma.frame.ids("cat")) + 1


def test_latents_and_back(tmp_path):
    """x0 is near mean 0 by what each codec knows of its auto-encoder, and back it is what the decoder was given."""
    for name in ("sd3", "flux"):
        t2i = load_t2i(TINY[name].make(tmp_path / name))
        latents = torch.randn(2, *t2i.latent_shape)
        x0 = t2i.codec.normalised(latents)
        assert torch.allclose(t2i.codec.restored(x0), latents, atol=1e-5)
        config = t2i.vae.config
        assert torch.allclose(x0, (latents - config.shift_factor) * config.scaling_factor)
