"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import FluxPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.flux import Flux


class ViLexFluxPipeline(ImagePrompts, FluxPipeline):
    """FluxPipeline with images in its prompts; call `load_vilex` first."""

    family = Flux
