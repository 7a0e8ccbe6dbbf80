import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler

from tests.families import FAMILIES
from vilex.data import Batch
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
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


KINDS = {"eps": "sd1", "v": "sd2", "flow": "sd3"}


@pytest.mark.parametrize("kind", KINDS)
def test_noise_levels_and_targets_are_float32_whatever_the_frozen_parts_are(kind, tmp_path):
    folder = FAMILIES[KINDS[kind]].make(tmp_path / "base")
    exact, half = (load_t2i(folder, dtype) for dtype in (torch.float32, torch.bfloat16))
    generator = torch.Generator().manual_seed(0)
    x0 = half.encode(torch.rand(1, 3, half.image_size, half.image_size, generator=generator) * 2 - 1)
    assert x0.dtype is torch.bfloat16
    t = torch.arange(1000)
    x0, noise = x0.expand(1000, -1, -1, -1), torch.randn(1000, *x0.shape[1:], generator=generator)
    found, expected = (DenoisingLoss(t2i).noised(start, noise, t) for t2i, start in ((half, x0), (exact, x0.float())))
    for ours, right in zip(found, expected, strict=True):
        assert ours.dtype is torch.float32 and torch.equal(ours, right)
    if kind != "flow":
        sigma = (found[0] - x0.float()).flatten(1).std(1)[:6]
        assert (sigma > 0.01).all()  # in bfloat16 it is 0 at the first two levels


def test_a_half_precision_step_predicts_from_those_levels(sd_folder, model_folder, monkeypatch):
    t2i, encoder = load_t2i(sd_folder[1], torch.bfloat16), ViLexEncoder.from_pretrained(model_folder)
    objective, seen = DenoisingObjective(t2i, ObjectiveConfig(), seed=0), []
    whole = DenoisingLoss.noised
    monkeypatch.setattr(DenoisingLoss, "noised", lambda *given: seen.append(given[1:3]) or whole(*given))
    batch = Batch(torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 32, 32), ["", ""], torch.arange(2), torch.ones(2))
    loss, values = objective(encoder, 75, batch)
    (x0, noise) = seen[0]
    assert x0.dtype is torch.bfloat16 and torch.equal(noise, draw(batch.visits, x0.shape[1:], 0).noise)
    assert loss.dtype is values["loss"].dtype is torch.float32


def with_schedule(t2i, **keys):
    t2i.scheduler_config = {**t2i.scheduler_config, **keys}
    return t2i


def test_zero_terminal_snr_is_honoured(sd_folder):
    t2i = with_schedule(load_t2i(sd_folder[2]), rescale_betas_zero_snr=True)
    expected = DDIMScheduler.from_config(t2i.scheduler_config).alphas_cumprod
    loss = DenoisingLoss(t2i)
    assert loss.alpha_bar[-1] == 0 and torch.allclose(loss.alpha_bar, expected, atol=1e-7)
    x0, noise, last = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([999])
    x_t, target = loss.noised(x0, noise, last)
    assert torch.equal(x_t, noise) and torch.equal(target, -x0)
    assert loss.min_snr(last, 5.0) == 0


def test_what_a_scheduler_leaves_to_its_class_is_its_class_s_own(sd_folder):
    t2i = load_t2i(sd_folder[1])
    t2i.scheduler_config = {"_class_name": "LCMScheduler"}
    assert torch.allclose(DenoisingLoss(t2i).alpha_bar, LCMScheduler().alphas_cumprod)
    t2i.scheduler_config = {"_class_name": "DDPMScheduler"}
    assert torch.allclose(DenoisingLoss(t2i).alpha_bar, DDPMScheduler().alphas_cumprod)


@pytest.mark.parametrize(
    "keys",
    [{"snr_shift_scale": 3.0}, {"timestep_type": "continuous"}, {"use_flow_sigmas": True}, {"sigma_data": 0.5},
     {"of_next_year": "x"}],
    ids=lambda keys: next(iter(keys)),
)  # fmt: skip
def test_schedule_keys_that_training_does_not_know_are_refused_by_name(sd_folder, keys):
    with pytest.raises(InputError, match=rf"scheduler_config\.json: {next(iter(keys))} = "):
        DenoisingLoss(with_schedule(load_t2i(sd_folder[1]), **keys))


def test_linear_time_shifts_are_refused(tmp_path):
    t2i = with_schedule(load_t2i(FAMILIES["flux"].make(tmp_path / "flux")), time_shift_type="linear")
    with pytest.raises(InputError, match="time_shift_type = 'linear'"):
        DenoisingLoss(t2i)


def test_min_snr_reaches_the_loss(parts):
    t2i, encoder, batch = parts
    config = ObjectiveConfig(min_snr_gamma=5.0)
    loss, seen = DenoisingObjective(t2i, config, seed=0)(encoder, 75, batch)
    weights = DenoisingLoss(t2i).min_snr(seen["t"], 5.0)
    assert (weights < 1).any() and loss.item() == pytest.approx((seen["loss"] * weights).mean().item(), rel=1e-5)
