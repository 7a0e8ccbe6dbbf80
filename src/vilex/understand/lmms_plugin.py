"""How lmms-eval finds a model trained here: the entry point `lmms_eval.models` of this package names `manifests`."""

from typing import Any


def manifests() -> Any:
    """What lmms-eval is told: `--model vilex` is the class in `vilex.understand.lmms_model`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="vilex", simple_class_path="vilex.understand.lmms_model.LmmsModel")
