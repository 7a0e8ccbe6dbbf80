"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import ChromaPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.chroma import Chroma


class ViLexChromaPipeline(ImagePrompts, ChromaPipeline):
    """ChromaPipeline with images in its prompts; call `load_vilex` first."""

    family = Chroma
