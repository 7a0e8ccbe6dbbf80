"""Ways to make a frozen model know a subject: one encoder pass, or minutes of tuning on its photographs.

Each is a context in which prompts may name the subject; what was learned is kept in files beside the pictures,
with the seconds it took, so that an interrupted evaluation need not learn again.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from vilex.baselines.dreambooth import IDENTIFIER, load_adapter, save_adapter, tuned
from vilex.baselines.inversion import invert, save_word
from vilex.baselines.tuning import TuningSettings
from vilex.eval.dreambooth_data import Prompts, Subject
from vilex.lexicon import VisualLexicon

SECONDS = "seconds.json"
Known = Mapping[str, Tensor]  # the subject's tokens by name; empty where the model itself knows it


@dataclass(frozen=True)
class Way:
    """How a subject is made known and named.

    Attributes:
        prompts: a class's prompts that name the subject.
        known: from lexicon, subject and a folder for what is learned, a context that gives tokens by name.
    """

    prompts: Callable[[Prompts, str], list[str]]
    known: Callable[[VisualLexicon, Subject, Path], AbstractContextManager[Known]]


def textual_inversion(settings: TuningSettings, vectors: int = 1) -> Way:
    """A new word, optimised: "a <subject> in the snow"."""

    @contextmanager
    def known(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[Known]:
        path = folder / "word.safetensors"
        if not path.is_file():
            word, seconds = invert(lexicon.t2i, subject.photos, subject.noun, vectors, settings)
            write_seconds(folder, seconds)
            save_word(path, word)
        yield {"subject": load_file(path)["<subject>"].to(lexicon.t2i.device)}

    return Way(lambda prompts, noun: prompts.fill(noun, "", f"<subject:{vectors}>"), known)


def dreambooth(settings: TuningSettings, prior_images: int = 32) -> Way:
    """Low-rank weights, trained: "a sks dog in the snow"."""

    @contextmanager
    def known(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[Known]:
        if (folder / "pytorch_lora_weights.safetensors").is_file():
            load_adapter(lexicon.t2i, folder)
            try:
                yield {}
            finally:
                lexicon.t2i.unet.unload_lora()
            return
        with tuned(lexicon, subject.photos, subject.noun, settings, prior_images=prior_images) as seconds:
            write_seconds(folder, seconds)
            save_adapter(lexicon.t2i, folder)
            yield {}

    return Way(lambda prompts, noun: prompts.fill(noun, IDENTIFIER, noun), known)


def encoded(layout: str) -> Way:
    """One pass of the encoder over the first photograph; layout: as "<subject:16> {}", {} the caption's place."""

    @contextmanager
    def known(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[Known]:
        start = time.perf_counter()
        tokens = lexicon.encode(subject.photos[:1])[0]
        write_seconds(folder, time.perf_counter() - start)
        yield {"subject": tokens}

    return Way(lambda prompts, noun: [layout.format(caption) for caption in prompts.captions(noun)], known)


def words_alone() -> Way:
    """No subject, only its class."""

    @contextmanager
    def known(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[Known]:
        yield {}

    return Way(lambda prompts, noun: prompts.captions(noun), known)


def write_seconds(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SECONDS).write_text(json.dumps(seconds))


def read_seconds(folder: Path) -> float | None:
    """Seconds that making a subject known took; None where nothing had to be."""
    path = folder / SECONDS
    return json.loads(path.read_text()) if path.is_file() else None
