"""Training at other sizes than the base model's, and in aspect buckets."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.data.samples import loader
from tests.families import FAMILIES
from vilex.cli.app import app
from vilex.data import Batch, open_sources
from vilex.data.buckets import drawn_and_seen, nearest_size, together
from vilex.data.config import DataConfig
from vilex.encoder import load_encoder
from vilex.errors import InputError
from vilex.pictures.fit import FITS, cropped, fitted
from vilex.plan.plan import describe, make_plan
from vilex.train import loop
from vilex.train.loop import train
from vilex.train.training import Training

SIZES = ("24x16", "16x24", "20x20")
PAIRS = [(24, 16), (16, 24), (20, 20)]


@pytest.fixture
def shapes(tmp_path, pictures):
    """A folder of eight pictures: wide, high and square ones."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        size = [(48, 30), (30, 50), (40, 38)][i % 3]
        picture.resize(size).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a cat in snow")
    return folder


def test_a_picture_gets_the_size_of_the_nearest_shape():
    assert [nearest_size(size, PAIRS) for size in ((48, 30), (300, 500), (41, 40), (9000, 10), (1, 1))] == [
        (24, 16), (16, 24), (20, 20), (24, 16), (20, 20),
    ]  # fmt: skip


@pytest.mark.parametrize("fit", FITS)
def test_both_models_see_the_same(pictures, fit):
    wide = pictures[0].resize((60, 30))
    drawn, seen = drawn_and_seen(wide, PAIRS, fit)
    assert drawn.tobytes() == fitted(wide, 24, 16).tobytes()  # a bucket crops what is over, whatever the fit
    assert seen.size == (45, 30) and seen.tobytes() == cropped(wide, 24, 16).tobytes()
    drawn, seen = drawn_and_seen(wide, [(16, 16)], fit)
    assert drawn.tobytes() == fitted(wide, 16, 16, fit).tobytes() and seen is wide
    drawn, seen = drawn_and_seen(wide, [(24, 16)], fit)
    assert drawn.tobytes() == fitted(wide, 24, 16, fit).tobytes()
    assert seen.size == ((45, 30) if fit == "crop" else (60, 30))


def test_a_batch_of_several_sizes_is_parted_by_size():
    pictures = [torch.full((3, *size[::-1]), float(i)) for i, size in enumerate([*PAIRS, (24, 16)])]
    pixels, sizes = together(pictures)
    assert pixels.shape == (4, 3, 24, 24) and sizes == (*PAIRS, (24, 16))
    batch = Batch(pixels, torch.arange(4.0), list("abcd"), torch.arange(4), torch.ones(4), sizes=sizes)
    parts = list(batch.split(2))
    assert [part.visits.tolist() for part in parts] == [[0, 3], [1], [2]]
    assert [part.captions for part in parts] == [["a", "d"], ["b"], ["c"]]
    for part in parts:
        for row, visit in zip(part.pixels, part.visits.tolist(), strict=True):
            assert torch.equal(row, pictures[visit])
    assert [part.visits.tolist() for part in batch.split(1)] == [[0], [3], [1], [2]]
    one, none = together(pictures[:1] * 3)
    assert one.shape == (3, 3, 16, 24) and none == ()


def test_the_loader_brings_every_picture_to_its_size(shapes):
    config = DataConfig(path=str(shapes))
    (batch,) = loader(open_sources(config), config, batch_size=8, steps=1, sizes=PAIRS)
    assert sorted(set(batch.sizes)) == sorted(PAIRS) and len(batch.sizes) == 8
    parts = list(batch.split(8))
    assert sorted(part.pixels.shape[2:] for part in parts) == sorted((height, width) for width, height in PAIRS)
    (narrow,) = loader(open_sources(config), config, batch_size=8, steps=1, sizes=[(24, 16)])
    assert narrow.pixels.shape == (8, 3, 16, 24) and narrow.sizes == ()


def settings(shapes, **run):
    return {
        "data": {"path": str(shapes), "sizes": SIZES, "fit": "squash"},
        "run": {"steps": 6, "batch_size": 6, "micro_batch": 2, "save_every": 3, **run},
    }


def weights(out):
    return load_file(out / "encoder" / "model.safetensors")


class Stop:
    """A signal that came in the first step."""

    asked = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_a_run_in_buckets_goes_on_to_the_sample(configure, shapes, monkeypatch):
    whole = train(configure("whole", **settings(shapes)), quiet=True).parent
    config = configure("parts", **settings(shapes))
    monkeypatch.setattr(loop, "StopSignal", Stop)
    for step in (1, 2):
        with pytest.raises(InputError, match=f"stopped at step {step} of 6"):
            train(config, quiet=True)
    monkeypatch.undo()
    again = train(config, quiet=True).parent
    first, second = weights(whole), weights(again)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    log = [json.loads(line)["loss"] for line in (again / "log.jsonl").read_text().splitlines()]
    assert log == [json.loads(line)["loss"] for line in (whole / "log.jsonl").read_text().splitlines()]
    with pytest.raises(InputError, match=r"data\.sizes = .*--accept data\.sizes"):
        train(replace(config, data=replace(config.data, sizes=("24x16",))), quiet=True)


def test_a_step_is_the_mean_over_its_pictures_however_they_are_parted(configure, shapes):
    losses = []
    for micro in (1, 2, 6):
        training = Training(configure(f"micro{micro}", **settings(shapes, micro_batch=micro)))
        (batch,) = loader(training.sources, training.config.data, batch_size=6, steps=1, sizes=PAIRS)
        batch.pixel_values = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        losses.append(training.update(batch).values["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) == pytest.approx(losses[2], rel=1e-5)


def test_xl_is_told_each_buckets_size_and_a_flow_is_shifted_by_it(configure, shapes, tmp_path):
    told = {}
    for name in ("sdxl", "flux"):
        folder = FAMILIES[name].make(tmp_path / name)
        small = {"base": str(folder), "num_tokens": 4, "blocks": 1, "heads": 1}
        training = Training(configure(name, model=small, **settings(shapes)))
        (batch,) = loader(training.sources, training.config.data, batch_size=6, steps=1, sizes=PAIRS)
        batch.pixel_values = torch.rand(6, 3, 32, 32)
        seen = told[name] = []

        def hear(module, args, kwargs, seen=seen):
            shape = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]).shape
            seen.append((shape, kwargs.get("added_cond_kwargs", {}).get("time_ids")))

        training.t2i.network.register_forward_pre_hook(hear, with_kwargs=True)
        training.update(batch)
        losses = training.objective.losses
        assert set(losses) == {*PAIRS, (16, 16)}
    numbers = {tuple(row.tolist()) for _, ids in told["sdxl"] for row in ids}
    assert numbers == {(height, width, 0, 0, height, width) for width, height in PAIRS}
    assert {shape[1] for shape, _ in told["flux"]} == {6 * 4, 5 * 5}
    level = torch.tensor([0.5])
    assert losses[20, 20].times(level) > losses[16, 16].times(level)


def test_a_resolution_and_its_previews(configure, shapes, tmp_path):
    how = settings(shapes, steps=2, sample_every=2, sample_images=2, batch_size=2)
    config = configure("one", data={**how["data"], "sizes": ("24x16",)}, run=how["run"])
    folder = train(config, quiet=True)
    assert load_encoder(folder).config.training["config"]["data"]["sizes"] == ["24x16"]
    (grid,) = (tmp_path / "one" / "samples").glob("*.png")
    picture = Image.open(grid)
    assert picture.height < picture.width and (picture.height - 22) % 68 == 0  # rows of 64 pixels, not of 96


def test_the_plan_counts_the_size(configure, shapes):
    own = make_plan(configure("own", data={"path": str(shapes)}))
    plans = {sizes: make_plan(configure("sized", data={"path": str(shapes), "sizes": sizes})) for sizes in
             (("16x16",), ("32x32",), ("32x16", "16x24"), ("32x16",))}  # fmt: skip
    assert plans["16x16",].memory == own.memory and plans["16x16",].flops == own.flops
    large = plans["32x32",]
    assert large.flops > own.flops and large.memory["activations"] > own.memory["activations"]
    assert plans["32x16", "16x24"].flops == plans["32x16",].flops
    assert "pictures" not in describe(own) and describe(large)["pictures"] == "32x32"
    said = "32x16, 16x24; a micro-batch is of one size, all counted as 32x16"
    assert describe(plans["32x16", "16x24"])["pictures"] == said


@pytest.mark.parametrize(
    ("sizes", "more", "line"),
    [
        (("24x15",), {}, "config: data.sizes: size 24x15: StableDiffusionPipeline draws multiples of 2 pixels"),
        (("24",), {}, "config: data.sizes: expected WIDTHxHEIGHT, as in 768x512, got '24'"),
        (("0x16",), {}, "config: data.sizes: width: expected a whole number from 8 to 8192, got 0"),
        (("24x16", "24X16"), {}, "config: data.sizes: 24x16 is given twice; give each once"),
        (SIZES, {"parallel": "fsdp"}, "run.parallel: fsdp takes one size of data.sizes"),
    ],
)
def test_sizes_that_cannot_be_are_named_before_anything_is_loaded(configure, shapes, sizes, more, line, monkeypatch):
    monkeypatch.setattr("vilex.train.training.load_t2i", None)
    how = {"data": {"path": str(shapes), "sizes": sizes}, "optim": {"name": "adamw"}, "run": more}
    with pytest.raises(InputError, match=line):
        train(configure(**how), quiet=True)
    if not more:
        with pytest.raises(InputError, match=line):
            make_plan(configure(**how))


def test_a_base_of_one_size_is_named(configure, shapes, tmp_path):
    base = {"base": str(FAMILIES["if"].make(tmp_path / "if")), "heads": 1}
    with pytest.raises(InputError, match=r"data\.sizes: size 24x16: IFPipeline draws 16x16 alone"):
        make_plan(configure(model=base, data={"path": str(shapes), "sizes": ("24x16",)}))


def test_the_command_line_takes_them(configure, shapes, tmp_path):
    config = configure("cli", data={"path": str(shapes)}, run={"steps": 1, "batch_size": 2})
    toml = tmp_path / "run.toml"
    model = {"base": config.model.base, "tower": config.model.tower, "num_tokens": 8, "blocks": 1, "heads": 1}
    sections = {
        "model": model, "data": {"path": str(shapes), "sizes": ["24x16"]},
        "optim": {"warmup_steps": 0, "name": "adamw"},
        "run": {"out": config.run.out, "steps": 1, "batch_size": 2, "device": "cpu", "sample_every": 0},
    }  # fmt: skip
    lines = [
        [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in one.items())] for name, one in sections.items()
    ]
    toml.write_text("\n".join(line for section in lines for line in section))
    done = CliRunner().invoke(app, ["train", str(toml), 'data.sizes=["24x16", "16x24"]', "--quiet"])
    assert done.exit_code == 0, done.output
    training = load_encoder(tmp_path / "cli" / "encoder").config.training
    assert training["config"]["data"]["sizes"] == ["24x16", "16x24"]
