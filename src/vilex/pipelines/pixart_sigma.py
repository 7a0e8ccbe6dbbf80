"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import PixArtSigmaPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.pixart_sigma import PixArtSigma


class ViLexPixArtSigmaPipeline(ImagePrompts, PixArtSigmaPipeline):
    """PixArtSigmaPipeline with images in its prompts; call `load_vilex` first."""

    family = PixArtSigma
