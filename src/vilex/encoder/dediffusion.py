"""De-Diffusion (Wei et al., arXiv 2311.00618): the image becomes words of the vocabulary, not points near them.

The same tower and pooler; each query then chooses one word. Training relaxes the choice by Gumbel-softmax
(arXiv 1611.01144), at a temperature that falls from 2 to 0.3; after training the likeliest word is taken, so
that the tokens are a text anyone can read, and use with any other text-to-image model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vilex.encoder.config import ViLexConfig
from vilex.encoder.pooler import AttentionPooler

WARM, COLD = 2.0, 0.3  # temperatures


class WordPooler(AttentionPooler):
    """An attention pooler whose tokens are rows of the vocabulary.

    A query's output u and word w score -|u - w|^2 / 2 times a learned scale, both on the vocabulary's own
    scale: an output layer tied to the lookup matrix.

    Args:
        config: its `vocabulary_size` is V, rows of the lookup matrix. patch_width: D of the tower's patches.
    Attributes:
        table: the lookup matrix, [V, d]. allowed: [V], the words that may be chosen.
    """

    table: Tensor
    allowed: Tensor

    def __init__(self, config: ViLexConfig, patch_width: int):
        super().__init__(config, patch_width)
        self.log_scale = nn.Parameter(-torch.tensor(float(config.width)).log() / 2)
        self.register_buffer("table", torch.zeros(config.vocabulary_size, config.width))
        self.register_buffer("allowed", torch.ones(config.vocabulary_size, dtype=torch.bool))
        self.temperature = WARM

    def anneal(self, progress: float) -> None:
        """Set the temperature for a share of the training, 0 to 1."""
        self.temperature = WARM * (COLD / WARM) ** progress

    def forward(self, patches: Tensor, num_tokens: int, noise: Tensor | None = None) -> Tensor:
        """The first `num_tokens` words' embeddings, [B, num_tokens, d].

        Args:
            patches: [B, P, D]. noise: Gumbel noise [B, num_tokens, V] in training; None takes the likeliest word.
        """
        scores = self.score(patches, num_tokens)
        if noise is None:
            return self.table[scores.argmax(-1)]
        return ((scores + noise) / self.temperature).softmax(-1) @ self.table

    def score(self, patches: Tensor, num_tokens: int) -> Tensor:
        """Every word's score in every place, [B, num_tokens, V]; ids are its argmax."""
        outputs = (super().forward(patches, num_tokens) - self.mean) / self.std
        words = (self.table - self.mean) / self.std
        scores = self.log_scale.exp() * (outputs @ words.T - words.square().sum(1) / 2)
        return scores.masked_fill(~self.allowed, float("-inf"))

    @torch.no_grad()
    def set_vocabulary(self, table: Tensor, allowed: Sequence[int]) -> None:
        """Take the words from a lookup matrix [V, d]; only those of the ids `allowed` are ever chosen."""
        self.table.copy_(table)
        self.allowed.zero_()
        self.allowed[list(allowed)] = True


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise: minus the logarithm of exponential noise."""
    return -torch.empty(shape).exponential_(generator=generator).log_()
