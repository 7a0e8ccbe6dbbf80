"""Going on: what is saved, which checkpoint is used, what may differ."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.runs import losses, same, weights
from vilex.cli.app import app
from vilex.data import make_loader
from vilex.errors import InputError
from vilex.settings import build
from vilex.train import training as training_module
from vilex.train.checkpoint import list_checkpoints, load_checkpoint, newest_whole
from vilex.train.config import TrainConfig
from vilex.train.engine import Engine
from vilex.train.loop import train
from vilex.train.resume import RULES
from vilex.train.run_folder import run_folder
from vilex.train.toml import to_dict
from vilex.train.training import Training


@pytest.fixture
def configure(configure):
    """As everywhere, with a warm-up that does not depend on the number of steps."""

    def make(out="run", **sections):
        return configure(out, **{**sections, "optim": {"warmup_steps": 1, **sections.get("optim", {})}})

    return make


def steps_saved(config):
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(Path(config.run.out) / "checkpoints")]


def newest(config):
    return list_checkpoints(Path(config.run.out) / "checkpoints")[-1]


def test_other_settings_do_not_resume_unless_said(configure):
    train(configure(run={"steps": 2}), quiet=True)
    with pytest.raises(InputError, match=r"run\.batch_size = 4, not 2; .*--accept run\.batch_size"):
        train(configure(run={"steps": 2, "batch_size": 2}), quiet=True)
    with pytest.raises(InputError, match=r"model\.blocks = 2, not 1; give another run\.out, or the same settings"):
        train(configure(run={"steps": 2}, model={"blocks": 1}), quiet=True, accept=["optim.pooler_lr"])
    for name in ("model.blocks", "run.out", "data.pth"):
        with pytest.raises(InputError, match=f"--accept {name}: expected one of "):
            train(configure(run={"steps": 2}), quiet=True, accept=[name])


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"step": 1, "files": 3}', '{"step": "a", "files": {}}'])
def test_a_state_that_no_run_writes_is_a_damaged_checkpoint(tmp_path, content):
    (tmp_path / "step-0000001").mkdir()
    (tmp_path / "step-0000001" / "state.json").write_text(content)
    with pytest.raises(InputError, match=r"state\.json: damaged checkpoint .*none before it is whole"):
        newest_whole(tmp_path)


def test_a_setting_that_did_not_exist_counts_as_its_default(configure):
    config = configure(run={"steps": 1}, objective={"noise_from": 0.0})
    train(config, quiet=True)
    path = newest(config) / "state.json"
    state = json.loads(path.read_text())
    del state["config"]["objective"]["noise_from"], state["config"]["optim"]["clip_norm"]
    path.write_text(json.dumps(state))
    train(config, quiet=True)
    with pytest.raises(InputError, match=r"objective\.noise_from = 0\.0, not 0\.5"):
        train(configure(run={"steps": 1}, objective={"noise_from": 0.5}), quiet=True)


def test_sources_of_an_older_run_count_with_their_defaults():
    sources = {"data": {"sources": [{"path": "a"}, {"path": "b", "weight": 2.0}]}}
    config = build(TrainConfig, sources)
    before = json.loads(json.dumps(to_dict(config)))
    for source in before["data"]["sources"]:
        del source["stream"]
    assert RULES.check(before, config, (), "run") == []


def test_steps_can_be_extended_and_the_rate_follows(configure, capsys):
    train(configure(run={"steps": 3}), quiet=True)
    longer = configure(run={"steps": 6})
    train(longer)
    said = capsys.readouterr().err
    assert "run.steps 3 -> 6: the rate follows the longer schedule" in said and "goes on from step 3 of 6" in said
    assert sorted(losses(longer)) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InputError, match=r"run\.steps = 6, not 5"):
        train(configure(run={"steps": 5}), quiet=True)
    with pytest.raises(InputError, match=r"at step 6 already, past run\.steps = 5"):
        train(configure(run={"steps": 5}), quiet=True, accept=["run.steps"])
    assert logged(longer, "pooler_lr")[4:] == logged(straight(configure), "pooler_lr")[4:]


def logged(config, name):
    return [json.loads(line)[name] for line in Path(config.run.out, "log.jsonl").read_text().splitlines()]


def straight(configure):
    config = configure("straight", run={"steps": 6})
    train(config, quiet=True)
    return config


def test_another_rate_is_used_from_there_on(configure, capsys):
    train(configure(run={"steps": 8, "save_every": 2, "keep": 9}), quiet=True)
    forget_after(configure(run={"steps": 8}), 4)
    other = configure(run={"steps": 8}, optim={"pooler_lr": 1e-3, "weight_decay": 0.5})
    accept = ["optim.pooler_lr", "optim.weight_decay"]
    training = Training(other, accept=accept)
    fresh = Training(configure("fresh", run={"steps": 8}, optim={"pooler_lr": 1e-3}))
    rates = [base * law(4) for base, law in zip(fresh.schedule.base_lrs, fresh.schedule.lr_lambdas, strict=True)]
    assert training.schedule.get_last_lr() == rates and training.step == 4
    assert [group["lr"] for group in training.engine.optimizer.param_groups] == rates
    assert {group["weight_decay"] for group in training.engine.optimizer.param_groups} == {0.5}
    train(other, accept=accept)
    assert "optim.pooler_lr 0.003 -> 0.001" in capsys.readouterr().err


def forget_after(config, step):
    for path in list_checkpoints(Path(config.run.out) / "checkpoints"):
        if int(path.name.removeprefix("step-")) > step:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def test_data_that_moved(configure, images, tmp_path):
    config = configure(run={"steps": 2})
    train(config, quiet=True)
    moved = images.rename(tmp_path / "elsewhere")
    longer = configure(run={"steps": 4}, data={"path": str(moved)})
    with pytest.raises(InputError, match=r"data\.path = .*--accept data\.path"):
        train(longer, quiet=True)
    train(longer, quiet=True, accept=["data.path"])
    assert sorted(losses(longer)) == [1, 2, 3, 4]


def test_streams_read_by_another_number_of_readers(configure, images, tmp_path, capsys):
    files = sorted(images.iterdir())
    for shard in range(4):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for file in files[4 * shard : 4 * shard + 4]:
                tar.add(file, file.name)
    where = {"path": str(tmp_path / "{0..3}.tar")}
    train(configure(run={"steps": 1}, data=where), quiet=True)
    two = configure(run={"steps": 3}, data={**where, "workers": 2})
    with pytest.raises(InputError, match=r"read by 1 processes x 1 workers, now by 1 x 2; .*--accept data\.workers"):
        train(two, quiet=True)
    train(two, accept=["data.workers"])
    assert "begin the next" in capsys.readouterr().err
    _, state = load_checkpoint(newest(two))
    assert state["readers"] == [1, 2] and all(place["epoch"] >= 1 for _, _, place in state["places"])


@pytest.mark.parametrize("harm", ["cut", "missing", "changed", "state"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(configure, capsys, harm):
    config = configure(run={"steps": 4, "save_every": 2})
    train(config, quiet=True)
    expected = weights(config)
    file = newest(config) / ("state.json" if harm == "state" else "optimizer.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if harm == "changed" else content[: len(content) // 2])
    if harm == "missing":
        file.unlink()
    train(config)
    said = capsys.readouterr().err
    assert str(file) in said and "damaged checkpoint" in said and "goes on from step 2 of 4" in said
    assert steps_saved(config) == [2, 4] and same(weights(config), expected)
    assert (newest(config).parent / "step-0000004.damaged").is_dir()


def test_where_no_checkpoint_is_whole_nothing_begins_anew(configure):
    config = configure(run={"steps": 2})
    train(config, quiet=True)
    (newest(config) / "ema.safetensors").unlink()
    with pytest.raises(InputError, match=r"ema\.safetensors: damaged checkpoint .*none before it is whole"):
        train(config, quiet=True)
    assert steps_saved(config) == [2]


def test_frozen_weights_that_changed_are_refused(configure, sd_folder, tmp_path):
    config = configure(run={"steps": 1})
    train(config, quiet=True)
    copied = Path(shutil.copytree(sd_folder[2], tmp_path / "base"))
    moved = configure(run={"steps": 2}, model={"base": str(copied)})
    train(moved, quiet=True, accept=["model.base"])
    file = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] += 1e-3
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors is not what this run was trained on"):
        train(moved, quiet=True)


@pytest.mark.parametrize("where", ["loss", "gradient", "weight", "average"])
def test_what_is_no_number_is_never_saved(configure, monkeypatch, where):
    config = configure(run={"steps": 6, "save_every": 2, "keep": 9})
    original = Training._forward_backward

    def broken(self, part, share):
        loss, seen = original(self, part, share)
        if self.step == 3 and where == "loss":
            loss = loss * float("nan")
        if self.step == 3 and where == "gradient":
            self.parameters[0].grad.view(-1)[0] = float("inf")
        if self.step == 3 and where == "average":
            self.ema.shadow_params[0].view(-1)[0] = float("nan")
        return loss, seen

    monkeypatch.setattr(Training, "_forward_backward", broken)
    if where == "weight":
        whole = Training._step_optimizer

        def step(self):
            whole(self)
            if self.step == 4:
                self.parameters[0].data.view(-1)[0] = float("nan")

        monkeypatch.setattr(Training, "_step_optimizer", step)
    expected = "the loss or its gradient is no number" if where in ("loss", "gradient") else "holds what is no number"
    with pytest.raises(InputError, match=f"step 4: .*{expected}"):
        train(config, quiet=True)
    assert steps_saved(config) == [2] and not (Path(config.run.out) / "encoder").exists()
    monkeypatch.undo()
    train(config, quiet=True)
    assert steps_saved(config) == [2, 4, 6]


def test_no_step_is_saved_twice(configure, monkeypatch):
    saved = []
    original = training_module.save_checkpoint
    monkeypatch.setattr(training_module, "save_checkpoint", lambda *given: saved.append(given[1]) or original(*given))
    config = configure(run={"steps": 4, "save_every": 2})
    train(config, quiet=True)
    train(config, quiet=True)
    assert saved == [2, 4]
    training = Training(config)
    training.save()
    assert saved == [2, 4]


def test_broken_data_ends_a_run_at_a_step_that_is_saved_already(configure, tmp_path, images):
    for path in images.glob("*.png"):
        path.write_bytes(b"broken")
    config = configure(run={"steps": 9, "save_every": 1}, data={"max_bad_share": 0.01})
    for step in (1, 2):
        with pytest.raises(InputError, match=f"step {step}: 4 of 4 images are broken"):
            train(config, quiet=True)
    assert steps_saved(config)[-1] == 2


def test_processes_that_see_different_folders_are_refused(configure, monkeypatch):
    config = configure(run={"steps": 2})
    train(config, quiet=True)
    monkeypatch.setattr(Engine, "gather", lambda self, value: [value, 0])
    with pytest.raises(InputError, match=r"different checkpoints there, at steps 2, 0; run\.out must be one folder"):
        Training(config)


def test_steps_done_in_several_processes_are_the_same_steps(configure):
    whole = configure("straight", run={"steps": 6})
    train(whole, quiet=True)
    parts = configure("parts", run={"steps": 6})
    with run_folder(Path(parts.run.out)):
        for _ in range(3):
            training = Training(parts)
            batches = iter(loader_of(training))
            for _ in range(2):
                training.update(next(batches))
            training.save()
    train(parts, quiet=True)
    assert steps_saved(parts) == [4, 6] and same(weights(parts), weights(whole))


def loader_of(training):
    run = training.config.run
    return make_loader(
        training.sources, training.config.data, batch_size=run.batch_size, seed=0, start=training.step,
        steps=run.steps, image_size=training.t2i.image_size, preprocess=training.bare.preprocessing,
    )  # fmt: skip


def test_command_line_accepts(configure, images, tmp_path):
    config = configure(run={"steps": 1})
    train(config, quiet=True)
    toml = tmp_path / "run.toml"
    sections = {
        "model": {"base": config.model.base, "tower": config.model.tower, "num_tokens": 8, "blocks": 2, "heads": 4},
        "data": {"path": str(images.rename(tmp_path / "elsewhere"))},
        "optim": {"tower_lr": 1e-4, "pooler_lr": 3e-3, "warmup_steps": 1, "ema_decay": 0.99},
        "run": {"out": config.run.out, "steps": 2, "batch_size": 4, "device": "cpu", "sample_every": 0},
    }
    lines = [
        [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in s.items())] for name, s in sections.items()
    ]
    toml.write_text("\n".join(line for section in lines for line in section))
    refused = CliRunner().invoke(app, ["train", str(toml), "--quiet"])
    assert isinstance(refused.exception, InputError) and "--accept data.path" in str(refused.exception)
    accepted = CliRunner().invoke(app, ["train", str(toml), "--accept", "data.path", "--quiet"])
    assert accepted.exit_code == 0 and steps_saved(config) == [1, 2], accepted.output


def test_a_folder_that_has_grown_since_is_said(configure, images, pictures):
    config = configure(run={"steps": 2})
    train(config, quiet=True)
    assert Training(config).notes == []
    pictures[0].save(images / "8.png")
    assert "9 images, not 8 as before: samples are counted on" in Training(config).notes[0]
