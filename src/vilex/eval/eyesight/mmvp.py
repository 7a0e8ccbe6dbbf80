"""MMVP-VLM (Tong et al. 2024, arXiv 2401.06209) in its published form: pairs of pictures that CLIP takes for alike.

    MMVP_VLM/Questions.csv                       Question ID, Type, Statement; two rows a pair
    MMVP_VLM/MLLM_VLM Images/TYPE/ID.jpg

A pair is right if each statement, after "a photo of ", is nearer to its own picture than to the other. The number of a
model is the mean over the nine patterns of the share of their pairs that are right.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from vilex.data.example import decode_text
from vilex.errors import InputError
from vilex.eval.eyesight.scores import Patterned
from vilex.eval.eyesight.text_side import TextSide
from vilex.pictures.load import EXTENSIONS

QUESTIONS, PICTURES = "Questions.csv", "MLLM_VLM Images"
PROMPT = "a photo of {}"
FORM = "expected the published folder, with Questions.csv and MLLM_VLM Images/TYPE/ID.jpg"


@dataclass(frozen=True)
class Pair:
    """Two pictures and what is said of each. pattern: its type, as the table has it."""

    pattern: str
    pictures: tuple[Path, Path]
    statements: tuple[str, str]


def read_mmvp(folder: Path) -> list[Pair]:
    """All pairs, in the table's order.

    Raises:
        InputError: the folder is of another form, or a picture is missing.
    """
    path = folder / QUESTIONS
    try:
        text = decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {FORM}") from None
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if not rows or rows[0][:3] != ["Question ID", "Type", "Statement"]:
        raise InputError(f"{path}: expected the columns Question ID, Type, Statement")
    pairs = list(_pairs(path, rows[1:], folder / PICTURES))
    if not pairs:
        raise InputError(f"{path}: has no questions")
    return pairs


def pair_scores(side: TextSide, pairs: list[Pair], pictures: Tensor) -> Patterned:
    """Whether each pair is right. pictures: [2 * pairs, D], pair by pair."""
    said = side.texts([PROMPT.format(statement) for pair in pairs for statement in pair.statements])
    seen = F.normalize(pictures.float(), dim=1).to(said.device)
    near = said.unflatten(0, (-1, 2)) @ seen.unflatten(0, (-1, 2)).transpose(1, 2)  # [pairs, statement, picture]
    right = (near[:, 0, 0] > near[:, 0, 1]) & (near[:, 1, 1] > near[:, 1, 0])
    patterns = list(dict.fromkeys(pair.pattern for pair in pairs))
    return Patterned(right.cpu().numpy().astype(float), np.array([patterns.index(pair.pattern) for pair in pairs]))


def by_pattern(pairs: list[Pair], score: Patterned) -> dict[str, float]:
    """The share of right pairs of each pattern."""
    patterns = list(dict.fromkeys(pair.pattern for pair in pairs))
    return {one: float(score.values[score.pattern == i].mean()) for i, one in enumerate(patterns)}


def _pairs(path: Path, rows: list[list[str]], pictures: Path) -> Iterator[Pair]:
    for start in range(0, len(rows), 2):
        pair = rows[start : start + 2]
        where = f"{path}: row {start + 2}"
        if len(pair) < 2 or any(len(row) != 3 or not all(row) or not row[0].isdecimal() for row in pair):
            raise InputError(f"{where}: expected two rows of a pair, each a number, a type and a statement")
        (first, pattern, one), (second, other, two) = pair
        if int(first) % 2 == 0 or int(second) != int(first) + 1 or other != pattern:
            raise InputError(
                f"{where}: {first} and {second} are no pair; expected an odd number and the next, of one type"
            )
        files = tuple(_picture(pictures / pattern, number) for number in (first, second))
        yield Pair(pattern, (files[0], files[1]), (one, two))


def _picture(folder: Path, number: str) -> Path:
    for path in [folder / f"{number}.jpg", *sorted(folder.glob(f"{number}.*"))]:
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            return path
    raise InputError(f"{folder / number}.jpg: missing; fetch the pictures of MMVP-VLM again")
