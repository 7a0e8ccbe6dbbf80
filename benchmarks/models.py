"""`python -m benchmarks.models [-o docs/models.md]`: what each supported base model is and takes, by arithmetic.

Sizes are counted on the published shapes, without weights; drawing is `vilex.plan.memory.sampling_memory`,
training memory what `vilex train --plan` counts for one image at a time with SigLIP So400m/14, AdamW, bf16 autocast,
the frozen model in bfloat16 and activations made again in the backward pass.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks import shapes
from vilex.data.config import DataConfig
from vilex.plan.memory import sampling_memory
from vilex.plan.plan import make_plan
from vilex.t2i import FAMILIES, shape_of
from vilex.train.config import ModelConfig, OptimConfig, RunConfig, TrainConfig

TOWER = "google/siglip-so400m-patch14-224"
HEAD = """\
# Base models

Families are recognised by `_class_name` in a pipeline folder's model_index.json. Made by

    python -m benchmarks.models -o docs/models.md

Drawing: a device's peak in bfloat16 for one picture with classifier-free guidance, with all frozen parts there, and
with one part at a time (`--offload model`). Training: its peak for one image at a time (`vilex train --plan`: SigLIP
So400m/14, AdamW, autocast, activations made again in the backward pass). All are counted on the published shapes;
workspaces of convolutions come on top.

"""

NOT_YET = """
Not yet, of what diffusers 0.42 has: HunyuanImage reads what stands in quotation marks a second time, byte by byte
(ByT5), where an image token is no word. Kolors' text encoder and tokenizer (ChatGLM) are the pipeline's own classes,
not transformers', which no family's loading and reading know. HiDream-I1 takes the features of two of its four text
encoders apart, under names of their own, and a token would be 10,240 wide. PRX's sibling in pixel space
(PRXPixelPipeline) is another model with another text encoder.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/models.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(HEAD + families_table() + "\n" + models_table() + NOT_YET)


def families_table() -> str:
    """Every family's file and pipelines."""
    lines = ["| pipeline | file | text encoders |", "| --- | --- | --- |"]
    for family in FAMILIES:
        encoders = [kinds[0] for name, kinds in family.parts.items() if name.startswith("text_encoder")]
        file = family.__module__.replace("vilex.", "").replace(".", "/") + ".py"
        lines.append(f"| {', '.join(family.pipelines)} | `{file}` | {', '.join(encoders)} |")
    return "\n".join(lines) + "\n"


def models_table() -> str:
    """The published models whose shapes are at hand."""
    titles = [
        "model", "pixels", "prediction", "token width", "denoiser", "text encoders", "drawing", "offloaded", "training"
    ]  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "| --- " + "| ---: " * (len(titles) - 1) + "|"]
    for name, make in shapes.PUBLISHED.items():
        with tempfile.TemporaryDirectory() as folder:
            base = make(Path(folder) / "base")
            tower = shapes.tower(Path(folder) / "tower", TOWER)
            t2i = shape_of(base, torch.bfloat16)
            peak = make_plan(training(base, tower, t2i.width)).peak
        drawn = sampling_memory(t2i)
        cells = [
            name, t2i.image_size, t2i.prediction_type, t2i.width,
            f"{t2i.sizes['denoiser'] / 1e9:.2f} B", f"{t2i.sizes['text encoder'] / 1e9:.2f} B",
            *(f"{size / 2**30:.1f} GB" for size in (drawn.resident, drawn.offloaded, peak)),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def training(base: Path, tower: Path, width: int) -> TrainConfig:
    """One image at a time, as lean as it goes."""
    return TrainConfig(
        ModelConfig(str(base), str(tower), pooler_width=min(width, 1024), frozen_dtype="bfloat16"),
        DataConfig("images"),
        optim=OptimConfig(name="adamw"),
        run=RunConfig(batch_size=1, mixed_precision="bf16", gradient_checkpointing=True, sample_every=0),
    )


if __name__ == "__main__":
    main()
