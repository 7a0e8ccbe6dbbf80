"""Every setting of a run, given wrongly: one line that names it, from TOML, shell and Python alike."""

import dataclasses
import glob
import json
import math
import re
import shutil
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import torch

from vilex.data.config import SourceConfig
from vilex.errors import InputError
from vilex.plan.plan import make_plan
from vilex.settings import Names, Range, build
from vilex.t2i import load_t2i
from vilex.train.config import TrainConfig
from vilex.train.consistency import settle
from vilex.train.denoising import DenoisingLoss
from vilex.train.toml import load_toml, to_dict

HINTS = {
    f"{section}.{name}": hint
    for section, kind in get_type_hints(TrainConfig).items()
    for name, hint in get_type_hints(kind, include_extras=True).items()
}
NUMBERS = {
    name: get_args(hint)
    for name, hint in HINTS.items()
    if get_origin(hint) is Annotated and Range in map(type, get_args(hint))
}
WRONG = {
    "0": 0, "-1": -1, "-0.5": -0.5, "0.5": 0.5, "1" + "0" * 30: 10**30, "1e300": 1e300, "nan": math.nan,
    "inf": math.inf, "-inf": -math.inf, "true": True, '"many"': "many", "many": "many", "[1]": [1], "{a = 1}": {"a": 1},
}  # fmt: skip


def allowed(kind, limits, value):
    """By the range alone, in other words than the code's."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and isinstance(value, float)):
        return False
    return value == value and limits.low <= value <= limits.high and abs(value) != math.inf


def test_every_number_has_a_range_and_its_default_lies_in_it():
    bare = [name for name, hint in HINTS.items() if hint in (int, float)]
    assert not bare and len(NUMBERS) > 25
    for name, (kind, limits, *_) in NUMBERS.items():
        section, key = name.split(".")
        assert allowed(kind, limits, getattr(getattr(TrainConfig(), section), key)), name


@pytest.mark.parametrize("name", NUMBERS)
def test_wrong_numbers_are_named_in_one_line(tmp_path, configure, name):
    (kind, limits, *_), (section, key), right = NUMBERS[name], name.split("."), configure()
    (tmp_path / "run.toml").write_text("")
    for text, value in WRONG.items():
        (tmp_path / "own.toml").write_text(f"[{section}]\n{key} = {repr(text) if text == 'many' else text}\n")
        ways = {
            "shell": lambda text=text: load_toml(TrainConfig, tmp_path / "run.toml", [f"{name}={text}"]),
            "TOML": lambda: load_toml(TrainConfig, tmp_path / "own.toml"),
            "Python": lambda value=value: dataclasses.replace(
                right, **{section: dataclasses.replace(getattr(right, section), **{key: value})}
            ).check(),
        }
        for way, give in ways.items():
            try:
                give()
                refused = None
            except InputError as error:
                refused = str(error)
            if allowed(kind, limits, value):
                # In range, but two settings may contradict each other; they are named then, too.
                assert refused is None or (way == "Python" and key in refused), (way, text, refused)
            else:
                assert refused and f"{name}: expected" in refused and "\n" not in refused, (way, text, refused)


@pytest.mark.parametrize("name", [name for name in HINTS if name not in NUMBERS])
@pytest.mark.parametrize("text", ["nan", "-1", "[1]", "[[1]]", "{a = 1}", '"\\u0000"'])
def test_wrong_values_of_other_settings_are_named_in_one_line(tmp_path, configure, name, text):
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(InputError) as caught:
        load_toml(TrainConfig, tmp_path / "run.toml", [f"{name}={text}"])
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optim": {"warmup_steps": 30}, "run": {"steps": 20}}, "optim.warmup_steps: 30 is more than run.steps = 20"),
        ({"optim": {"tower_lr": 0.0, "pooler_lr": 0.0}}, "optim.tower_lr and optim.pooler_lr are both 0"),
        ({"model": {"heads": 5, "pooler_width": 32}}, "model.heads: 5 do not divide model.pooler_width = 32"),
        ({"run": {"device": "gpu"}}, "run.device: 'gpu' is no device; expected cpu, cuda"),
        ({"run": {"device": ""}}, "run.device: '' is no device"),
        ({"run": {"out": ""}}, "run.out is empty"),
        ({"run": {"parallel": "fsdp"}}, "run.parallel: fsdp needs optim.name"),
    ],
)
def test_settings_that_contradict_each_other(configure, sections, message):
    config = configure()
    for section, values in sections.items():
        config = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})
    with pytest.raises(InputError, match=message):
        config.check()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"heads": 5}, "model.heads: 5 do not divide the pooler's width 32; set 4, say"),
        ({"tower": "./none"}, "none: no such model folder"),
        ({"tower": "nano"}, "tower 'nano': a ViLex encoder, with its own tower; name it as model.encoder"),
        ({"base": "./none"}, "none: no such model folder"),
        ({"encoder": "./none"}, "none: no such model folder"),
        ({"encoder": "nano"}, "model.encoder: its tokens have width 192, the words of model.base 32"),
        ({"encoder": "{encoder}", "blocks": 3}, "model.blocks: 3, but model.encoder has 2; leave model.blocks out"),
        ({"encoder": "{encoder}", "heads": 8}, "model.heads: 8, but model.encoder has 4"),
        ({"encoder": "{encoder}", "mlp_ratio": 2.0}, "model.mlp_ratio: 2.0, but model.encoder has 4.0"),
        ({"encoder": "{encoder}", "pooler_width": 16}, "model.pooler_width: 16, but model.encoder has 0"),
        ({"encoder": "{short}", "num_tokens": 75}, "model.num_tokens: 75, but model.encoder has 4; ask for no more"),
    ],
)
def test_settings_are_held_against_the_models_they_name(configure, model_folder, tmp_path, model, message):
    short = shutil.copytree(model_folder, tmp_path / "short", ignore=lambda *_: ["model.safetensors"])
    values = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**values, "num_tokens": 4}))
    places = {"{encoder}": str(model_folder), "{short}": str(short)}
    given = {key: places.get(value, value) for key, value in model.items()}
    own = configure().model
    tower = {"tower": ""} if "encoder" in given else {}
    config = build(
        TrainConfig, {"model": {"base": own.base, "tower": own.tower, **tower, **given}, "data": {"path": "x"}}
    )
    with pytest.raises(InputError, match=message) as caught:
        settle(config)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_beside_an_encoder_is_the_encoders(configure, model_folder):
    base = configure().model.base
    config = build(TrainConfig, {"model": {"base": base, "encoder": str(model_folder)}, "data": {"path": "x"}})
    model = settle(config).model
    assert (model.num_tokens, model.blocks, model.heads, model.mlp_ratio) == (75, 2, 4, 4.0)
    fewer = build(
        TrainConfig, {"model": {"base": base, "encoder": str(model_folder), "num_tokens": 6}, "data": {"path": "x"}}
    )
    assert settle(fewer).model.num_tokens == 6
    json.dumps(to_dict(config))


def test_the_embedded_model_is_a_base_and_an_encoder():
    config = build(
        TrainConfig, {"model": {"base": "nano", "encoder": "nano"}, "data": {"path": "x"}, "run": {"batch_size": 2}}
    )
    plan = make_plan(config)
    assert settle(config).model.heads == 4 and plan.trained["pooler"] > 10**6


def test_relative_paths_in_a_file_are_relative_to_it(tmp_path, monkeypatch, model_folder):
    (tmp_path / "where [it] is").mkdir()
    here = tmp_path / "where [it] is"
    (here / "towers").mkdir()
    (here / "run.toml").write_text(
        'model = {base = "../base", tower = "towers", encoder = "someone/encoder"}\nrun.out = "runs/1"\n'
        'data = {validation = "hf:someone/data", sources = ['
        '{path = "a.parquet"}, {path = "{00..03}.tar"}, {path = "/b"}]}\n'
    )
    monkeypatch.chdir(tmp_path)
    config = load_toml(TrainConfig, "where [it] is/run.toml")
    assert config.model.base == str(tmp_path / "base") and config.model.tower == str(here / "towers")
    assert config.model.encoder == "someone/encoder" and config.run.out == str(here / "runs" / "1")
    assert config.data.validation == "hf:someone/data"
    paths = [source.path for source in config.data.sources]
    assert paths == [str(here / "a.parquet"), f"{glob.escape(str(here))}/{{00..03}}.tar", "/b"]
    given = load_toml(TrainConfig, "where [it] is/run.toml", ["run.out=elsewhere", "model.tower=./towers"])
    assert given.run.out == "elsewhere" and given.model.tower == "./towers"
    beside = load_toml(TrainConfig, "where [it] is/run.toml", ["run.out=b", 'data={path="c"}'], tmp_path / "d")
    assert beside.run.out == str(tmp_path / "d" / "b") and beside.data.path == str(tmp_path / "d" / "c")
    named = {
        name for name, hint in HINTS.items() if get_origin(hint) is Annotated and Names in map(type, get_args(hint))
    }
    assert named == {
        "model.base",
        "model.tower",
        "model.encoder",
        "model.words",
        "data.path",
        "data.validation",
        "run.out",
    }
    assert get_args(get_type_hints(SourceConfig, include_extras=True)["path"])[1] is Names.PICTURES


def test_the_documentation_names_the_defaults():
    """Of docs/training.md's table of settings."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:model|data|objective|optim|run)\.[\w, .]+) \| ([^|]+) \|", text, re.MULTILINE)
    said = {}
    for names, values in rows:
        section, _, keys = names.partition(".")
        said |= {(section, key): value for key, value in zip(keys.split(", "), values.split(", "), strict=True)}
    assert len(said) > 25
    for (section, key), value in said.items():
        default = getattr(getattr(TrainConfig(), section), key)
        value = value.split(" (")[0].strip()
        if isinstance(default, bool):
            assert value == str(default).lower(), key
        elif isinstance(default, int | float):
            assert float(value) == default, key
        else:
            assert value == default, key


def test_a_share_of_the_levels_just_under_one_is_the_last_level(sd_folder):
    times = DenoisingLoss(load_t2i(sd_folder[1])).times(torch.tensor([0.0, 0.9999, 1.0]))
    assert times.tolist() == [0, 999, 999]


def test_the_papers_recipe_is_the_default():
    config = TrainConfig()
    assert (config.optim.name, config.optim.tower_lr, config.optim.pooler_lr) == ("adafactor", 1e-5, 3e-4)
    assert (config.optim.weight_decay, config.optim.warmup_steps) == (0.01, 10_000)
    assert (config.run.steps, config.run.batch_size) == (300_000, 2048)
    assert (config.model.num_tokens, config.model.blocks) == (75, 5)
