"""Stage 5, the tower: a small SigLIP vision transformer, pre-trained before ViLex fine-tunes it.

The paper starts from SigLIP's weights, which know the world. Here a small tower learns to see what
EfficientNet-Lite2, trained on ImageNet, sees in the scenes: at each of 8 x 8 places, and as a whole.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from recipes.nano.autoencoder import to_model
from recipes.nano.data import evenly_spaced, read_pixels
from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset, TowerPreset
from recipes.nano.scenes import SIZE
from recipes.nano.teacher import POOLED, WIDTH, cached_features
from vilex.paths import replacing_folder


def train_tower(preset: Preset, out: Path) -> None:
    """Train on the scenes and photographs; save a SiglipVisionModel to `out`/tower."""
    tables = [path for path in (out / "scenes.parquet", out / "photos.parquet") if path.is_file()]
    tower = distil("tower", new_student(preset), preset.tower, preset, out, tables)
    with replacing_folder(out / "tower") as folder:
        tower.save_pretrained(folder, safe_serialization=True)


def new_student(preset: Preset) -> nn.ModuleList:
    """A tower, and its two heads that say what the teacher sees."""
    settings = preset.tower
    torch.manual_seed(preset.seed)
    tower = new_tower(settings, size=SIZE)
    return nn.ModuleList([tower, nn.ModuleList([nn.Linear(settings.width, WIDTH), nn.Linear(settings.width, POOLED)])])


def distil(
    name: str,
    student: nn.ModuleList,
    settings: TowerPreset,
    preset: Preset,
    out: Path,
    tables: list[Path],
    fit: bool = False,
) -> SiglipVisionModel:
    """Train a tower, or train it on, to see what the teacher sees; returns it with its averaged weights.

    Args:
        name: of the stage. student: as `new_student` makes it. tables: of pictures.
        fit: the tower is trained already, and the heads begin as what fits it best (`fit_heads`).
    """
    pixels = np.concatenate([read_pixels(table, settings.seen) for table in tables])
    maps, pooled = (
        torch.cat([cached_features(table, out, which, settings.seen) for table in tables]) for which in (False, True)
    )
    some = evenly_spaced(len(pixels))
    scale = pooled[some].float().std(0).mean()
    if fit:
        fit_heads(student, to_model(pixels[some], "cpu"), maps[some].float(), pooled[some].float() / scale)
    trainer = Trainer(name, student.to(preset.device), settings, preset, out, seed=preset.seed, crew=preset.crew)
    for step in trainer:
        index = step.rows(len(pixels))
        shown = to_model(pixels[index.numpy()], preset.device)
        taught = maps[index].float().to(preset.device).flatten(2).transpose(1, 2)
        known = pooled[index].float().to(preset.device) / scale

        def losses(
            model: nn.Module, rows: slice, shown: Tensor = shown, taught: Tensor = taught, known: Tensor = known
        ) -> tuple[Tensor, dict[str, Tensor]]:
            tower, heads = model
            with trainer.autocast():
                patches = tower(shown[rows]).last_hidden_state
                places, whole = heads[0](patches).float(), heads[1](patches.mean(1)).float()
            where = 1 - F.cosine_similarity(places, taught[rows], dim=-1).mean()
            what = F.mse_loss(whole, known[rows])
            return where + what, {"where": where, "what": what}

        trainer.learn(losses)
    trainer.use_average()
    return student[0]


@torch.inference_mode()
def fit_heads(student: nn.ModuleList, shown: Tensor, places: Tensor, whole: Tensor) -> None:
    """Give a trained tower's two heads the weights of ridge regression: what it sees of the teacher as it stands.

    Args:
        shown: [N, 3, S, S] in -1..1. places: the teacher's maps [N, 64, 8, 8], of which directions count. whole: its
            pooled features [N, 1280], of the scale that is learnt.
    """
    tower, heads = student
    patches = torch.cat([tower(part).last_hidden_state for part in shown.split(64)])
    directions = F.normalize(places.flatten(2).transpose(1, 2), dim=-1).flatten(0, 1)
    for head, seen, taught in ((heads[0], patches.flatten(0, 1), directions), (heads[1], patches.mean(1), whole)):
        centre, middle = seen.mean(0), taught.mean(0)
        x, y = (seen - centre).double(), (taught - middle).double()
        square = x.T @ x
        square += 1e-3 * square.diagonal().mean() * torch.eye(len(square))
        weight = torch.linalg.solve(square, x.T @ y).T.float()
        head.weight.copy_(weight)
        head.bias.copy_(middle - weight @ centre)


def new_tower(settings: TowerPreset, size: int) -> SiglipVisionModel:
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.width // 48,
            image_size=size,
            patch_size=settings.patch,
            vision_use_head=False,
        )
    )


def scene_labels(table: Path) -> Tensor:
    """[N, all concepts and styles of the table], 1 where a picture shows it."""
    columns = pyarrow.parquet.read_table(table, columns=["concepts", "styles"]).to_pydict()
    place = {
        name: i
        for i, name in enumerate(sorted({name for column in columns.values() for row in column for name in row}))
    }
    labels = torch.zeros(len(columns["concepts"]), len(place))
    for row, names in enumerate(zip(columns["concepts"], columns["styles"], strict=True)):
        for name in (*names[0], *names[1]):
            labels[row, place[name]] = 1
    return labels
