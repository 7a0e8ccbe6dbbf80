import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vilex.cli.app import app
from vilex.errors import InputError
from vilex.eval.ablate import Ablation, load_grid, run_ablation
from vilex.eval.ablate import configure as configure_variant
from vilex.train.toml import build, load_toml


@pytest.fixture
def grid(tmp_path, sd_folder, tower_folder, images):
    (tmp_path / "run.toml").write_text(
        f"""
        [model]
        base = "{sd_folder[2]}"
        tower = "{tower_folder}"
        num_tokens = 4
        blocks = 2
        heads = 4
        [data]
        path = "{images}"
        [optim]
        warmup_steps = 1
        [run]
        batch_size = 2
        sample_every = 0
        """
    )
    (tmp_path / "grid.toml").write_text(
        f"""
        train = "{tmp_path / "run.toml"}"
        set = ["run.steps=2"]
        [measure]
        data = "{images}"
        images = 3
        counts = [1, 4]
        features = []
        measures = ["psnr"]
        steps = 2
        [[variants]]
        name = "2 blocks"
        [[variants]]
        name = "1 block"
        set = ["model.blocks=1"]
        """
    )
    return tmp_path / "grid.toml"


def test_each_variant_is_trained_and_measured_once(grid, tmp_path):
    words = ["eval", "ablate", str(grid), "-o", str(tmp_path / "out"), "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    results = json.loads(said.stdout.splitlines()[-1])
    assert list(results["rows"]) == ["2 blocks", "1 block"]
    assert list(results["rows"]["1 block"]) == ["PSNR, 1 token", "PSNR, 4 tokens"]
    configs = [
        json.loads((tmp_path / "out" / name / "run/encoder/config.json").read_text())
        for name in ("2-blocks", "1-block")
    ]
    assert [config["blocks"] for config in configs] == [2, 1]
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    again = CliRunner().invoke(app, words)
    assert json.loads(again.stdout.splitlines()[-1]) == results
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("pictures/**/*.png")
    }.items() <= pictures.items()


def test_a_wrong_setting_of_the_last_variant_is_found_before_the_first_trains(grid, tmp_path):
    loaded = load_toml(Ablation, grid)
    wrong = build(Ablation, {
        "train": loaded.train, "measure": {"data": loaded.measure.data},
        "variants": [{"name": "a"}, {"name": "b", "set": ["model.block=3"]}],
    })  # fmt: skip
    with pytest.raises(InputError, match=r"did you mean 'model\.blocks'"):
        run_ablation(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="all different"):
        run_ablation(
            build(Ablation, {"train": "t", "measure": {"data": "d"}, "variants": [{"name": "a"}, {"name": "a"}]}),
            tmp_path,
        )


def test_relative_paths_of_a_grid_are_relative_to_it(tmp_path, monkeypatch, configure):
    (tmp_path / "grids").mkdir()
    base, tower = configure().model.base, configure().model.tower
    (tmp_path / "grids" / "run.toml").write_text(f'model = {{base = "{base}", tower = "{tower}", heads = 4}}\n')
    (tmp_path / "grids" / "grid.toml").write_text(
        'train = "run.toml"\nset = ["data.path=images"]\nmeasure.data = "held-out"\nvariants = [{name = "a"}]\n'
    )
    monkeypatch.chdir(tmp_path)
    grid = load_grid(Path("grids/grid.toml"))
    assert grid.measure.data == str(tmp_path / "grids" / "held-out")
    config = configure_variant(grid, grid.variants[0], Path("out"), "cpu")
    assert config.data.path == str(tmp_path / "grids" / "images") and config.run.out == "out/a/run"
    with pytest.raises(InputError, match=r"measure\.counts\[1\]: expected a whole number from 1 to 75, got 0"):
        build(Ablation, {"measure": {"counts": [1, 0]}})
