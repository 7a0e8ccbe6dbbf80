"""The text-to-image model's loss: each lever against its formula."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from recipes.nano.presets import TextToImagePreset
from recipes.nano.t2i import new_unet
from recipes.nano.terms import Terms
from recipes.nano.trials import TRIALS

SETTINGS = TextToImagePreset(unet_channels=(32, 32), text_width=48)


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


@pytest.mark.parametrize("name", list(TRIALS))
def test_every_trial_changes_settings_that_exist(name):
    changed = replace(TextToImagePreset(), **(TRIALS["base"] | TRIALS[name]))
    base = replace(TextToImagePreset(), **TRIALS["base"])
    assert (changed == base) == (name == "base")
