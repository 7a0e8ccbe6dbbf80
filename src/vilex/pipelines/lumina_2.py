"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import Lumina2Pipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.lumina_2 import Lumina2


class ViLexLumina2Pipeline(ImagePrompts, Lumina2Pipeline):
    """Lumina2Pipeline with images in its prompts; call `load_vilex` first."""

    family = Lumina2
