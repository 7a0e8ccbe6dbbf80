"""What a run says where there is no terminal."""

import json
import re
from pathlib import Path

from vilex.train.engine import Engine
from vilex.train.loop import train


def test_lines_begin_with_what_was_found_and_go_on_with_losses(configure, images, capsys):
    (images / "3.txt").unlink()
    config = configure(run={"steps": 4, "log_every": 2, "micro_batch": 3})
    train(config)
    opening, *lines = capsys.readouterr().err.splitlines()
    assert opening == (
        f"{images}: 8 images, 7 with captions | batch 4 = 1 process x 4, 3 at once | {config.run.out}: new, 4 steps"
    )
    logged = [json.loads(line) for line in Path(config.run.out, "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [2, 4] and len(lines) == 2
    for line, row in zip(lines, logged, strict=True):
        step, loss = re.match(r"step (\d+)/4  loss (\S+)  grad_norm", line).groups()
        assert int(step) == row["step"] and abs(float(loss) - row["loss"]) < 1e-3
    train(config)
    opening, *lines = capsys.readouterr().err.splitlines()
    assert opening.endswith(f"goes on from step 4 of 4 ({config.run.out}/checkpoints/step-0000004)") and not lines


def test_quiet_says_nothing(configure, capsys):
    train(configure(run={"steps": 1}), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_other_processes_than_the_first_say_and_write_nothing(configure, capsys, monkeypatch):
    monkeypatch.setattr(Engine, "main", property(lambda self: False))
    config = configure(run={"steps": 2})
    train(config)
    assert capsys.readouterr().err == "" and not Path(config.run.out).exists()
