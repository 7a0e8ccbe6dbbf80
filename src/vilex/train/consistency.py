"""A run's settings against the models they name, of which only configurations are read: before anything is loaded."""

import warnings
from dataclasses import replace

from vilex.encoder import ViLexConfig
from vilex.encoder.towers import read_tower_settings
from vilex.errors import InputError
from vilex.hub.folder import read_json, resolve
from vilex.settings import Default
from vilex.t2i import shape_of
from vilex.train.config import ModelConfig, TrainConfig
from vilex.train.sizes import training_sizes

POOLER = ("num_tokens", "blocks", "heads", "mlp_ratio", "pooler_width")


def settle(config: TrainConfig, width: int | None = None) -> TrainConfig:
    """The configuration as it will run: what it leaves open of the pooler is that of `model.encoder`, if given.

    Args:
        width: d of the frozen model's words; read from its folder if not known.
    Raises:
        InputError: values are out of their range, contradict one another, or do not fit the models.
    """
    config.check()
    width = width or shape_of(config.model.base).width
    if config.data.sizes:
        training_sizes(config.data, shape_of(config.model.base))
    model = _as_encoder(config.model, width) if config.model.encoder else config.model
    inner = model.pooler_width or width
    if inner % model.heads:
        fitting = [n for n in range(1, min(inner, 64) + 1) if not inner % n]
        raise InputError(
            f"config: model.heads: {model.heads} do not divide the pooler's width {inner}; "
            f"set {min(fitting, key=lambda n: abs(n - model.heads))}, say"
        )
    if not model.encoder:
        read_tower_settings(model.tower)
    return replace(config, model=model)


def _as_encoder(model: ModelConfig, width: int) -> ModelConfig:
    given = read_encoder_shape(model.encoder)
    if given.width != width:
        raise InputError(
            f"config: model.encoder: its tokens have width {given.width}, the words of model.base {width}; "
            "name the base model it was trained with, or an encoder of this one"
        )
    found = {}
    for name in POOLER:
        value, own = getattr(model, name), getattr(given, name)
        if isinstance(value, Default):
            found[name] = own
        elif value != own and not (name == "num_tokens" and value < own):
            remedy = "ask for no more" if name == "num_tokens" else f"leave model.{name} out"
            raise InputError(f"config: model.{name}: {value}, but model.encoder has {own}; {remedy}")
    if model.tower:
        warnings.warn("model.tower is not used: model.encoder brings its own", stacklevel=2)
    return replace(model, **found)


def read_encoder_shape(name: str) -> ViLexConfig:
    """An encoder's configuration, without its weights.

    Raises:
        InputError: there is none.
    """
    path = resolve(name, weights=False) / "config.json"
    values = read_json(path)
    if values.get("model_type") != "vilex":
        raise InputError(f"{path}: no ViLex encoder (model_type is {values.get('model_type')!r})")
    try:
        return ViLexConfig(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: describes no encoder ({str(error).splitlines()[0]}); fetch it again") from None
