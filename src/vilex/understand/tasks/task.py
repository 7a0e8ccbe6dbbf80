"""What a task is: a reader, a way to ask, a metric, and the numbers that big_vision trains PaliGemma on it with."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vilex.understand.examples import Example


@dataclass(frozen=True)
class Published:
    """Where a set lies, as its authors publish it.

    Attributes:
        files: annotations, in the order that the task's reader names. images: the folder of pictures.
        split: which part, where one file holds several. language: of captions in several.
        codec: of referring segmentation, whose words are the suffixes, as `load_codec` takes it; empty leaves them out.
    """

    files: tuple[Path, ...]
    images: Path
    split: str = ""
    language: str = "en"
    codec: str = ""


@dataclass(frozen=True)
class TransferNumbers:
    """big_vision's numbers at 224 pixels (configs/proj/paligemma/transfers); the paper sweeps around them.

    Attributes:
        text_length: tokens of prefix and suffix together. epochs: over pictures, or over questions where each has one.
        examples: how many are trained on, where big_vision counts those and not epochs; 0 elsewhere.
        weight_decay: absolute, added after the learning rate (AdamW's is this divided by `lr`).
        label_smoothing: shared by the other V - 1 words. dropout: of the residual branches.
        freeze_tower: and with it the projector, as big_vision does.
    """

    text_length: int = 32
    epochs: float = 10
    examples: int = 0
    batch_size: int = 256
    lr: float = 1e-5
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    freeze_tower: bool = False


@dataclass(frozen=True)
class DecodeNumbers:
    """How an answer is written: so many beams (1 is greedy), so many tokens at most."""

    beams: int = 1
    max_new_tokens: int = 32


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as configurations and the command line call it.
        forms: the files that `read` knows, in words.
        read: a published set to examples; the answers are the suffixes.
        metric: the family of numbers, a name of `vilex.understand.metrics.score`. headline: of those the paper's.
        transfer, decode: big_vision's numbers.
        vary: another way to ask the same, drawn anew each time that an example is trained on.
        frames: pictures an example has.
        splits: whether files of it hold several, so that one must be named. languages: whether captions come in many.
    """

    name: str
    forms: str
    read: Callable[[Published], list[Example]]
    metric: str
    headline: str
    transfer: TransferNumbers
    decode: DecodeNumbers = DecodeNumbers()
    vary: Callable[[Example, random.Random], Example] | None = None
    frames: int = 1
    splits: bool = False
    languages: bool = False
