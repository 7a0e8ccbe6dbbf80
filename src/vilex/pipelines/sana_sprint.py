"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import SanaSprintPipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.sana_sprint import SanaSprint


class ViLexSanaSprintPipeline(ImagePrompts, SanaSprintPipeline):
    """SanaSprintPipeline with images in its prompts; call `load_vilex` first."""

    family = SanaSprint
