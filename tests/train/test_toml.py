import pytest

from vilex.errors import InputError
from vilex.train.config import TrainConfig
from vilex.train.toml import load_toml, to_dict


def write(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_file_then_overrides(tmp_path):
    path = write(tmp_path, '[run]\nsteps = 5\n[optim]\ntower_lr = 1\n[model]\nbase = "a"\n')
    config = load_toml(TrainConfig, path, ["run.steps=7", "model.base=some/where", "data.flip=true"])
    assert (config.run.steps, config.optim.tower_lr, config.model.base, config.data.flip) == (
        7,
        1.0,
        "some/where",
        True,
    )
    assert config.optim.pooler_lr == 3e-4 and to_dict(config)["run"]["steps"] == 7


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("[run]\nstep = 5", None, "unknown key 'run.step'; did you mean 'run.steps'"),
        ("[modle]\n", None, "unknown key 'modle'; did you mean 'model'"),
        ("[run]\nsteps = 'many'", None, "run.steps: expected a whole number from 1 to 1_000_000_000, got 'many'"),
        ("[run]\nsteps = true", None, "run.steps: expected a whole number"),
        (f"[run]\nsteps = {'9' * 400}", None, "run.steps: expected a whole number from 1 to 1_000_000_000, got 999"),
        (f"[optim]\ntower_lr = {'9' * 400}", None, "optim.tower_lr: expected a number from 0 to 1"),
        ("", f"data.max_bad_share={'9' * 400}", "data.max_bad_share: expected a number"),
        ("run = 3", None, "expected a section"),
        ("[optim]\nname = 'sgd'", None, "expected one of 'adafactor', 'adamw', 'muon'"),
        ("[run", None, "not valid TOML"),
        ("", "run.steps", "expected section.key=value"),
        ("", "run.stepz=3", "did you mean 'run.steps'"),
    ],
)
def test_mistakes_are_named(tmp_path, text, override, message):
    with pytest.raises(InputError, match=message):
        load_toml(TrainConfig, write(tmp_path, text), [override] if override else [])


def test_files_of_all_kinds(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[run]\nsteps = 5\n")  # a byte order mark, as some editors write
    assert load_toml(TrainConfig, path).run.steps == 5
    wrong = {
        "[run]\nout = 'caf\xe9'": "not UTF-8",
        "a = " + "[" * 5000: "nested too deeply|not valid",
        "\0": "not valid TOML",
    }
    for text, message in wrong.items():
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=message) as caught:
            load_toml(TrainConfig, path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"cannot be read .Is a directory"):
        load_toml(TrainConfig, tmp_path)


def test_missing_file_and_sections(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        load_toml(TrainConfig, tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"model\.base is missing"):
        TrainConfig().check()
