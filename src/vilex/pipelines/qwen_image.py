"""`DiffusionPipeline.from_pretrained(BASE, custom_pipeline=THIS_FILE, trust_remote_code=True)`."""

from diffusers import QwenImagePipeline

from vilex.pipelines.images import ImagePrompts
from vilex.t2i.qwen_image import QwenImage


class ViLexQwenImagePipeline(ImagePrompts, QwenImagePipeline):
    """QwenImagePipeline with images in its prompts; call `load_vilex` first."""

    family = QwenImage
