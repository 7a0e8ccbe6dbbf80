import pytest
import torch

from vilex.data import Batch
from vilex.encoder import ViLexEncoder
from vilex.t2i import load_t2i
from vilex.train.config import ObjectiveConfig
from vilex.train.denoising import DenoisingLoss
from vilex.train.objective import DenoisingObjective, condition_on, draw, tail_drop


def test_tail_drop_laws():
    chance = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    uniform, log = tail_drop(chance, 75, "uniform"), tail_drop(chance, 75, "log")
    assert uniform.min() == 1 and uniform.max() == 75 and abs(uniform.float().mean() - 38) < 0.5
    assert log.min() == 1 and log.max() == 75 and abs((log <= 8).float().mean() - 0.5) < 0.03
    square = tail_drop(chance, 75, "square")
    assert square.min() == 1 and square.max() == 75 and abs((square <= 19).float().mean() - 0.5) < 0.03
    assert (tail_drop(chance, 75, "off") == 75).all()


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
    captions = ["a cat", "", "dog in snow", ""]
    pixels, pixel_values = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 3, 32, 32)
    batch = Batch(pixels, pixel_values, captions, visits=torch.arange(4), weights=torch.ones(4))
    return t2i, encoder, batch


def test_only_tower_and_pooler_receive_gradients(parts):
    t2i, encoder, batch = parts
    objective = DenoisingObjective(t2i, ObjectiveConfig(), seed=0)
    loss, _ = objective(encoder, 75, batch)
    loss.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without in ([], ["tower.embeddings.patch_embedding.bias"])
    assert all(p.grad is None for module in t2i.modules for p in module.parameters())


def test_target_is_noise_or_velocity(parts):
    t2i, encoder, batch = parts
    objective = DenoisingObjective(t2i, ObjectiveConfig(tail_drop="off", caption_share=0), seed=0)
    _, seen = objective(encoder, 75, batch)
    x0 = t2i.encode(batch.pixels)
    drawn = draw(batch.visits, x0.shape[1:], seed=0)
    noise, t = drawn.noise, (drawn.t * 1000).long()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = (1 - betas).cumprod(0)[t].sqrt().view(4, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    target = noise if t2i.prediction_type == "epsilon" else alpha * noise - sigma * x0
    condition = condition_on(t2i, encoder(batch.pixel_values).tokens, torch.full((4,), 75), [""] * 4)
    expected = (t2i.predict(alpha * x0 + sigma * noise, t, condition) - target).square().mean((1, 2, 3))
    assert torch.allclose(seen["loss"], expected, atol=1e-4) and torch.equal(seen["t"], t)


def test_faint_noise_can_be_left_out(parts):
    t2i, encoder, batch = parts
    seen = [
        DenoisingObjective(t2i, ObjectiveConfig(noise_from=share), seed=0)(encoder, 75, batch)[1]["t"]
        for share in (0.0, 0.5)
    ]
    assert seen[0].min() < 500 and torch.allclose(seen[1].float(), 500 + seen[0] / 2, atol=1)


def test_min_snr_weights(parts):
    t2i, _, _ = parts
    t = torch.tensor([0, 500, 999])
    alpha = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[t]
    snr = alpha / (1 - alpha)
    expected = snr.clamp_max(5) / (snr + (t2i.prediction_type == "v_prediction"))
    assert torch.allclose(DenoisingLoss(t2i).min_snr(t, gamma=5.0), expected, rtol=1e-3)


def test_captions_leave_room_and_dropout_drops(parts):
    t2i, _, _ = parts
    config = ObjectiveConfig(tail_drop="off", caption_share=0.5, caption_tokens=32)
    drawn = draw(torch.arange(400), torch.Size([1]), seed=0)
    captions, keep = DenoisingObjective(t2i, config, seed=0)._keep(["a cat"] * 400, drawn, 75)
    kept = torch.tensor([bool(caption) for caption in captions])
    assert 160 < kept.sum() < 240
    assert (keep[kept] == 43).all() and (keep[~kept] == 75).all()


def test_what_is_drawn_for_an_image_depends_on_its_visit_alone():
    shape = torch.Size([4, 2, 2])
    together, alone = draw(torch.tensor([7, 8, 9]), shape, seed=1), draw(torch.tensor([8]), shape, seed=1)
    assert torch.equal(together.noise[1:2], alone.noise) and torch.equal(together.t[1:2], alone.t)
    assert not torch.equal(together.noise[0], together.noise[1])
    assert not torch.equal(draw(torch.tensor([8]), shape, seed=2).noise, alone.noise)
    many = draw(torch.arange(4000), shape, seed=1)
    assert abs(many.noise.mean()) < 0.02 and abs(many.noise.std() - 1) < 0.02
    assert abs(many.t.mean() - 0.5) < 0.02 and abs(torch.corrcoef(torch.stack([many.t, many.keep]))[0, 1]) < 0.06


def test_a_broken_sample_counts_for_nothing(parts):
    t2i, encoder, batch = parts
    objective = DenoisingObjective(t2i, ObjectiveConfig(), seed=0)
    batch.weights[1] = 0
    loss, seen = objective(encoder, 75, batch)
    assert len(seen["loss"]) == len(seen["t"]) == len(seen["keep"]) == 3
    assert loss.item() == pytest.approx(seen["loss"].sum().item() / 4)
