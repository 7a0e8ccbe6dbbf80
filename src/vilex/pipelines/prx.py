"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import PRXPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.prx import PRX


class ViLexPRXPipeline(ImagePrompts, PRXPipeline):
    """PRXPipeline with images in its prompts; call `load_vilex` first."""

    family = PRX
