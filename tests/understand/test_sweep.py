"""A sweep gives every encoder the same grid, chooses on validation, keeps every run, and goes on where it stopped."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.understand import small
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.train.toml import load_toml
from vilex.understand import sweep as room
from vilex.understand.sweep import Sweep, run_sweep


@pytest.fixture
def toml(tmp_path, model_folder):
    small.llama(tmp_path / "base")
    lines = []
    for i, colour in enumerate(["red", "blue"] * 2):
        Image.new("RGB", (24, 20 + i), colour).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "prefix": "what colour is this", "suffix": colour, "id": i}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    (tmp_path / "run.toml").write_text(
        '[model]\nbase = "base"\n[features]\nkind = "tokens"\ngrid = 1\n'
        '[data]\ntrain = "data.jsonl"\nvalidation = "data.jsonl"\n[decode]\nmax_new_tokens = 2\n'
        '[run]\nsteps = 2\nbatch_size = 2\ndevice = "cpu"\nlog_every = 1\nlook_every = 0\n'
    )
    path = tmp_path / "sweep.toml"
    path.write_text(
        f'train = "run.toml"\nencoders = ["{model_folder}", "nano"]\nscore = "loss"\ntest = "data.jsonl"\n'
        '[grid]\n"optim.lr" = [1e-9, 1e-2]\n'
    )
    return path


def test_the_same_grid_for_every_encoder_and_the_best_by_validation(toml, tmp_path, monkeypatch):
    said = CliRunner().invoke(app, ["understand", "sweep", str(toml), "-o", str(tmp_path / "out"), "--json"])
    assert said.exit_code == 0, said.exception
    table = json.loads(said.stdout)
    assert len(table["runs"]) == 4 and len({run["folder"] for run in table["runs"]}) == 4
    for encoder, best in table["best"].items():
        scores = {tuple(run["settings"]): run["score"] for run in table["runs"] if run["encoder"] == encoder}
        assert scores.keys() == {("optim.lr=1e-09",), ("optim.lr=0.01",)}
        assert best["settings"] == ["optim.lr=0.01"] and best["validation"] == [max(scores.values())]
        assert len(best["test"]) == 1
    assert (tmp_path / "out" / "sweep.md").read_text().count("| best |") == 2
    monkeypatch.setattr(room, "transfer", None)  # nothing is run again
    again = CliRunner().invoke(app, ["understand", "sweep", str(toml), "-o", str(tmp_path / "out"), "--json"])
    assert json.loads(again.stdout) == table
    toml.write_text('set = ["optim.b2=0.9"]\n' + toml.read_text())
    other = CliRunner().invoke(app, ["understand", "sweep", str(toml), "-o", str(tmp_path / "out"), "--json"])
    assert isinstance(other.exception, InputError) and "holds a run with other settings" in str(other.exception)


def test_tasks_own_scores_choose_and_further_seeds_run_the_best_alone(toml, tmp_path):
    data = tmp_path / "data.jsonl"
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    more = [{**line, "id": f"c{line['id']}", "prefix": "caption en", "task": "flickr8k"} for line in lines]
    data.write_text("\n".join(map(json.dumps, [*({**line, "task": "gqa"} for line in lines), *more])))
    sweep = load_toml(
        Sweep, toml, ["score=task", "seeds=[0, 1, 2]", "scouts=1", 'encoders=["nano"]', 'set=["data.pack=2"]']
    )
    table = run_sweep(sweep, tmp_path / "out", quiet=True)
    best = table["best"]["nano"]
    assert [(run["settings"], run["seed"]) for run in table["runs"]] == [
        (("optim.lr=1e-09",), 0), (("optim.lr=0.01",), 0), (tuple(best["settings"]), 1), (tuple(best["settings"]), 2)
    ]  # fmt: skip
    assert len(best["test"]) == len(best["folders"]) == 3
    numbers = best["numbers"][0]
    assert best["test"][0] == pytest.approx((numbers["gqa"]["exact_match"] + numbers["flickr8k"]["cider"]) / 2)
    answers = tmp_path / "out" / best["folders"][2] / "test.jsonl"
    answers.write_text("kept")
    assert run_sweep(sweep, tmp_path / "out", quiet=True) == table and answers.read_text() == "kept"
    data.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=r"example 0: of no task; set data.task, or give each example a 'task'"):
        run_sweep(sweep, tmp_path / "out", quiet=True)


def test_a_grid_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'grid: "optim.lr": expected a list of values, got 0.1'):
        run_sweep(Sweep(grid={"optim.lr": 0.1}), tmp_path)
