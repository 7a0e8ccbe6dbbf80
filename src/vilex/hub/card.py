"""An encoder's model card, written from its own configuration."""

from pathlib import Path

from vilex.encoder import ViLexConfig
from vilex.errors import InputError
from vilex.hub.folder import EMBEDDED
from vilex.hub.public import public_config

MARK = "<!-- Written by vilex from config.json, and anew at each push; to keep your own text, remove this line. -->"

CARD = """\
---
library_name: vilex
pipeline_tag: image-to-image
tags:
- vilex
- visual-lexicon
- text-to-image{base_tag}
---

{mark}

# {title}

A Visual Lexicon encoder (Wang et al., CVPR 2025, arXiv 2412.06774): an image becomes 1 to {tokens} tokens in the
vocabulary space of a frozen text-to-image model, to use alone or among words.

```python
from vilex import VisualLexicon

lexicon = VisualLexicon.from_pretrained("{repository}")
tokens = lexicon.encode(["cat.png"])  # [1, {tokens}, {width}]
lexicon.generate("<cat:{short}> in the snow", {{"cat": tokens[0]}})
```

| | |
| --- | --- |
| frozen model | {base} |
| tower | {tower}, {image_size} pixels |
| pictures that are not square | {fit} |
| pooler | {blocks} blocks, {tokens} queries |
| method | {method} |
{training}
The frozen model's weights are recognised by their SHA-256:

{hashes}
"""


SAID = {"crop": "cut to the middle", "pad": "padded with white", "squash": "squashed"}


def write_card(folder: Path, repository: str, base: str | None = None) -> Path:
    """Write `folder`/README.md as `card_for` has it; raises what that raises."""
    card, path = card_for(folder, repository, base), folder / "README.md"
    try:
        path.write_text(card, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); mend its permissions") from None
    return path


def card_for(folder: Path, repository: str, base: str | None = None) -> str:
    """The card of an encoder's folder in a repository: written anew, unless someone wrote one of their own.

    Args:
        base: hub id of the frozen model, where the encoder names a folder of this machine.
    Raises:
        InputError: the folder holds no encoder, or the repository's name is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if repository.count("/") != 1:
        raise InputError("push: expected a repository's name, OWNER/NAME, of letters, digits, '-', '_' and '.'")
    config = public_config(folder, base)
    path = folder / "README.md"
    try:
        own = path.read_text(encoding="utf-8") if path.is_file() else MARK
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read as UTF-8; save it as such, or remove it") from None
    return model_card(ViLexConfig(**config), repository) if MARK in own else own


def model_card(config: ViLexConfig, repository: str) -> str:
    """The card of an encoder; only what its configuration says."""
    base = str(config.base_model)
    on_hub = base.count("/") == 1 and not base.startswith((".", "/"))
    rows = [f"| {name} | {value} |" for name, value in config.training.items() if not isinstance(value, dict | list)]
    where = base if on_hub or base in EMBEDDED else f"{base}, in this repository"
    return CARD.format(
        mark=MARK, title=repository.split("/")[-1], repository=repository, base=where,
        base_tag=f"\nbase_model: {base.split('@')[0]}" if on_hub else "", tower=config.tower.get("model_type"),
        image_size=config.image_size, fit=SAID[config.fit], blocks=config.blocks, tokens=config.num_tokens,
        width=config.width,
        short=min(16, config.num_tokens), method=config.method, training="".join(f"{row}\n" for row in rows),
        hashes="\n".join(f"    {digest}  {name}" for name, digest in config.base_sha256.items()),
    )  # fmt: skip
