"""The paper's claims as numbers: what it says, what the nano model gives, and whether that holds here."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

DISTANCE = "lite0 kernel distance"
READ = (  # row: concept and style wanted
    ("sentence", 0.8, 0.8), ("1 token", 0.5, 0.5), ("4 tokens", 0.65, 0.65), ("16 tokens", 0.85, 0.8),
    ("75 tokens", 0.95, 0.9),
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A ratio or rate of the paper; `limit` is its side of the comparison that must hold."""

    said: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def claims_of(results: dict[str, Any]) -> list[Claim]:
    """Every claim that the results can speak to.

    Args:
        results: as the report writes them.
    """
    rows = results["reconstruction"]["held-out"]["rows"]
    mean = lambda row: rows[row][DISTANCE]["mean"]  # noqa: E731
    found = [Claim("75 tokens over the name alone, distance (2.07 / 6.52)", mean("75 tokens") / mean("name"), 0.32)]
    steps = ["1 token", "4 tokens", "16 tokens", "75 tokens"]
    worst = max(mean(more) / mean(fewer) for fewer, more in pairwise(steps))
    found.append(Claim("each number of tokens over the one before, distance (the worst of three)", worst, 1.0))
    if "brief de-diffusion" in rows:
        words = mean("brief de-diffusion")
        found += [
            Claim("1 token over De-Diffusion, distance (3.65 / 3.89)", mean("brief vilex, 1") / words, 0.94),
            Claim("75 tokens over De-Diffusion, distance (2.07 / 3.89)", mean("brief vilex, 75") / words, 0.54),
            Claim("De-Diffusion over the name alone, distance (3.89 / 6.52)", words / mean("name"), 0.60),
        ]
        wins = results["verdicts"]["wins"]["brief vilex, 75 against brief de-diffusion"]
        found += [
            Claim(f"75 tokens win against De-Diffusion by {name}", wins[name]["mean"], 0.9, at_most=False)
            for name in ("semantics", "layout", "style")
        ]
    return found


def readings_of(results: dict[str, Any]) -> list[Claim]:
    """What the judge must read in the embedded model's pictures, from words and from tokens."""
    names, rows = results["names"], results["verdicts"]["rows"]
    said = f"concept read right from the name, of {names['concepts']} concepts"
    found = [
        Claim("the judge's own accuracy on real scenes: concept", results["judge"]["concept"], 0.97, at_most=False),
        Claim(said, names["right"]["mean"], 0.8, at_most=False),
    ]
    for row, concept, style in READ:
        found += [
            Claim(f"concept read right from {row}", rows[row]["concept right"]["mean"], concept, at_most=False),
            Claim(f"style read right from {row}", rows[row]["style right"]["mean"], style, at_most=False),
        ]
    said = "4 tokens among words, TFG swept: prompt followed where the subject is kept no worse than by DreamBooth"
    found.append(Claim(said, followed(results["subjects"]["rows"]), 0.75, at_most=False))
    return found


def followed(rows: Mapping[str, Any]) -> float:
    """The best prompt fidelity of 4 tokens at any TFG that keeps the subject as DreamBooth does; 0 where none does."""
    kept = rows["dreambooth"]["lite0 subject"]["mean"]
    swept = [found for row, found in rows.items() if row.startswith("4 tokens, TFG")]
    return max((one["judge prompt"]["mean"] for one in swept if one["lite0 subject"]["mean"] >= kept), default=0.0)
