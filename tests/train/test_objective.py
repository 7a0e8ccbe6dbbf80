import pytest
import torch

from vilex.encoder import ViLexEncoder
from vilex.t2i import load_t2i
from vilex.train.config import ObjectiveConfig
from vilex.train.data import Batch
from vilex.train.objective import DenoisingObjective, condition_on, tail_drop


def test_tail_drop_laws():
    generator = torch.Generator().manual_seed(0)
    uniform = tail_drop(20_000, 75, "uniform", generator)
    log = tail_drop(20_000, 75, "log", generator)
    assert uniform.min() == 1 and uniform.max() == 75 and abs(uniform.float().mean() - 38) < 0.5
    assert log.min() == 1 and log.max() == 75 and abs((log <= 8).float().mean() - 0.5) < 0.03
    assert (tail_drop(5, 75, "off", generator) == 75).all()


def test_condition_is_bos_v_c_eos(sd_folder):
    t2i = load_t2i(sd_folder[1])
    vectors = t2i.embed(torch.tensor(t2i.tokenizer("the cat").input_ids[1:-1]))
    tokens = torch.cat([vectors, torch.randn(3, 32)])[None].expand(2, -1, -1)
    condition = condition_on(t2i, tokens, torch.tensor([2, 2]), ["in snow", ""])
    ids = t2i.tokenizer(["the cat in snow", "the cat"], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(condition.sequence, t2i.text_encoder(ids)[0])


@pytest.fixture(params=[1, 2], ids=["eps", "v"])
def parts(request, sd_folder, model_folder):
    t2i, encoder = load_t2i(sd_folder[request.param]), ViLexEncoder.from_pretrained(model_folder)
    torch.manual_seed(1)
    batch = Batch(torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 3, 32, 32), ["a cat", "", "dog in snow", ""])
    return t2i, encoder, batch


def test_only_tower_and_pooler_receive_gradients(parts):
    t2i, encoder, batch = parts
    objective = DenoisingObjective(t2i, ObjectiveConfig(), torch.Generator().manual_seed(0))
    loss, _ = objective(encoder, 75, batch)
    loss.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without in ([], ["tower.embeddings.patch_embedding.bias"])
    assert all(p.grad is None for module in t2i.modules for p in module.parameters())


def test_target_is_noise_or_velocity(parts):
    t2i, encoder, batch = parts
    objective = DenoisingObjective(
        t2i, ObjectiveConfig(tail_drop="off", caption_share=0), torch.Generator().manual_seed(0)
    )
    _, seen = objective(encoder, 75, batch)
    generator = torch.Generator().manual_seed(0)
    x0 = t2i.encode(batch.pixels)
    noise = torch.randn(x0.shape, generator=generator)
    t = torch.randint(0, 1000, (4,), generator=generator)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = (1 - betas).cumprod(0)[t].sqrt().view(4, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    target = noise if t2i.prediction_type == "epsilon" else alpha * noise - sigma * x0
    condition = condition_on(t2i, encoder(batch.pixel_values).tokens, torch.full((4,), 75), [""] * 4)
    expected = (t2i.predict(alpha * x0 + sigma * noise, t, condition) - target).square().mean((1, 2, 3))
    assert torch.allclose(seen["loss"], expected, atol=1e-4) and torch.equal(seen["t"], t)


def test_min_snr_weights(parts):
    t2i, _, _ = parts
    objective = DenoisingObjective(t2i, ObjectiveConfig(min_snr_gamma=5.0), torch.Generator())
    t = torch.tensor([0, 500, 999])
    alpha = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[t]
    snr = alpha / (1 - alpha)
    expected = snr.clamp_max(5) / (snr + (t2i.prediction_type == "v_prediction"))
    assert torch.allclose(objective._weights(t), expected, rtol=1e-3)


def test_captions_leave_room_and_dropout_drops(parts):
    t2i, _, _ = parts
    config = ObjectiveConfig(tail_drop="off", caption_share=0.5, caption_tokens=32)
    objective = DenoisingObjective(t2i, config, torch.Generator().manual_seed(0))
    captions, keep = objective._draw(["a cat"] * 400, 75)
    kept = torch.tensor([bool(caption) for caption in captions])
    assert 160 < kept.sum() < 240
    assert (keep[kept] == 43).all() and (keep[~kept] == 75).all()
