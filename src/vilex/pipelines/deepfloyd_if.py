"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import IFPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.deepfloyd_if import DeepFloydIF


class ViLexIFPipeline(ImagePrompts, IFPipeline):
    """IFPipeline with images in its prompts; call `load_vilex` first."""

    family = DeepFloydIF
