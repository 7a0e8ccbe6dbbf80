"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import SanaPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.sana import Sana


class ViLexSanaPipeline(ImagePrompts, SanaPipeline):
    """SanaPipeline with images in its prompts; call `load_vilex` first."""

    family = Sana
