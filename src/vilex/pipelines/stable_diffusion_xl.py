"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import StableDiffusionXLPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.stable_diffusion_xl import StableDiffusionXL


class ViLexXLPipeline(ImagePrompts, StableDiffusionXLPipeline):
    """StableDiffusionXLPipeline with images in its prompts; call `load_vilex` first."""

    family = StableDiffusionXL
