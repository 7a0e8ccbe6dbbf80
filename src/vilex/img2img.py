"""Where sampling starts if not at noise: at a picture under noise (image to image), of which a part may stay.

As in diffusers' img2img and inpainting pipelines: of all steps the last `strength` share is taken, from the picture
with the noise of that level; where a mask is black, the picture is put back after every step, with the noise of the
next (Lugmayr et al. 2022, arXiv 2201.09865, without resampling).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vilex.checks import number
from vilex.errors import InputError
from vilex.pictures.fit import fitted
from vilex.pictures.inputs import PictureLike, open_picture
from vilex.pictures.pixels import to_pixels
from vilex.t2i.base import FrozenT2I

STRENGTH, UNDER_A_MASK = 0.8, 1.0  # by default


@dataclass(frozen=True)
class Start:
    """A picture to begin from.

    Attributes:
        x0: [1, c, h, w].
        strength: 0 to 1, the share of the steps that are taken; at 1 little is left of the picture.
        mask: [1, 1, h, w], true where the picture is drawn anew; everywhere if None.
    """

    x0: Tensor
    strength: float
    mask: Tensor | None = None

    def first(self, scheduler: Any, steps: int) -> int:
        """The index of the first timestep that is taken; the scheduler begins there."""
        index = (steps - int(steps * self.strength)) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(index)
        return index

    def begin(self, x_t: Tensor, scheduler: Any, noise: Tensor, t: Tensor) -> Tensor:
        """x_t at the first timestep, [B, c, h, w]; under a mask at full strength it stays what it was, noise alone."""
        if self.mask is not None and self.strength == 1:
            return x_t
        return self._noised(scheduler, noise, t)

    def restore(self, x_t: Tensor, scheduler: Any, noise: Tensor, later: Tensor) -> Tensor:
        """What the mask keeps put back into x_t; `later`: the timesteps still to come."""
        if self.mask is None:
            return x_t
        kept = self._noised(scheduler, noise, later[0]) if len(later) else self.x0
        return torch.where(self.mask, x_t, kept)

    def _noised(self, scheduler: Any, noise: Tensor, t: Tensor) -> Tensor:
        x0, times = self.x0.expand_as(noise), t.expand(len(noise))
        if hasattr(scheduler, "scale_noise"):  # flow models' own
            return scheduler.scale_noise(x0, times, noise)
        return scheduler.add_noise(x0, noise, times)


@torch.inference_mode()
def start_from(
    t2i: FrozenT2I,
    picture: PictureLike,
    steps: int,
    strength: float | None = None,
    mask: PictureLike | None = None,
) -> Start:
    """Encode a picture, cut to the shape of what is drawn and brought to its size, to begin from.

    Args:
        picture: of any form that `vilex.pictures.inputs.open_picture` takes.
        strength: by default 0.8, under a mask 1.
        mask: of the picture's size; white and transparent is drawn anew, black stays; of a latent's place, what most of
            it is.
    Raises:
        InputError: a file cannot be read, sizes differ, or so little strength leaves no step.
    """
    strength = strength if strength is not None else STRENGTH if mask is None else UNDER_A_MASK
    strength = number(strength, "strength", 0, 1)
    if int(steps * strength) < 1:
        raise InputError(f"strength {strength:g}: expected {1 / steps:g} (one of {steps} steps) to 1")
    opened, size = open_picture(picture, "start"), t2i.picture_size
    x0 = t2i.encode(to_pixels(fitted(opened, *size))[None].to(t2i.device)).float()
    if mask is None:
        return Start(x0, strength)
    drawn = open_picture(mask, "mask")
    if drawn.size != opened.size:
        raise InputError(
            f"mask: expected the picture's size, {opened.width} x {opened.height}, got {drawn.width} x {drawn.height}"
        )
    white = torch.from_numpy(np.array(fitted(drawn.convert("L"), *size)))[None, None] >= 128
    share = F.interpolate(white.float(), t2i.latent_shape[1:], mode="area")
    return Start(x0, strength, (share >= 0.5).to(t2i.device))
