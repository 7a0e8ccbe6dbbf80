"""Sana Sprint: Sana in one to four steps, with the guidance it was distilled with.

Its scheduler speaks of angles t, which mix picture and noise as cos t x0 + sin t noise. Its pipeline turns them into
shares s of noise before the denoiser and back after it: the denoiser itself is a flow model. So it is one here, its own
sampler (sCM, Lu & Song, arXiv 2410.11081) is Euler's with new noise in every step, and nothing is turned:

    s = sin t / (sin t + cos t)
"""

from typing import Any

import torch
from diffusers import SCMScheduler
from torch import Tensor

from vilex.t2i.base import Condition
from vilex.t2i.parts import SCHEDULER
from vilex.t2i.sana import Sana

NOISE, BETWEEN = 1.57080, 1.3  # the angles at which the pipeline begins and, of two steps, makes the second
LEVELS = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "stochastic_sampling": True}


class SanaSprint(Sana):
    """`FrozenT2I` over a SanaSprintPipeline folder.

    Attributes:
        distilled_guidance: what the denoiser is told was the guidance.
    """

    pipelines = ("SanaSprintPipeline",)
    steered = False
    distilled_guidance = 4.5

    def setup(self) -> None:
        super().setup()
        self.angles, self.scheduler_config = self.scheduler_config, dict(LEVELS)
        self.prediction_type = "flow"

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.mask is not None
        batch, config = len(x_t), self.transformer.config
        guidance = torch.full((batch,), self.distilled_guidance * config.guidance_embeds_scale, device=x_t.device)
        return self.transformer(
            x_t.to(self.dtype),
            encoder_hidden_states=condition.sequence.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            guidance=guidance.to(self.dtype),
            timestep=t.expand(batch) / 1000,
            return_dict=False,
        )[0]

    def prepare(self, scheduler: Any, steps: int) -> None:
        if not type(scheduler).__name__.startswith("FlowMatchEuler"):
            super().prepare(scheduler, steps)
            return
        angles = torch.tensor([NOISE, BETWEEN]) if steps == 2 else torch.linspace(NOISE, 0, steps + 1)[:-1]
        shares = angles.sin() / (angles.sin() + angles.cos())
        scheduler.set_timesteps(sigmas=shares.clamp(max=1).tolist(), device=self.device)

    def components(self) -> dict[str, Any]:
        return super().components() | {SCHEDULER: SCMScheduler.from_config(self.angles)}
