"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import StableDiffusionPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.stable_diffusion import StableDiffusion


class ViLexPipeline(ImagePrompts, StableDiffusionPipeline):
    """StableDiffusionPipeline (1.x, 2.x) with images in its prompts; call `load_vilex` first."""

    family = StableDiffusion
