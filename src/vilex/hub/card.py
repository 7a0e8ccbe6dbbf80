"""An encoder's model card, written from its own configuration."""

from pathlib import Path

from vilex.encoder import ViLexConfig
from vilex.hub.folder import read_encoder_config

CARD = """\
---
library_name: vilex
pipeline_tag: image-to-image
tags:
- vilex
- visual-lexicon
- text-to-image{base_tag}
---

# {title}

A Visual Lexicon encoder (Wang et al., CVPR 2025, arXiv 2412.06774): an image becomes 1 to {tokens} tokens in the
vocabulary space of a frozen text-to-image model, to use alone or among words.

```python
from vilex import VisualLexicon

lexicon = VisualLexicon.from_pretrained("{repository}")
tokens = lexicon.encode(["cat.png"])  # [1, {tokens}, {width}]
lexicon.generate("<cat:16> in the snow", {{"cat": tokens[0]}})
```

| | |
| --- | --- |
| frozen model | {base} |
| tower | {tower}, {image_size} pixels |
| pooler | {blocks} blocks, {tokens} queries |
| method | {method} |
{training}
The frozen model's weights are recognised by their SHA-256:

{hashes}
"""


def write_card(folder: Path, repository: str) -> Path:
    """Write `folder`/README.md from its config.json, unless someone wrote one already.

    Raises:
        InputError: the folder holds no encoder.
    """
    config = read_encoder_config(folder)
    path = folder / "README.md"
    if not path.is_file():
        path.write_text(model_card(ViLexConfig(**config), repository), encoding="utf-8")
    return path


def model_card(config: ViLexConfig, repository: str) -> str:
    """The card of an encoder; only what its configuration says."""
    base = str(config.base_model)
    on_hub = base.count("/") == 1 and not base.startswith((".", "/"))
    rows = [f"| {name} | {value} |" for name, value in config.training.items() if not isinstance(value, dict)]
    return CARD.format(
        title=repository.split("/")[-1], repository=repository, base=base if on_hub else Path(base).name,
        base_tag=f"\nbase_model: {base.split('@')[0]}" if on_hub else "", tower=config.tower.get("model_type"),
        image_size=config.image_size, blocks=config.blocks, tokens=config.num_tokens, width=config.width,
        method=config.method, training="".join(f"{row}\n" for row in rows),
        hashes="\n".join(f"    {digest}  {name}" for name, digest in config.base_sha256.items()),
    )  # fmt: skip
