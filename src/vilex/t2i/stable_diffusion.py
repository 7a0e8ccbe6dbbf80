"""The Stable Diffusion family (1.x, 2.x) in diffusers format, frozen.

SD 2.x needs no case of its own: its text encoder had its last layer removed at conversion, so the
last hidden state is the penultimate layer's; its prediction type and padding come from its configs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vilex.errors import InputError
from vilex.prompt import Prompt, compose, inject
from vilex.t2i.base import Condition
from vilex.t2i.files import check_safetensors, read_json

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
WEIGHTS = ("text_encoder", "unet", "vae")
COMPONENTS = ("tokenizer", *WEIGHTS, "scheduler")


class StableDiffusion:
    """`FrozenT2I` over a StableDiffusionPipeline folder; its attributes are described there."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny,
        scheduler_config: dict,
    ):
        self.tokenizer, self.text_encoder, self.unet, self.vae = tokenizer, text_encoder, unet, vae
        self.scheduler_config = scheduler_config
        for module in self.modules:
            module.requires_grad_(False).eval()
        unet.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and GPUs alike
        self.width = text_encoder.config.hidden_size
        self.positions = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
        self.prediction_type = scheduler_config.get("prediction_type", "epsilon")
        size = unet.config.sample_size
        self.latent_shape = (unet.config.in_channels, size, size)
        self.image_size = size * 2 ** (len(vae.config.block_out_channels) - 1)
        self._injected: Tensor | None = None
        text_encoder.get_input_embeddings().register_forward_hook(self._replace_embeddings)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "StableDiffusion":
        """Load a local pipeline folder; safetensors only.

        Raises:
            InputError: the folder is another family's, or a file is missing or damaged (it is named).
        """
        folder = Path(folder)
        autoencoder = _check_family(folder)
        for name in WEIGHTS:
            check_safetensors(folder / name)
        scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json")
        try:
            return cls(
                CLIPTokenizer.from_pretrained(folder / "tokenizer"),
                CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, use_safetensors=True),
                _load(UNet2DConditionModel, folder / "unet", dtype),
                _load(autoencoder, folder / "vae", dtype),
                scheduler_config,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from None

    @classmethod
    def from_config(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "StableDiffusion":
        """The shape alone, without weights, on the meta device; no weight file need be there.

        Raises:
            InputError: the folder is another family's, or a configuration is missing or damaged.
        """
        folder = Path(folder)
        autoencoder = _check_family(folder)
        with torch.device("meta"):
            modules = (
                CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
                UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json")),
                autoencoder.from_config(read_json(folder / "vae" / "config.json")),
            )
        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            *(torch.nn.Module.to(module, dtype) for module in modules),
            read_json(folder / "scheduler" / "scheduler_config.json"),
        )

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        return self.text_encoder, self.unet, self.vae

    @property
    def vocabulary(self) -> Tensor:
        return self.text_encoder.get_input_embeddings().weight

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def to(self, device: str | torch.device) -> "StableDiffusion":
        for module in self.modules:
            module.to(device)
        return self

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        layouts = [compose(prompt, self.tokenizer, self.positions) for prompt in prompts]
        ids = torch.stack([layout.ids for layout in layouts]).to(self.device)
        return self.condition(ids, inject(self.embed(ids), layouts, tokens))

    def embed(self, ids: Tensor) -> Tensor:
        """Look words up: ids [B, L] -> embeddings [B, L, d]."""
        return torch.nn.functional.embedding(ids, self.vocabulary)

    def condition(self, ids: Tensor, embeddings: Tensor) -> Condition:
        """Run the text encoder on embeddings [B, L, d]; ids [B, L] still tell it where [EOS] is."""
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            first_end = (ids == self.tokenizer.eos_token_id).int().argmax(1, keepdim=True)
            mask = (torch.arange(ids.shape[1], device=ids.device) <= first_end).long()
        self._injected = embeddings
        try:
            features = self.text_encoder(ids, attention_mask=mask)[0]
        finally:
            self._injected = None
        return Condition(features)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        beside = None if condition.image is None else {"ip_hidden_states": [condition.image.to(self.dtype)]}
        return self.unet(x_t.to(self.dtype), t, condition.sequence, cross_attention_kwargs=beside, return_dict=False)[0]

    def encode(self, pixels: Tensor) -> Tensor:
        encoded = self.vae.encode(pixels.to(self.dtype))
        x0 = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        return x0 * self.vae.config.scaling_factor

    def decode(self, x0: Tensor) -> Tensor:
        return self.vae.decode(x0 / self.vae.config.scaling_factor, return_dict=False)[0]

    def _replace_embeddings(self, module, inputs, output: Tensor) -> Tensor | None:
        """Forward hook on the lookup: CLIPTextModel takes no `inputs_embeds`, so they enter here."""
        return None if self._injected is None else self._injected.to(output.dtype)


def _check_family(folder: Path) -> type[AutoencoderKL] | type[AutoencoderTiny]:
    """Raise InputError unless all configurations of the family are there; returns the auto-encoder's class."""
    index = read_json(folder / "model_index.json")
    for name in COMPONENTS:
        if name not in index:
            raise InputError(f"{folder}: no Stable Diffusion 1.x or 2.x: model_index.json has no '{name}'")
    if index["text_encoder"][1] != "CLIPTextModel" or index["unet"][1] != "UNet2DConditionModel":
        raise InputError(f"{folder}: {index.get('_class_name')} is not supported; use Stable Diffusion 1.x or 2.x")
    if index["vae"][1] not in AUTOENCODERS:
        raise InputError(f"{folder}: auto-encoder {index['vae'][1]} is not supported; use AutoencoderKL")
    for name in WEIGHTS:
        read_json(folder / name / "config.json")
    return AUTOENCODERS[index["vae"][1]]


def _load(model_class, folder: Path, dtype: torch.dtype):
    return model_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False)
