"""Does the embedded encoder's tower see better than before? Probes on three sets.

    python -m recipes.nano.better_eyes --data DIR --out OUT [--encoder OUT/nano] [--against OUT/tower]

    photographs  Tiny ImageNet's 200 classes, tested on its validation photographs, which no stage has seen
    styles       the six styles of emoji, tested on the drawings that are held out of every stage
    scenes       where is what: drawings of six styles on the understanding benchmark's scenes, with exact masks; each
                 test scene has a held-out drawing

Everything is in OUT/eyes, and goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image

from recipes.nano.entry import run_main
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite, load_sprites, select
from recipes.nano.understanding.data import drawings_of, png_bytes
from recipes.nano.understanding.scenes import WideScene, random_wide_scene
from vilex.eval.eyesight.asked import EyesSettings
from vilex.eval.eyesight.protocol import evaluate_eyes, to_tables
from vilex.paths import replacing, write_text

EMOJI = "emoji-64px.parquet"
GROUND = "ground"  # the class of what is no drawing


def compose_styles(sprites: list[Sprite], out: Path) -> tuple[Path, Path]:
    """Two tables, `image` and `label`: drawings that may be learned from, and held-out ones; kept if they are there."""
    paths = out / "styles-train.parquet", out / "styles-test.parquet"
    for path, held_out in zip(paths, (False, True), strict=True):
        if not path.is_file():
            rows = [{"image": png_bytes(one.image), "label": one.style} for one in sprites if one.held_out == held_out]
            with replacing(path) as aside:
                pyarrow.parquet.write_table(pa.Table.from_pylist(rows), aside)
    return paths


def compose_scenes(sprites: list[Sprite], out: Path, counts: tuple[int, int]) -> tuple[Path, Path]:
    """Two folders of scenes with masks, by style, of `counts` pictures; kept if they are there."""
    folders = out / f"scenes-train-{counts[0]}", out / f"scenes-test-{counts[1]}"
    for seed, (folder, split, count) in enumerate(zip(folders, ("train", "test"), counts, strict=True)):
        if (folder / "classes.txt").is_file():
            continue
        drawings, rng = drawings_of(sprites, split), np.random.default_rng((seed, count))
        partners = select(sprites, CONCEPTS, held_out=False)
        for i in range(count):
            scene = random_wide_scene(partners, rng, drawings[i % len(drawings)])
            for kind, picture in (("images", scene.render()), ("masks", style_mask(scene))):
                with replacing(folder / kind / f"{i:06}.png") as aside:
                    picture.save(aside, "PNG")
        write_text(folder / "classes.txt", "\n".join([GROUND, *STYLES]) + "\n")  # the last: the folder is whole
    return folders


def style_mask(scene: WideScene) -> Image.Image:
    """0 where no drawing is, and from 1 on the number of each drawing's style."""
    found = np.zeros(scene.mask(scene.things[0]).shape, dtype=np.uint8)
    for thing in scene.things:
        found[scene.mask(thing)] = 1 + list(STYLES).index(thing.sprite.style)
    return Image.fromarray(found)


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every set's results; the whole report is OUT/eyes/report.md."""
    folder, data = arguments.out / "eyes", arguments.data
    before = [str(arguments.out / "tower")] if (arguments.out / "tower" / "config.json").is_file() else []
    eyes = tuple(dict.fromkeys([arguments.encoder, *(arguments.against or before)]))
    sprites = load_sprites(data / EMOJI)
    styles = compose_styles(sprites, folder / "sets")
    scenes = compose_scenes(sprites, folder / "sets", (arguments.scenes, arguments.scenes // 4))
    shared: dict[str, Any] = {"eyes": eyes, "tokens": arguments.tokens, "seeds": tuple(arguments.seeds)}
    asked = {
        "photographs": EyesSettings(
            out=folder / "photographs", classes=str(data / "tiny-imagenet-train-*.parquet"), label="name",
            test=str(data / "tiny-imagenet-val.parquet"), images=arguments.photographs, **shared,
        ),
        "styles": EyesSettings(out=folder / "styles", classes=str(styles[0]), test=str(styles[1]), **shared),
        "scenes": EyesSettings(out=folder / "scenes", dense=scenes[0], dense_test=scenes[1], **shared),
    }  # fmt: skip
    results = {}
    for name in arguments.sets:
        results[name], _ = evaluate_eyes(asked[name], _say(name))
        print(f"## {name}\n\n{to_tables(results[name])}", flush=True)
    text = "\n".join(f"## {name}\n\n{to_tables(found)}" for name, found in results.items())
    write_text(folder / "report.md", text)
    return results


def _say(name: str) -> Any:
    def say(what: str, done: int, total: int) -> None:
        if done % 5000 == 0:
            print(f"{name}: {what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return say


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet tables")
    parser.add_argument("--out", type=Path, required=True, help="the recipe's folder")
    parser.add_argument("--encoder", default="nano", help="whose eyes; the embedded encoder by default")
    parser.add_argument("--against", action="append", help="other eyes; OUT/tower by default, if it is there")
    parser.add_argument("--sets", nargs="+", default=["photographs", "styles", "scenes"], help="which of the three")
    parser.add_argument("--photographs", type=int, default=20_000, help="of Tiny ImageNet that may teach")
    parser.add_argument("--scenes", type=int, default=2_000, help="that may teach; a quarter as many are tested")
    parser.add_argument("--tokens", type=int, default=16, help="of an encoder that are probed, too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(words)
    if unknown := [name for name in arguments.sets if name not in ("photographs", "styles", "scenes")]:
        parser.error(f"--sets {unknown[0]}: expected photographs, styles or scenes")
    return arguments


def main() -> None:
    """Measure, print, and write OUT/eyes."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    measure(arguments)


if __name__ == "__main__":
    run_main(main)
