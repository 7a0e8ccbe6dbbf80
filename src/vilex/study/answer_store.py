"""Answers in SQLite, each on the disk before its rater sees the next question.

Write-ahead log and full synchronisation: a server that is killed, or a machine without power, loses no answer whose
page went on. A rater is a random token, which the links hold, and a number, which reports hold; nothing else.
"""

import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vilex.errors import InputError
from vilex.study.design import ANSWERS, Study

CHOICES = ("left", "right", "tie")
PERSON = "person"
IDLE = 3600.0  # seconds after which the place of who answered nothing is free again
LONGEST = 3600.0  # seconds that an answer can take; what takes longer was left open
_TABLES = """
CREATE TABLE IF NOT EXISTS study (design_sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rater (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, slot INTEGER NOT NULL,
    joined REAL NOT NULL, UNIQUE (kind, slot));
CREATE TABLE IF NOT EXISTS answer (
    rater INTEGER NOT NULL REFERENCES rater (number) ON DELETE CASCADE, trial INTEGER NOT NULL,
    criterion TEXT NOT NULL, choice TEXT NOT NULL, seconds REAL, at REAL NOT NULL,
    PRIMARY KEY (rater, trial, criterion));
"""


class StoreError(InputError):
    """The file of answers cannot be read or written."""


@dataclass(frozen=True)
class Rater:
    """number: what reports call it. kind: PERSON, or a judge's name. slot: whose trials it sees."""

    number: int
    token: str
    kind: str
    slot: int


@dataclass(frozen=True)
class GivenAnswer:
    """seconds: from the pictures' appearance; None where the browser did not say. at: seconds since 1970."""

    rater: int
    trial: int
    criterion: str
    choice: str
    seconds: float | None
    at: float


class Answers:
    """A study's answers. Any number of threads and processes may use one file.

    Raises:
        InputError: the design is another than when the first rater came.
    """

    def __init__(self, study: Study):
        self.study, self.path = study, study.folder / ANSWERS
        with self._open() as base:
            base.executescript(_TABLES)
            base.execute("BEGIN IMMEDIATE")
            known = base.execute("SELECT design_sha256 FROM study").fetchone()
            if known is None:
                base.execute("INSERT INTO study VALUES (?)", (study.design.sha256,))
            base.execute("COMMIT")
        if known is not None and known[0] != study.design.sha256:
            raise InputError(
                f"{study.folder}: design.json was changed after the first rater came; put the first one back"
            )

    def join(self, kind: str = PERSON) -> Rater | None:
        """A new rater with the first free place; None when as many as were wanted have finished, or no place is left.

        The place of who answered nothing within an hour is free again. A judge's places are its own: every judge may
        see what any person sees.
        """
        design = self.study.design
        with self._open() as base:
            base.execute("BEGIN IMMEDIATE")
            base.execute(
                "DELETE FROM rater WHERE kind = ? AND joined < ? AND number NOT IN (SELECT rater FROM answer)",
                (PERSON, time.time() - IDLE),
            )
            if kind == PERSON and self._finished(base) >= design.plan.raters:
                base.execute("COMMIT")
                return None
            taken = {slot for (slot,) in base.execute("SELECT slot FROM rater WHERE kind = ?", (kind,))}
            slot = next((one for one in range(len(design.slots)) if one not in taken), None)
            if slot is None:
                base.execute("COMMIT")
                return None
            token = secrets.token_urlsafe(18)
            added = base.execute(
                "INSERT INTO rater (token, kind, slot, joined) VALUES (?, ?, ?, ?)", (token, kind, slot, time.time())
            )
            base.execute("COMMIT")
            return Rater(int(added.lastrowid or 0), token, kind, slot)

    def find(self, token: str) -> Rater | None:
        """The rater of a link."""
        with self._open() as base:
            row = base.execute("SELECT number, token, kind, slot FROM rater WHERE token = ?", (token,)).fetchone()
            return None if row is None else Rater(*row)

    def rater(self, number: int) -> Rater:
        """A person who rates, by number.

        Raises:
            InputError: there is none.
        """
        raters = [rater for rater in self.raters() if rater.kind == PERSON]
        for rater in raters:
            if rater.number == number:
                return rater
        numbers = ", ".join(str(rater.number) for rater in raters) or "none yet"
        raise InputError(f"rater {number}: there is none; their numbers are {numbers}")

    def raters(self) -> list[Rater]:
        """All of them, by number."""
        with self._open() as base:
            return [Rater(*row) for row in base.execute("SELECT number, token, kind, slot FROM rater ORDER BY number")]

    def add(self, rater: Rater, trial: int, criterion: str, choice: str, seconds: float | None = None) -> bool:
        """Keep an answer; false, and nothing changed, if that question was answered before or its rater is deleted.

        Raises:
            InputError: no such question, or no such choice.
        """
        return self.add_all(rater, [(trial, criterion, choice, seconds)]) == 1

    def add_all(self, rater: Rater, given: Iterable[tuple[int, str, str, float | None]]) -> int:
        """Keep answers (trial, criterion, choice, seconds), all or none; returns how many are new. See `add`."""
        rows = [(*self._checked(rater, *one), time.time(), rater.number, rater.token) for one in given]
        with self._open() as base:
            base.execute("BEGIN IMMEDIATE")
            added = base.executemany(
                "INSERT OR IGNORE INTO answer SELECT number, ?, ?, ?, ?, ? FROM rater WHERE number = ? AND token = ?",
                rows,
            ).rowcount
            base.execute("COMMIT")
            return added

    def _checked(
        self, rater: Rater, trial: int, criterion: str, choice: str, seconds: float | None
    ) -> tuple[int, str, str, float | None]:
        plan = self.study.design.plan
        if not 0 <= trial < len(self.study.design.slots[rater.slot]) or criterion not in plan.criteria:
            raise InputError(f"no question {trial}, {criterion}")
        if choice not in CHOICES or (choice == "tie" and not plan.ties):
            raise InputError(f"{choice}: expected {', '.join(CHOICES[: 2 + plan.ties])}")
        known = seconds is not None and 0 <= seconds <= LONGEST
        return trial, criterion, choice, seconds if known else None

    def of(self, rater: Rater) -> list[GivenAnswer]:
        """A rater's answers, in the order they came."""
        return self._select("WHERE rater = ?", (rater.number,))

    def all(self) -> list[GivenAnswer]:
        """Everybody's answers, in the order they came."""
        return self._select("", ())

    def _select(self, where: str, values: tuple[int, ...]) -> list[GivenAnswer]:
        with self._open() as base:
            rows = base.execute(
                f"SELECT rater, trial, criterion, choice, seconds, at FROM answer {where} ORDER BY at, rowid", values
            )
            return [GivenAnswer(*row) for row in rows]

    def next_question(self, rater: Rater) -> tuple[int, int, tuple[int, str] | None]:
        """How many of a rater's questions are answered, of how many, and the first that is not: (trial, criterion)."""
        criteria = self.study.design.plan.criteria
        questions = [(i, one) for i in range(len(self.study.design.slots[rater.slot])) for one in criteria]
        with self._open() as base:
            given = set(base.execute("SELECT trial, criterion FROM answer WHERE rater = ?", (rater.number,)))
        return len(given), len(questions), next((one for one in questions if one not in given), None)

    def delete(self, rater: Rater) -> int:
        """Forget a rater: the answers, how many there were, and the token; the place is free again."""
        with self._open() as base:
            base.execute("PRAGMA secure_delete = ON")
            base.execute("BEGIN IMMEDIATE")
            gone = base.execute("DELETE FROM answer WHERE rater = ?", (rater.number,)).rowcount
            base.execute("DELETE FROM rater WHERE number = ?", (rater.number,))
            base.execute("COMMIT")
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return gone

    def export(self, rater: Rater) -> dict[str, Any]:
        """All that is stored of a rater, without the methods' names: what the rater saw, and said."""
        design = self.study.design
        trials = design.slots[rater.slot]
        return {
            "rater": rater.number,
            "answers": [
                {
                    "criterion": answer.criterion, "choice": answer.choice, "seconds": answer.seconds,
                    "at": answer.at, "source": design.picture(trials[answer.trial]),
                    "left": design.picture(trials[answer.trial], trials[answer.trial].left),
                    "right": design.picture(trials[answer.trial], trials[answer.trial].right),
                }
                for answer in self.of(rater)
            ],
        }  # fmt: skip

    def _finished(self, base: sqlite3.Connection) -> int:
        """How many people have answered everything."""
        plan, slots = self.study.design.plan, self.study.design.slots
        rows = base.execute(
            "SELECT slot, COUNT(*) FROM answer JOIN rater ON rater = number WHERE kind = ? GROUP BY number", (PERSON,)
        )
        return sum(count >= len(slots[slot]) * len(plan.criteria) for slot, count in rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection that commits each statement by itself."""
        try:
            base = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be opened ({error}); give a folder that can be written to") from None
        try:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = FULL")
            base.execute("PRAGMA foreign_keys = ON")
            yield base
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self.path}: {error}; see that the disk has room and nothing else holds it") from None
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path}: {error}; put back a copy of it") from None
        finally:
            base.close()
