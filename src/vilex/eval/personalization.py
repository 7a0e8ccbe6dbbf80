"""Ways to make a frozen model know a subject: one encoder pass, or minutes of tuning on its photographs.

Each is a context in which prompts may name the subject; what was learned is kept in files beside the pictures,
with the seconds it took, so that an interrupted evaluation need not learn again.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vilex.baselines.dreambooth import IDENTIFIER, WEIGHTS, adapted, save_adapter, tuned
from vilex.baselines.inversion import invert, save_word
from vilex.baselines.tuning import TuningSettings
from vilex.errors import InputError
from vilex.eval.dreambooth_data import Prompts, Subject
from vilex.eval.picture_store import text_key
from vilex.lexicon import VisualLexicon
from vilex.paths import write_text

WORD, SECONDS = "word.safetensors", "seconds.json"
NamedTokens = Mapping[str, Tensor]  # [n, d] by name; empty where the model itself knows the subject


@dataclass(frozen=True)
class Personalization:
    """How a subject is made known and named.

    Attributes:
        prompts: a class's prompts that name the subject.
        learn: from lexicon, subject and a folder for what is learned, a context that gives tokens by name.
        key: what is learned of a subject is known by this, for it depends on nothing else.
    """

    prompts: Callable[[Prompts, str], list[str]]
    learn: Callable[[VisualLexicon, Subject, Path], AbstractContextManager[NamedTokens]]
    key: Callable[[Subject], str]


def textual_inversion(settings: TuningSettings, vectors: int = 1) -> Personalization:
    """A new word, optimised: "a <subject> in the snow"."""

    @contextmanager
    def learn(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[NamedTokens]:
        if not is_learned(folder):
            word, seconds = invert(lexicon.t2i, subject.photos, subject.noun, vectors, settings)
            save_word(folder / WORD, word)
            write_seconds(folder, seconds)
        try:
            word = load_file(folder / WORD)["<subject>"]
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{folder / WORD}: no readable word ({error}); remove {folder} and go on") from None
        yield {"subject": word.to(lexicon.t2i.device)}

    return Personalization(
        lambda prompts, noun: prompts.fill(noun, "", f"<subject:{vectors}>"),
        learn,
        lambda subject: text_key("textual inversion", f"{vectors} {astuple(settings)}", *_all_of(subject)),
    )


def dreambooth_lora(settings: TuningSettings, prior_images: int = 32) -> Personalization:
    """Low-rank weights, trained: "a sks dog in the snow"."""

    @contextmanager
    def learn(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[NamedTokens]:
        if is_learned(folder) and (folder / WEIGHTS).is_file():
            with adapted(lexicon.t2i, folder):
                yield {}
            return
        with tuned(lexicon, subject.photos, subject.noun, settings, prior_images=prior_images) as seconds:
            save_adapter(lexicon.t2i, folder)
            write_seconds(folder, seconds)
            yield {}

    return Personalization(
        lambda prompts, noun: prompts.fill(noun, IDENTIFIER, noun),
        learn,
        lambda subject: text_key("dreambooth", f"{prior_images} {astuple(settings)}", *_all_of(subject)),
    )


def encoded(layout: str) -> Personalization:
    """One pass of the encoder over the first photograph; layout: as "<subject:16> {}", {} the caption's place."""

    @contextmanager
    def learn(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[NamedTokens]:
        photo = subject.files[0].load()
        start = time.perf_counter()
        tokens = lexicon.encode([photo])[0]
        write_seconds(folder, time.perf_counter() - start)
        yield {"subject": tokens}

    return Personalization(
        lambda prompts, noun: [layout.replace("{}", caption) for caption in prompts.captions(noun)],
        learn,
        lambda subject: text_key("encoded", subject.files[0].key),
    )


def words_alone() -> Personalization:
    """No subject, only its class."""

    @contextmanager
    def learn(lexicon: VisualLexicon, subject: Subject, folder: Path) -> Iterator[NamedTokens]:
        yield {}

    return Personalization(
        lambda prompts, noun: prompts.captions(noun), learn, lambda subject: text_key("words", subject.noun)
    )


def is_learned(folder: Path) -> bool:
    """Whether all that was to be learned lies in a folder: its seconds are written last."""
    return (folder / SECONDS).is_file()


def write_seconds(folder: Path, seconds: float) -> None:
    """Say how long a subject took, and so that it is learned."""
    write_text(folder / SECONDS, json.dumps(seconds))


def read_seconds(folder: Path) -> float | None:
    """Seconds that making a subject known took; None where nothing had to be."""
    return json.loads((folder / SECONDS).read_text()) if is_learned(folder) else None


def _all_of(subject: Subject) -> list[str]:
    return [subject.noun, *(file.key for file in subject.files)]
