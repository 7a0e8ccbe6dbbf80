"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import Krea2Pipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.krea_2 import Krea2


class ViLexKrea2Pipeline(ImagePrompts, Krea2Pipeline):
    """Krea2Pipeline with images in its prompts; call `load_vilex` first."""

    family = Krea2
