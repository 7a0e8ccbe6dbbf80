"""The text-to-image model's loss and what is said while it learns: each lever against its formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from recipes.nano.presets import TextToImagePreset
from recipes.nano.speech import POSITIONS, Said, _blended, _groups, read
from recipes.nano.t2i import new_unet
from recipes.nano.terms import Terms
from recipes.nano.trials import TRIALS

SETTINGS = TextToImagePreset(unet_channels=(32, 32), text_width=48)
BOS, EOS = 98, 99


def new_terms(tmp_path, **settings) -> Terms:
    torch.manual_seed(0)
    unet: UNet2DConditionModel = new_unet(SETTINGS, width=SETTINGS.text_width, channels=4, size=8)
    return Terms(unet, replace(SETTINGS, **settings), tmp_path, "cpu")


def batch(count=6):
    generator = torch.Generator().manual_seed(1)
    x0, noise, v = (torch.randn(count, 4, 8, 8, generator=generator) for _ in range(3))
    return x0, noise, v, torch.tensor([5, 100, 300, 500, 800, 990])


def test_the_plain_loss_is_the_error_of_v(tmp_path):
    x0, noise, v, t = batch()
    terms = new_terms(tmp_path)
    alpha = terms.schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    total, values = terms.loss(v, x0, noise, t, torch.arange(6))
    assert torch.allclose(total, (v - target).square().mean()) and set(values) == {"v"}


def test_min_snr_weighs_by_level(tmp_path):
    x0, noise, v, t = batch()
    terms = new_terms(tmp_path, min_snr_gamma=5.0)
    alpha = terms.schedule.alphas_cumprod[t]
    snr = alpha / (1 - alpha)
    errors = (v - terms.schedule.get_velocity(x0, noise, t)).square().mean((1, 2, 3))
    total, values = terms.loss(v, x0, noise, t, torch.arange(6))
    assert torch.allclose(total, (errors * torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)).mean())
    assert torch.allclose(values["v"], errors.mean())  # the log stays comparable


def test_contrastive_takes_the_distance_to_another_pictures_target_away(tmp_path):
    x0, noise, v, t = batch()
    terms = new_terms(tmp_path, contrastive=0.1)
    target = terms.schedule.get_velocity(x0, noise, t)
    far = (v - target[[5, 0, 1, 2, 3, 4]]).square().mean()
    total, _ = terms.loss(v, x0, noise, t, torch.arange(6))
    assert torch.allclose(total, (v - target).square().mean() - 0.1 * far)


def test_immiscible_noise_is_the_same_noise_dealt_out_nearer(tmp_path):
    x0, *_ = batch()
    plain = new_terms(tmp_path).noise(x0, torch.Generator().manual_seed(2))
    dealt = new_terms(tmp_path, immiscible=True).noise(x0, torch.Generator().manual_seed(2))
    order = torch.cdist(dealt.flatten(1), plain.flatten(1)).argmin(1)
    assert sorted(order.tolist()) == list(range(6)) and torch.equal(dealt, plain[order])
    assert (x0 - dealt).flatten(1).norm(dim=1).sum() < (x0 - plain).flatten(1).norm(dim=1).sum()


def test_levels_start_where_they_are_told_to(tmp_path):
    t = new_terms(tmp_path).levels(2000, torch.Generator().manual_seed(0), lowest=0.6)
    assert t.min() >= 600 and t.max() < 1000 and abs(t.float().mean() - 800) < 10


@pytest.fixture(scope="module")
def text_encoder():
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def said_in(words: list[int], groups: list[int]) -> Said:
    plain = np.full(POSITIONS, EOS)
    plain[: len(words) + 1] = [BOS, *words]
    ids, weights = _blended(np.array(words), np.array(groups), BOS, EOS)
    return Said(*(torch.from_numpy(part)[None] for part in (ids, plain, weights)))


def test_a_blend_of_single_words_is_the_sentence(text_encoder):
    said = said_in([7, 8, 9], [0, 1, 2])
    assert torch.equal(said.ids, said.words)
    with torch.no_grad():
        assert torch.equal(read(text_encoder, said, "cpu"), text_encoder(said.ids).last_hidden_state)


def test_a_blended_group_is_one_vector_as_long_as_a_word(text_encoder):
    said = said_in([7, 8, 9, 10], [0, 0, 0, 1])
    table = text_encoder.get_input_embeddings().weight
    vectors = (said.blend @ table[said.words])[0]
    assert torch.allclose(vectors[1], (table[7] + table[8] + table[9]) / 3**0.5)
    assert torch.equal(vectors[2], table[10]) and torch.equal(vectors[0], table[BOS])
    assert torch.equal(vectors[3:], table[EOS].expand(POSITIONS - 3, -1))
    assert said.ids[0, :4].tolist() == [BOS, 7, 10, EOS]


@pytest.mark.parametrize(("words", "most"), [(2, 1), (9, 1), (9, 4), (3, 8), (75, 8)])
def test_groups_are_neighbours(words, most):
    groups = _groups(words, most, np.random.default_rng(0))
    assert len(groups) == words and groups[0] == 0 and set(np.diff(groups)) <= {0, 1}
    assert groups[-1] + 1 == min(words, most)


@pytest.mark.parametrize("name", list(TRIALS))
def test_every_trial_changes_settings_that_exist(name):
    changed = replace(TextToImagePreset(), **(TRIALS["base"] | TRIALS[name]))
    base = replace(TextToImagePreset(), **TRIALS["base"])
    assert (changed == base) == (name == "base")
