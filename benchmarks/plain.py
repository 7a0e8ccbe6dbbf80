"""The peer: an adapter's training step written the usual way.

Frozen parts are float32 and simply not given to the optimiser: their weights' gradients are computed and
kept all the same. Nothing is compiled, checkpointed or kept in low precision.
"""

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from vilex.composition import compose, inject
from vilex.encoder import ViLexEncoder
from vilex.prompt import Prompt, Slot
from vilex.t2i import Condition
from vilex.t2i.stable_diffusion import StableDiffusion


class PlainLoop:
    """Tower and pooler through `t2i` by AdamW.

    Args:
        t2i, encoder: float32 models, with weights or, to count bytes, on the meta device.
    """

    def __init__(self, t2i: StableDiffusion, encoder: ViLexEncoder):
        for module in (*t2i.modules, encoder):
            module.requires_grad_(True)
        self.t2i, self.encoder = t2i, encoder
        self.noise_schedule = DDPMScheduler(prediction_type=t2i.scheduler_config["prediction_type"])
        self.optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
        self.layout = compose(Prompt((Slot("v", encoder.config.num_tokens),)), t2i.frame)

    def forward_backward(self, pixels: Tensor, pixel_values: Tensor) -> None:
        """pixels: [B, 3, H, W] in -1..1. pixel_values: [B, 3, h, w], the tower's input."""
        with torch.no_grad():
            x0 = self.t2i.encode(pixels)
        noise = torch.randn_like(x0)
        t = torch.randint(0, self.noise_schedule.config.num_train_timesteps, (len(x0),), device="cpu")
        x_t = self.noise_schedule.add_noise(x0, noise, t.to(x0.device))
        tokens = self.encoder(pixel_values).tokens
        ids = self.layout.ids.expand(len(x0), -1).to(x0.device)
        embeddings = inject(self.t2i.embed(ids), [self.layout] * len(x0), [{"v": one} for one in tokens])
        prediction = self.t2i.predict(x_t, t.to(x0.device), Condition(self.t2i.encoders[0](ids, embeddings)[0]))
        target = noise
        if self.noise_schedule.config.prediction_type == "v_prediction":
            target = self.noise_schedule.get_velocity(x0, noise, t.to(x0.device))
        F.mse_loss(prediction, target).backward()

    def step(self, pixels: Tensor, pixel_values: Tensor) -> None:
        self.forward_backward(pixels, pixel_values)
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
