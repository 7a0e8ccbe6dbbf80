"""Dropout on the residual branches alone, and low-rank updates: against a second computation."""

import copy

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GemmaConfig, GemmaForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.understand import small
from vilex.errors import InputError
from vilex.understand.lora import add_lora, has_lora, merge_lora
from vilex.understand.residual_dropout import ResidualDropout

IDS = torch.tensor([[2, 8, 9, 10, 11]])


def language_model(kind):
    torch.manual_seed(0)
    if kind == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(vocab_size=50, **small.TEXT, sliding_window=16))
    else:
        model = GemmaForCausalLM(GemmaConfig(vocab_size=50, **small.TEXT))
    small._stir(model)
    return model.train()


def mask(seed, place, shape, rate):
    generator = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63)
    return (torch.rand(shape, generator=generator) >= rate) / (1 - rate)


def by_hand(model, rate, seed):
    """The layers as big_vision's `ppp/gemma.py` has them, written out."""
    inner = model.model
    x = inner.embed_tokens(IDS)
    positions = torch.arange(IDS.shape[1])[None]
    rotary = inner.rotary_emb(x, positions)
    ahead = torch.full((5, 5), float("-inf")).triu(1)[None, None]
    for i, layer in enumerate(inner.layers):
        own = hasattr(layer, "post_feedforward_layernorm")
        read = layer.self_attn(layer.input_layernorm(x), position_embeddings=rotary, attention_mask=ahead)[0]
        if own:
            read = layer.post_attention_layernorm(read)
        x = x + read * mask(seed, 2 * i, read.shape, rate)
        made = layer.mlp((layer.pre_feedforward_layernorm if own else layer.post_attention_layernorm)(x))
        made = made * mask(seed, 2 * i + 1, made.shape, rate)
        x = x + (layer.post_feedforward_layernorm(made) if own else made)
    return inner.norm(x)


@pytest.mark.parametrize("kind", ["gemma", "gemma2"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_residual_dropout_is_on_both_branches_where_big_vision_has_it(kind, rate):
    model = language_model(kind)
    wanted = by_hand(copy.deepcopy(model), rate, seed=7)
    dropout = ResidualDropout(model, rate)
    dropout.begin(7)
    assert torch.allclose(model.model(IDS).last_hidden_state, wanted, atol=1e-5)
    dropout.begin(8)
    assert not torch.allclose(model.model(IDS).last_hidden_state, wanted, atol=1e-2)


def test_it_acts_in_training_alone_and_the_same_when_activations_are_made_again():
    model = language_model("gemma")
    plain = copy.deepcopy(model).eval().model(IDS).last_hidden_state
    dropout = ResidualDropout(model, 0.5)
    assert torch.equal(model.eval().model(IDS).last_hidden_state, plain)
    gradients = []
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        dropout.begin(3)
        model.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_other_layers_are_refused():
    with pytest.raises(InputError, match="a GPT2LMHeadModel, whose layers have no self_attn and mlp"):
        ResidualDropout(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20)), 0.1)


def test_low_rank_updates_learn_alone_and_are_merged_into_the_weights():
    model = language_model("gemma").eval()
    names = set(model.state_dict())
    before = model(IDS).logits
    add_lora(model, rank=2, alpha=4)
    assert type(model) is GemmaForCausalLM and has_lora(model) and torch.equal(model(IDS).logits, before)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learning) == 2 * 7 * 2 and all("lora_" in name for name in learning)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    updated = model(IDS).logits
    assert not torch.allclose(updated, before, atol=1e-2)
    merge_lora(model)
    assert not has_lora(model) and set(model.state_dict()) == names
    assert torch.allclose(model(IDS).logits, updated, atol=1e-4)
