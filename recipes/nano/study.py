"""The human study of the shipped model (Table 2), ready to be answered: one command makes it and serves it.

    python -m recipes.nano.study --out OUT

Pictures are those of the report (`OUT`/report/held-out): ViLex from 1, 4, 16 and 75 tokens and the name, each against
De-Diffusion. The judge of the report sits in as a rater, if it is there. Answers of people come from people alone.
"""

import argparse
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from recipes.nano.entry import run_main
from recipes.nano.presets import Preset
from recipes.nano.tables.judge import Judge, load_judge
from recipes.nano.tables.verdicts import overlap
from vilex.errors import InputError
from vilex.eval.picture_store import ORDER, SOURCES, folder_name
from vilex.pictures.load import load_image
from vilex.study.answer_store import Answers
from vilex.study.dealing import Deal
from vilex.study.design import DESIGN, PICTURES, Study, StudyPlan, make_study
from vilex.study.folders import Method, read_method, read_sources
from vilex.study.judging import seat_judge
from vilex.train.toml import load_toml

METHODS = {  # what raters never read: row of the report
    "ViLex 1": "1-token",
    "ViLex 4": "4-tokens",
    "ViLex 16": "16-tokens",
    "ViLex 75": "75-tokens",
    "De-Diffusion": "brief-de-diffusion",
    "name": "name",
}
PLAN = StudyPlan(Deal(comparisons=40, repeats=4, checks=4, practice=2), raters=30, against="De-Diffusion")
JUDGE = "nano judge"


def smaller(raters: int, comparisons: int) -> StudyPlan:
    """`PLAN` for other numbers of raters and of comparisons."""
    repeats = min(PLAN.deal.repeats, comparisons)
    return replace(PLAN, raters=raters, deal=replace(PLAN.deal, comparisons=comparisons, repeats=repeats))


def make_nano_study(out: Path, folder: Path, plan: StudyPlan = PLAN) -> Study:
    """Make the study from the report's pictures.

    Raises:
        InputError: the report, or a row of it, was not drawn.
    """
    pictures = out / "report" / "held-out" / "pictures"
    if not (pictures.parent / ORDER).is_file():
        raise InputError(f"{pictures.parent}: no report's pictures; `python -m recipes.nano report` draws them")
    sources = read_sources(pictures / folder_name(SOURCES) / "0")
    methods = []
    for name, row in METHODS.items():
        methods.append(Method(name, row, read_method(f"{name}={_row(pictures, row)}", sources).pictures))
    return make_study(folder, methods, sources, plan)


def nano_judge(study: Study, judge: Judge) -> Callable[[str, str, str, str], str]:
    """The report's judge as a rater: what it reads in the source is true; the picture that keeps more of it wins."""
    names = sorted(study.design.pictures)
    reading = judge.read([load_image(study.folder / PICTURES / name) for name in names])
    place = {name: i for i, name in enumerate(names)}

    def kept(criterion: str, source: int, picture: int) -> float:
        if criterion == "layout":
            return float(overlap(reading.box[picture, None], reading.box[source, None])[0])
        seen = reading.concept if criterion == "semantic" else reading.style
        return float(seen[picture, seen[source].argmax()])

    def choose(criterion: str, source: str, left: str, right: str) -> str:
        one, other = (kept(criterion, place[source], place[picture]) for picture in (left, right))
        return "left" if one >= other else "right"

    return choose


def _row(pictures: Path, row: str) -> Path:
    """A row's folder; those of baselines end in a part of their weights' hash."""
    found = [pictures / row, *sorted(pictures.glob(f"{row}-" + "[0-9a-f]" * 8))]
    for folder in found:
        if folder.is_dir():
            return folder
    raise InputError(f"{pictures / row}: no such row in the report; train the baselines, then report again")


def main() -> None:
    """Make the study if it is not there, and serve it until Ctrl-C."""
    from vilex.study.rating import rating_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the recipe's folder, with the report's pictures")
    parser.add_argument("--study", type=Path, help="the study's folder; OUT/study by default")
    parser.add_argument("--raters", type=int, default=PLAN.raters, help="of a study that is made now: how many")
    parser.add_argument(
        "--comparisons", type=int, default=PLAN.deal.comparisons, help="of each, in a study that is made now"
    )
    parser.add_argument("--preset", default="cpu", help="the report's own, for its judge: cpu, gpu, or a TOML file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=7870)
    arguments = parser.parse_args()
    folder = arguments.study or arguments.out / "study"
    if (folder / DESIGN).is_file():
        study = Study.open(folder)
    else:
        study = make_nano_study(arguments.out, folder, smaller(arguments.raters, arguments.comparisons))
    answers, weights = Answers(study), arguments.out / "judge" / "model.safetensors"
    if weights.is_file() and all(rater.kind != JUDGE for rater in answers.raters()):
        path = Path(arguments.preset)
        path = path if path.suffix else Path(__file__).parent / f"{path}.toml"
        with torch.inference_mode():
            judge = load_judge(load_toml(Preset, path), arguments.out, arguments.out)
            seat_judge(answers, JUDGE, nano_judge(study, judge))
    with rating_server(study, arguments.host, arguments.port) as address, suppress(KeyboardInterrupt):
        print(f"{folder}: {address}  (Ctrl-C ends it; `vilex study report {folder}` counts)", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    run_main(main)
