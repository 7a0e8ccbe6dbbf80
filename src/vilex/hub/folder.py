"""Model folders: where they come from, whether they are whole, and their fingerprint."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from vilex.checks import instance
from vilex.errors import InputError, printable

if TYPE_CHECKING:
    from torch import nn

HUB_PATTERNS = ("*.json", "*.txt", "*.md", "*.model")
HUB_WEIGHTS = tuple(
    f"{name}{part}.safetensors" for name in ("model", "diffusion_pytorch_model") for part in ("", "-*-of-*")
)
UNUSED = ("safety_checker", "watermarker")
KERNELS = (None, "eager", "sdpa", "flash_attention_2")  # transformers' own; any other name is fetched and run
EMBEDDED = {"nano": Path(__file__).parents[1] / "models" / "nano"}  # encoders inside the package, with their base


def resolve(name: str | Path, weights: bool = True) -> Path:
    """An embedded model by its name, a local folder as it is; anything else as a hub id, from the cache or the hub.

    `owner/name@revision` asks for a branch, tag or commit; with HF_HUB_OFFLINE=1 only the cache is asked.

    Args:
        weights: whether the weights are wanted too, or the configuration alone.
    Raises:
        InputError: neither a folder nor a model that can be fetched.
    """
    instance(name, str | Path, "model", "a folder or a hub id")
    path, (wanted, _, revision) = EMBEDDED.get(str(name), Path(name)), str(name).partition("@")
    if not wanted:
        raise InputError("expected a model's name, got an empty one; give a folder or a hub id")
    if _exists(path) and path.is_dir():
        return path
    if _exists(path):
        raise InputError(f"{name}: a file; expected a model's folder, or a hub id")
    if wanted.startswith((".", "/", "~")) or wanted.count("/") > 1 or not wanted.isprintable():
        raise InputError(f"{name}: no such model folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(wanted, revision=revision or None, allow_patterns=list(HUB_PATTERNS)))
        if weights:
            snapshot_download(wanted, revision=revision or None, allow_patterns=weight_patterns(folder))
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[-1 if lines[0].startswith("404") else 0]
        raise InputError(f"{name}: neither a folder here nor a model the hub could give ({reason})") from None


def resolve_base(name: str | Path, weights: bool = True) -> Path:
    """A frozen text-to-image model as `resolve` finds it; for an encoder that brings its own, as `nano` does, that."""
    folder = resolve(name, weights)
    config = folder / "config.json"
    if (folder / "model_index.json").is_file() or not config.is_file():
        return folder
    base = read_json(config).get("base_model")
    return folder / base if isinstance(base, str) and base and is_inside(folder, base) else folder


def is_inside(folder: Path, name: str | Path) -> bool:
    """Whether a relative path names a folder below another one."""
    return (folder / name).is_dir() and (folder / name).resolve().is_relative_to(folder.resolve())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # too long a name, or a folder one may not look into
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:80]}: cannot be looked at ({reason}); give a folder or a hub id") from None


def weight_patterns(folder: Path) -> list[str]:
    """The weights to fetch for a folder of configurations: of a pipeline, its parts' own.

    Neither other precisions' nor what else lies in a repository, as a single file of all parts.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        return [*HUB_WEIGHTS, *(f"*/{name}" for name in HUB_WEIGHTS)]
    parts = [name for name, value in read_json(index).items() if isinstance(value, list) and name not in UNUSED]
    return [f"{part}/{name}" for part in parts for name in HUB_WEIGHTS]


def read_json(path: Path, remedy: str | None = None) -> dict[str, Any]:
    """A file that holds a JSON object.

    Args:
        remedy: what to do if it does not; of a model's folder by default, which is fetched again.
    Raises:
        InputError: it is missing, cannot be read, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: missing; {remedy or 'the model folder is incomplete, fetch it again'}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy or 'mend its permissions'}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; {remedy or 'the file is damaged, fetch it again'}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object; {remedy or 'the file is damaged, fetch it again'}")
    return content


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """An encoder's config.json.

    Raises:
        InputError: the folder holds no encoder, or no weights that can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; give an encoder's, as a run's encoder/")
    config = read_json(folder / "config.json")
    if config.get("model_type") != "vilex":
        found = f"model_type is {config.get('model_type')!r}"
        raise InputError(f"{folder}: no ViLex encoder ({found}); that of a run is in its folder encoder/")
    refuse_kernels(folder / "config.json", config)
    check_safetensors(folder)
    return config


def refuse_kernels(path: Path, config: Any) -> None:
    """Raise InputError if a transformers configuration names a kernel, which would be fetched and run."""
    for key, value in config.items() if isinstance(config, dict) else ():
        refuse_kernels(path, value)
        if key.endswith("_implementation") and not isinstance(value, dict) and value not in KERNELS:
            raise InputError(f"{path}: asks for {key} {value!r}, code of elsewhere; remove that line")


@contextmanager
def as_configured(folder: Path) -> Iterator[None]:
    """A model is made of configurations in here: they may say anything, and what they break on is their own.

    Raises:
        InputError: in place of whatever the libraries raise.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = printable(error)[:300] or type(error).__name__
        raise InputError(f"{folder}: cannot be loaded: {reason}; fetch it again") from None


def check_safetensors(folder: Path) -> None:
    """Raise InputError that names the file if `folder` holds no weights or damaged ones."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{folder}: no .safetensors weights; pickled weights are never read: convert them, or name a "
            "revision of the hub that has them, as in OWNER/NAME@refs/pr/1"
        )
    for path in files:
        try:
            with safetensors.safe_open(path, "pt"):
                pass
        except (safetensors.SafetensorError, OSError):
            raise InputError(f"{path}: damaged weights; fetch the file again") from None


def check_whole(name: str | Path, module: "nn.Module", about: dict[str, Any], exact: bool = False) -> None:
    """Raise InputError if weights of a loaded module were in no file; its loader has made them up.

    Args:
        about: what `from_pretrained(..., output_loading_info=True)` tells.
        exact: whether its files may hold nothing that the module has no place for. Else they may, but no more layers
            of a stack than it has.
    """
    made_up = sorted(set(about["missing_keys"]) & set(module.state_dict()))
    if made_up:
        raise InputError(f"{name}: has no weights for {_first(made_up)}; fetch it again")
    if other := sorted(about.get("mismatched_keys", ())):
        key, held, wanted = other[0]
        raise InputError(
            f"{name}: {key} is {list(held)} in the weights and {list(wanted)} by config.json, which do not belong "
            "together; fetch both again"
        )
    unused = sorted(about["unexpected_keys"])
    if not exact:
        unused = [key for key in unused if _is_one_more(key, module)]
    if unused:
        raise InputError(
            f"{name}: config.json has no place for the weights {_first(unused)}, which do not belong together; "
            "fetch both again"
        )


def _is_one_more(key: str, module: "nn.Module") -> bool:
    """Whether a weight is of a layer that would follow those of one of a module's stacks."""
    parts, names = key.split("."), [f"{name}." for name in module.state_dict()]
    for i, part in enumerate(parts):
        stack = "".join(f"{one}." for one in parts[:i])
        if part.isdigit() and any(name.startswith(f"{stack}0.") for name in names):
            return not any(name.startswith(f"{stack}{part}.") for name in names)
    return False


def _first(keys: list[str]) -> str:
    return keys[0] + f" and {len(keys) - 1} others" * (len(keys) > 1)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file below a folder, by its path inside it."""
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*.safetensors"))}


def weights_hash(folder: Path) -> str:
    """One SHA-256 for the weight files right in a folder: the file's own, or of all hashes if sharded."""
    digests = [file_hash(path) for path in sorted(folder.glob("*.safetensors"))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def check_fingerprint(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    """The SHA-256 of those of the expected weight files that are there, by their path inside the folder.

    Files of other names (another precision's, say) are not compared.

    Raises:
        InputError: a weight file differs from the one the encoder was trained on.
    """
    found = {name: file_hash(folder / name) for name in expected if (folder / name).is_file()}
    for name, digest in found.items():
        if digest != expected[name]:
            raise InputError(f"{folder / name}: not the weights this encoder was trained with; use the same base model")
    return found
