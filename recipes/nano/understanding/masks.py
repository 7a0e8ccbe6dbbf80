"""Make the shipped mask codec: `python -m recipes.nano.understanding.masks --data DIR [--out DIR]`, a few minutes.

Trained on the outlines of all training drawings, whatever their concept; measured on those that are held out.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from recipes.nano.entry import run_main
from recipes.nano.sprites import Sprite, load_sprites
from vilex.understand.mask_codec import SHIPPED, load_codec
from vilex.understand.mask_training import CodecConfig, overlap, train_codec
from vilex.understand.masks import cut

LEAST = 0.85  # overlap on held-out outlines that a codec must have to be shipped


def outlines(sprites: list[Sprite], held_out: bool) -> torch.Tensor:
    """[N, 64, 64] uint8, the outlines that are held out or those that are not, each cut to its box."""
    alphas = [np.asarray(sprite.image)[..., 3] >= 128 for sprite in sprites if sprite.held_out == held_out]
    return torch.from_numpy(np.stack([cut(alpha) for alpha in alphas if alpha.any()]))


def make(table: Path, out: Path, config: CodecConfig) -> float:
    """Train, measure and write; returns the overlap on held-out outlines."""
    sprites = load_sprites(table)
    codec = train_codec(outlines(sprites, held_out=False), config, _say)
    codec.save(out)  # measured as it will be read, in half precision
    tested = outlines(sprites, held_out=True)
    found = overlap(load_codec(out), tested)
    codec.save(
        out,
        held_out_overlap=round(found, 4),
        held_out_outlines=len(tested),
        made_by="python -m recipes.nano.understanding.masks",
        outlines_of="noto, twemoji, openmoji, fluent; see LICENSE-WEIGHTS",
    )
    return found


def _say(step: int, loss: float) -> None:
    if step % 250 == 0:
        print(f"step {step:,}: loss {loss:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet tables")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the codec; by default where it is shipped")
    parser.add_argument("--steps", type=int, default=CodecConfig.steps)
    arguments = parser.parse_args()
    found = make(arguments.data / "emoji-64px.parquet", arguments.out, CodecConfig(steps=arguments.steps))
    print(f"held-out outlines: overlap {found:.4f}")
    if found < LEAST:
        raise SystemExit(f"{arguments.out}: {found:.3f} is under {LEAST}; this codec must not be shipped")


if __name__ == "__main__":
    run_main(main)
