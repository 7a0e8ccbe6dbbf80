"""An automatic judge: a small network that reads a picture's concept, style, ground and its object's box.

The paper asks people whether a re-created picture keeps semantics, layout and style of its source. Scenes are
composed here, so all three are known of every real one, and a network can learn to read them. It is trained on
real scenes of every drawing of the drilled concepts, the held-out ones among them, for it must know what the
generator may not have seen; pictures come blurred and noisy half of the time, as generated ones are.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset
from recipes.nano.scenes import PLACES, SIZE, Scene, random_scene
from recipes.nano.sprites import CONCEPTS, STYLES, load_sprites
from vilex.eval.features import to_bytes

GROUNDS = ("plain", *PLACES)  # gradients count as plain


@dataclass(frozen=True)
class Reading:
    """What the judge sees in N pictures.

    Attributes:
        concept: [N, concepts], style: [N, styles], ground: [N, grounds]: probabilities.
        box: [N, 4], left, top, right, bottom in 0..1.
    """

    concept: Tensor
    style: Tensor
    ground: Tensor
    box: Tensor


class Judge(nn.Module):
    """A convolutional network at 64 pixels with four heads."""

    def __init__(self, concepts: tuple[str, ...], width: int = 32):
        super().__init__()
        self.concepts, self.styles = concepts, tuple(STYLES)
        layers, channels = [], 3
        for i in range(4):  # 64 -> 4 pixels
            own = width * 2 ** min(i, 2)
            layers += [nn.Conv2d(channels, own, 3, stride=2, padding=1), nn.BatchNorm2d(own), nn.GELU()]
            layers += [nn.Conv2d(own, own, 3, padding=1), nn.BatchNorm2d(own), nn.GELU()]
            channels = own
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, 256), nn.GELU())
        self.concept = nn.Linear(256, len(concepts))
        self.style, self.ground, self.box = nn.Linear(256, len(STYLES)), nn.Linear(256, len(GROUNDS)), nn.Linear(256, 4)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[N, 3, 64, 64] in 0..1 to logits of concept, style and ground, and the box."""
        seen = self.trunk(pixels * 2 - 1)
        return self.concept(seen), self.style(seen), self.ground(seen), self.box(seen)

    @torch.inference_mode()
    def read(self, pictures: list[Image.Image]) -> Reading:
        """PIL pictures to what the judge sees in them."""
        return self.read_pixels(to_bytes(pictures))

    @torch.inference_mode()
    def read_pixels(self, pixels: Tensor) -> Reading:
        """[N, 3, 64, 64] uint8 to what the judge sees in them."""
        parts = [self(part.float() / 255) for part in pixels.split(64)]
        concept, style, ground, box = (torch.cat(part) for part in zip(*parts, strict=True))
        return Reading(concept.softmax(1), style.softmax(1), ground.softmax(1), box)


def load_judge(preset: Preset, data: Path, out: Path) -> Judge:
    """The judge of `out`/judge, trained first if it is not there."""
    concepts = CONCEPTS[: preset.data.focus_concepts]
    judge, path = Judge(concepts), out / "judge" / "model.safetensors"
    if path.is_file():
        judge.load_state_dict(load_file(path))
        return judge.eval()
    sprites = [sprite for sprite in load_sprites(data / "emoji-64px.parquet") if sprite.concept in concepts]
    settings, rng = preset.judge, np.random.default_rng(8)
    scenes = [random_scene(sprites, rng, alone=1.0) for _ in track(range(settings.scenes), description="scenes")]
    pixels = torch.from_numpy(np.stack([scene.render() for scene in scenes])).permute(0, 3, 1, 2)
    facts = facts_of(scenes, concepts)
    torch.manual_seed(preset.seed)
    trainer = Trainer("judge", judge, settings, preset, out, seed=preset.seed)
    for step in trainer:
        index = step.rows(len(pixels))
        with trainer.autocast():
            concept, style, ground, box = judge(_as_generated(pixels[index].float() / 255, step.generator))
        true = [values[index] for values in facts]
        loss = sum(
            F.cross_entropy(said.float(), fact) for said, fact in zip((concept, style, ground), true, strict=False)
        )
        trainer.update(loss + 5 * F.l1_loss(box.float(), true[3]))
    trainer.use_average()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(judge.state_dict(), path)
    return load_judge(preset, data, out)


def facts_of(scenes: list[Scene], concepts: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Concept, style and ground [N] by number, boxes [N, 4], of scenes of one object."""
    placed = [scene.objects[0] for scene in scenes]
    grounds = [scene.ground.words[0] if scene.ground.kind == "place" else "plain" for scene in scenes]
    corners = [
        (one.x - one.size / 2, one.y - one.size / 2, one.x + one.size / 2, one.y + one.size / 2) for one in placed
    ]
    return (
        torch.tensor([concepts.index(one.sprite.concept) for one in placed]),
        torch.tensor([list(STYLES).index(one.sprite.style) for one in placed]),
        torch.tensor([GROUNDS.index(ground) for ground in grounds]),
        torch.tensor(corners) / SIZE,
    )


def _as_generated(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures blurred and noisy."""
    soft = F.interpolate(F.interpolate(pixels, scale_factor=0.5, mode="area"), size=pixels.shape[-2:], mode="bilinear")
    soft = (soft + 0.05 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    chosen = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], soft, pixels)
