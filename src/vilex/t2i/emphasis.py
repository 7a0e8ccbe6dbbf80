"""What CLIP reads of stressed and of long prompts.

A position that is stressed by w moves its feature z away from what an empty prompt has there, or towards it:

    z' = z_empty + w (z - z_empty)

which is ComfyUI's reading of "(in the snow:1.3)", and for w > 1 compel's. A prompt of more positions than the encoder
has is read in chunks, each between its own [BOS] and [EOS], whose features stand one after the other, as in both; what
is pooled is the first chunk's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vilex.composition import Composed, compose, compose_chunks
from vilex.prompt import Prompt
from vilex.t2i.base import FrozenT2I
from vilex.t2i.text import TextEncoder


def clip_features(
    encoder: TextEncoder,
    prompts: Sequence[Prompt],
    tokens: Sequence[Mapping[str, Tensor]],
    features: Callable[[Any], Tensor],
    masked: bool = False,
    chunks: int | None = None,
    **how: Any,
) -> tuple[Tensor, Any]:
    """Features of B prompts, and the model's output for their first chunks.

    Args:
        tokens: [n, d] by name, for each prompt. features: of the model's output, [B, L, d].
        chunks: into how many chunks each prompt is read, what is beyond them cut; None: into one, with a warning of
            words that are cut.
        masked, how: as of `TextEncoder.read`.
    Returns:
        [B, chunks * L, d]; output of B rows.
    """
    if chunks is None:
        layouts = [compose(prompt, encoder.frame) for prompt in prompts]
    else:
        layouts = [one for prompt in prompts for one in _padded(prompt, encoder, chunks)]
    each = chunks or 1
    output, _ = encoder.read_layouts(layouts, [own for own in tokens for _ in range(each)], masked, **how)
    found = features(output)
    if any(layout.emphasis for layout in layouts):
        nothing, _ = encoder.read_layouts([compose(Prompt(()), encoder.frame)], [{}], masked, **how)
        found = _stress(found, layouts, features(nothing))
    first = output if each == 1 else type(output)(**{name: _every(value, each) for name, value in output.items()})
    return found.reshape(len(prompts), -1, found.shape[-1]), first


def chunks_of(prompts: Sequence[Prompt], t2i: FrozenT2I) -> int:
    """Into how many chunks the longest of some prompts is read."""
    return max(len(compose_chunks(one, encoder.frame)) for one in prompts for encoder in t2i.encoders)


def _padded(prompt: Prompt, encoder: TextEncoder, chunks: int) -> list[Composed]:
    layouts = compose_chunks(prompt, encoder.frame)[:chunks]
    return layouts + [compose(Prompt(()), encoder.frame)] * (chunks - len(layouts))


def _stress(found: Tensor, layouts: Sequence[Composed], nothing: Tensor) -> Tensor:
    weights = torch.tensor([layout.emphasis or [1.0] * len(layout.ids) for layout in layouts]).to(found)[..., None]
    return torch.where(weights == 1, found, nothing + weights * (found - nothing))


def _every(value: Any, each: int) -> Any:
    """The rows of first chunks."""
    return tuple(one[::each] for one in value) if isinstance(value, tuple) else value[::each]
