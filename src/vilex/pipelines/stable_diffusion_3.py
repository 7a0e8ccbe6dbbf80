"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import StableDiffusion3Pipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.stable_diffusion_3 import StableDiffusion3


class ViLexSD3Pipeline(ImagePrompts, StableDiffusion3Pipeline):
    """StableDiffusion3Pipeline with images in its prompts; call `load_vilex` first."""

    family = StableDiffusion3
