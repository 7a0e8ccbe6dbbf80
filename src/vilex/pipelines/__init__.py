"""diffusers pipelines that take images in their prompts; one class a file, for `custom_pipeline` wants it so."""
