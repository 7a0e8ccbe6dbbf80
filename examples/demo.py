"""The main job, end to end: three pictures become tokens, come back, and are put into other words.

python examples/demo.py [-o DIR] [IMAGE ...]
"""

import argparse
import time
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
COUNTS = (1, 4, 16, 75)
SAMPLES = 4
STEPS = 16
PHRASES = ("<it:{n}> in the snow", "<it:{n}> at night", "<it:{n}> on a red background", "<it:{n}> in outline style")
WORD_TOKENS = 4  # few tokens leave the words room to change things
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, default=sorted((HERE / "images").glob("*.png")))
    parser.add_argument("-o", "--out", type=Path, default=Path("out/demo"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    with timed("import and load the model"):
        from vilex.cli.manifest import Output
        from vilex.cli.reconstruction import reconstruct_at, reconstruction_grid, words_row
        from vilex.guidance import Guidance
        from vilex.lexicon import VisualLexicon
        from vilex.pictures.fit import square
        from vilex.pictures.load import load_image

        lexicon = VisualLexicon.from_pretrained("nano")
    with Output(arguments.out, "demo", {"model": "nano", "steps": STEPS, "seed": 0}) as output:
        for path in arguments.images:
            image = load_image(path)
            with timed(f"{path.name}: encode to {lexicon.num_tokens} tokens"):
                tokens = lexicon.encode([image])[0]
            with timed(f"{path.name}: re-create from {', '.join(map(str, COUNTS))} tokens, {SAMPLES} samples each"):
                drawn = reconstruct_at(lexicon, tokens, COUNTS, SAMPLES, guidance=Guidance(2.0), steps=STEPS)
            with timed(f"{path.name}: with words"):
                prompts = [phrase.format(n=WORD_TOKENS) for phrase in PHRASES]
                changed = lexicon.generate(prompts, {"it": tokens}, guidance=Guidance(2.0, 4.0), steps=STEPS)
            source = square(image, lexicon.t2i.image_size)
            output.picture(f"{path.stem}-tokens.png", reconstruction_grid(source, drawn), source=path.name)
            row = words_row(source, dict(zip([phrase[9:] for phrase in PHRASES], changed, strict=True)))
            output.picture(f"{path.stem}-words.png", row, source=path.name)
    console.print(f"\n{len(output.files)} pictures in {arguments.out}/ ({time.perf_counter() - started:.0f} s in all):")
    for file in output.files:
        console.print(f"  {arguments.out / file['file']}")


class timed:
    """Print what a step did and how long it took."""

    def __init__(self, title: str):
        self.title = title

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        console.print(f"{time.perf_counter() - self.started:6.2f} s  {self.title}")


if __name__ == "__main__":
    main()
