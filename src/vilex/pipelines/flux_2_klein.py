"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import Flux2KleinPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.flux_2_klein import Flux2Klein


class ViLexFlux2KleinPipeline(ImagePrompts, Flux2KleinPipeline):
    """Flux2KleinPipeline with images in its prompts; call `load_vilex` first."""

    family = Flux2Klein
