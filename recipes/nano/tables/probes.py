"""Table 4 in small: what can be read off features by a linear probe, the auto-encoder's latents among them.

The paper puts features under a vision-language model. Here a logistic regression reads concept and style of
pictures of one object off 256 principal components of each feature grid, trained on training scenes, tested on
drawings that neither tower nor probe has seen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from recipes.nano.data import read_pixels
from recipes.nano.presets import Preset
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import load_tower, patches_of
from vilex.eval.features import features_of, load_extractor
from vilex.eval.measures import interval
from vilex.lexicon import VisualLexicon
from vilex.pictures.pixels import to_pixels

COMPONENTS = 256
LABELS = ("concept", "style")


def probe(preset: Preset, out: Path, lexicon: VisualLexicon) -> dict[str, Any]:
    """Accuracy of each feature's probes on held-out drawings."""
    train, test = (single_objects(out / f"{name}.parquet", preset.report.probed) for name in ("scenes", "held-out"))
    known = {row["concepts"][0] for row in test[1]}
    kept = [i for i, row in enumerate(train[1]) if row["concepts"][0] in known]
    train = ([train[0][i] for i in kept], [train[1][i] for i in kept])
    rows = {}
    for name, features in extractors(out, lexicon).items():
        seen, held = principal(*(_in_parts(features, pictures) for pictures, _ in (train, test)))
        rows[name] = {}
        for label in LABELS:
            classes = sorted({row[f"{label}s"][0] for row in (*train[1], *test[1])})
            truth, wanted = (
                torch.tensor([classes.index(row[f"{label}s"][0]) for row in facts]) for _, facts in (train, test)
            )
            right = logistic(seen, truth, len(classes))(held).argmax(1) == wanted
            rows[name][f"{label} right"] = interval(right.float().numpy())
    return {"trained on": len(train[0]), "pictures": len(test[0]), "rows": rows}


def extractors(out: Path, lexicon: VisualLexicon) -> dict[str, Callable[[list[Image.Image]], Tensor]]:
    """Features by name, from pictures to [N, D]."""
    encoder: ViLexEncoder = lexicon.encoder
    lite0 = load_extractor("lite0", lexicon.t2i.device)

    def of_tower(tower: torch.nn.Module) -> Callable[[list[Image.Image]], Tensor]:
        return torch.inference_mode()(lambda pictures: patches_of(tower, encoder.preprocess(pictures)).flatten(1))

    def latents(pictures: list[Image.Image]) -> Tensor:
        pixels = torch.stack([to_pixels(picture) for picture in pictures]).to(lexicon.t2i.device)
        with torch.inference_mode():
            return lexicon.t2i.encode(pixels).flatten(1)

    found = {"auto-encoder's latents": latents}
    if (out / "tower").is_dir():
        found["tower before ViLex"] = of_tower(load_tower(str(out / "tower")).to(encoder.device).eval())
    return {
        **found,
        "tower after ViLex": of_tower(encoder.tower),
        "16 tokens": lambda pictures: lexicon.encode(pictures, 16).flatten(1),
        "75 tokens": lambda pictures: lexicon.encode(pictures).flatten(1),
        "lite0 (ImageNet)": lambda pictures: features_of(pictures, lite0).vectors,
    }


def single_objects(table: Path, limit: int) -> tuple[list[Image.Image], list[dict[str, list[str]]]]:
    """Pictures of one object with their concepts and styles, the first `limit`."""
    facts = pyarrow.parquet.read_table(table, columns=["concepts", "styles"]).to_pylist()
    chosen = [i for i, row in enumerate(facts) if len(row["concepts"]) == 1][:limit]
    pixels = read_pixels(table)[chosen]
    return [Image.fromarray(one) for one in pixels], [facts[i] for i in chosen]


def _in_parts(features: Callable[[list[Image.Image]], Tensor], pictures: list[Image.Image]) -> Tensor:
    return torch.cat([features(pictures[i : i + 64]) for i in range(0, len(pictures), 64)]).float()


def principal(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the first principal components of the first, each of variance one."""
    torch.manual_seed(0)
    centre = train.mean(0)
    count = min(COMPONENTS, *train.shape)
    _, _, axes = torch.pca_lowrank(train - centre, q=count, center=False)
    seen, held = ((values - centre) @ axes for values in (train, test))
    spread = seen.std(0).clamp_min(1e-6)
    return seen / spread, held / spread


def logistic(features: Tensor, labels: Tensor, classes: int, decay: float = 1e-2) -> torch.nn.Linear:
    """Multinomial logistic regression with weight decay, to convergence."""
    model = torch.nn.Linear(features.shape[1], classes)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features), labels) + decay * model.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return model.requires_grad_(False)
