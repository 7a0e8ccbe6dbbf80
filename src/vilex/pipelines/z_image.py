"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import ZImagePipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.z_image import ZImage


class ViLexZImagePipeline(ImagePrompts, ZImagePipeline):
    """ZImagePipeline with images in its prompts; call `load_vilex` first."""

    family = ZImage
