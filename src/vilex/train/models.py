"""What a run trains: the encoder, with its weights or as a shape alone."""

from pathlib import Path
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from vilex.checks import text
from vilex.encoder import ViLexConfig, ViLexEncoder, load_encoder
from vilex.encoder.dediffusion import WordPooler
from vilex.encoder.towers import checkpoint_tower, read_tower_settings
from vilex.errors import InputError
from vilex.hub.folder import fingerprint, resolve
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.ip_adapter import adapter_shapes, cross_attention
from vilex.train.config import TrainConfig


def new_encoder(config: TrainConfig, t2i: DiffusersT2I, base: Path) -> ViLexEncoder:
    """The encoder to train: a given one, or a pre-trained tower under a new pooler.

    A baseline (`model.method`) may start from a ViLex encoder: it takes over tower and pooler.

    Args:
        t2i: the frozen model. base: its folder, whose weights are recorded.
    Raises:
        InputError: `model.words` is no list of words, or as `load_encoder` and `load_tower`.
    """
    settings = config.model
    allowed = allowed_ids(settings.words, t2i) if settings.method == "de-diffusion" else []
    own = {**method_settings(config, t2i), "base_model": settings.base, "base_sha256": fingerprint(base)}
    before = None
    if settings.encoder:
        given = load_encoder(settings.encoder)
        before, encoder = given.config.method, _shortened(given, own)
    else:
        encoder = ViLexEncoder.from_tower(settings.tower, **pooler_settings(config, t2i.width), **own)
        encoder.pooler.match_vocabulary(*t2i.lookups)
    if isinstance(encoder.pooler, WordPooler):
        encoder.pooler.set_vocabulary(t2i.vocabulary, allowed)
    if encoder.adapter is not None and before != "ip-adapter":
        encoder.pooler.match_features()
        encoder.adapter.start_from([(layer.to_k, layer.to_v) for layer in cross_attention(t2i.unet)])
    return encoder


def allowed_ids(words: str, t2i: DiffusersT2I) -> list[int]:
    """The rows of the vocabulary that `de-diffusion` may choose: those of a list of words, or all that are words.

    Args:
        words: a text file, a word or phrase a line, or empty.
    Raises:
        InputError: the file cannot be read, has no two words, or a line that the tokenizer does not know.
    """
    wordless = set(t2i.wordless_ids)
    if not words:
        return [row for row in range(len(t2i.lookups[0])) if row not in wordless]
    try:
        lines = Path(words).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise InputError(f"model.words: {words}: {why}; name a text file with a word or phrase a line") from None
    found: set[int] = set()
    for number, line in enumerate(lines, 1):
        ids = t2i.frame.ids(text(line.strip(), f"{words}, line {number}"), inside=True) if line.strip() else []
        if not wordless.isdisjoint(ids):
            raise InputError(
                f"{words}, line {number}: '{line.strip()[:60]}' is no word of the text encoder; take it out"
            )
        found.update(ids)
    if len(found) < 2:
        raise InputError(f"model.words: {words}: expected at least two words, a word or phrase a line")
    return sorted(found)


def encoder_shape(config: TrainConfig, t2i: DiffusersT2I) -> ViLexEncoder:
    """The same encoder without weights, on the meta device; only its configuration is read."""
    settings, own = config.model, method_settings(config, t2i)
    if settings.encoder:
        given = ViLexConfig.from_pretrained(resolve(settings.encoder, weights=False)).to_dict()
        shape = ViLexConfig(**{**given, **own})
    else:
        tower = read_tower_settings(settings.tower)
        size = tower.get("image_size", 224)
        shape = ViLexConfig(tower=tower, image_size=size, **pooler_settings(config, t2i.width), **own)
    with torch.device("meta"):
        return ViLexEncoder(shape)


def method_settings(config: TrainConfig, t2i: DiffusersT2I) -> dict[str, Any]:
    """What a `ViLexConfig` says of tokens, of how they speak to the frozen model, and of pictures not square.

    Raises:
        InputError: so many tokens do not fit into a prompt.
    """
    method, room = config.model.method, t2i.frame.room
    if method != "ip-adapter" and config.model.num_tokens > room:
        raise InputError(
            f"model.num_tokens: {config.model.num_tokens}, but a prompt of {t2i.pipelines[0]} has room for {room}; "
            "ask for no more"
        )
    own: dict[str, Any] = {"method": method, "num_tokens": config.model.num_tokens}
    if config.data.fit:
        own["fit"] = config.data.fit
    if method == "de-diffusion":
        own["vocabulary_size"] = len(t2i.vocabulary)
    if method == "ip-adapter":
        own["adapter_shapes"] = adapter_shapes(t2i)
    return own


def _shortened(given: ViLexEncoder, own: dict[str, Any]) -> ViLexEncoder:
    """A given encoder's weights under other settings: its first queries, its tower and pooler."""
    if own["num_tokens"] > given.config.num_tokens:
        raise InputError(
            f"model.num_tokens: {own['num_tokens']}, but model.encoder has {given.config.num_tokens}; ask for no more"
        )
    encoder = ViLexEncoder(ViLexConfig(**{**given.config.to_dict(), **own}))
    state = given.state_dict()
    state["pooler.queries"] = state["pooler.queries"][: own["num_tokens"]]
    encoder.load_state_dict(state, strict=False)
    return encoder


def checkpoint_activations(t2i: DiffusersT2I, encoder: ViLexEncoder) -> None:
    """All that gradients pass computes its activations again in the backward pass instead of holding them."""
    t2i.network.enable_gradient_checkpointing()
    for reader in t2i.encoders:
        reader.model.activation_checkpointing_enable()
        for layer in reader.model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.training = True  # transformers asks the layer itself; its parts, dropout among them, stay frozen
    checkpoint_tower(encoder.tower)


def pooler_settings(config: TrainConfig, width: int) -> dict[str, Any]:
    """The pooler's part of a `ViLexConfig`; width: d of the frozen model's vocabulary."""
    settings = config.model
    return {
        "width": width,
        "blocks": settings.blocks,
        "heads": settings.heads,
        "mlp_ratio": settings.mlp_ratio,
        "pooler_width": settings.pooler_width,
    }
