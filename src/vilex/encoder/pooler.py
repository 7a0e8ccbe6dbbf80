"""The attention pooler: learnable queries read an image's patches and become tokens (ViLex, section 3.1).

With patches P = tower(image) W_p, [P, w], and learnable queries q_1..q_n as z, each of the blocks computes

    z <- z + softmax((LN(z) W_q) (LN(P) W_k)^T / sqrt(w / heads)) (LN(P) W_v) W_o    in each head
    z <- z + MLP(LN(z))

and the tokens are v = mean + std * (LN(z) W_out), with mean and std of the frozen text encoder's lookup matrix.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vilex.encoder.config import ViLexConfig
from vilex.errors import InputError


class PoolerBlock(nn.Module):
    """Pre-norm cross-attention from queries to patches, then a pre-norm MLP.

    Queries do not attend to one another. So token i never depends on how many tokens are asked for,
    and a shorter code costs less.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"heads: {heads} do not divide the pooler's width {width}; choose a number that does")
        self.heads = heads
        self.query_norm = nn.LayerNorm(width)
        self.patch_norm = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """queries: [B, n, w], patches: [B, P, w] -> [B, n, w]."""
        query = self._split(self.to_query(self.query_norm(queries)))
        key, value = (self._split(x) for x in self.to_key_value(self.patch_norm(patches)).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(query, key, value)
        queries = queries + self.out(read.transpose(1, 2).flatten(2))
        return queries + self.mlp(self.mlp_norm(queries))

    def _split(self, x: Tensor) -> Tensor:
        """[B, n, w] -> [B, heads, n, w / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AttentionPooler(nn.Module):
    """n learnable queries through several blocks (ViLex, section 3.1; 5 blocks, random init).

    Args:
        config: its `width` is d, `num_tokens` n, `pooler_width` w of the blocks; d if 0. Models with several text
            encoders have wide tokens (6144 for Stable Diffusion 3), and blocks as wide would have billions of weights.
        patch_width: D of the tower's patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViLexConfig, patch_width: int):
        super().__init__()
        width, inner = config.width, config.pooler_width or config.width
        self.queries = nn.Parameter(torch.empty(config.num_tokens, inner))
        self.patch_proj = nn.Linear(patch_width, inner)
        self.blocks = nn.ModuleList(PoolerBlock(inner, config.heads, config.mlp_ratio) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        nn.init.normal_(self.queries, std=1.0)

    def forward(self, patches: Tensor, num_tokens: int) -> Tensor:
        """patches: [B, P, D] -> the first `num_tokens` tokens, [B, num_tokens, d]."""
        patches = self.patch_proj(patches)
        tokens = self.queries[:num_tokens].expand(patches.shape[0], -1, -1)  # len() would fix the batch in exports
        for block in self.blocks:
            tokens = block(tokens, patches)
        return self.mean + self.std * self.out(self.norm(tokens))

    @torch.no_grad()
    def match_vocabulary(self, *tables: Tensor) -> None:
        """Put the tokens where words are: mean and spread of the lookup matrices [V, d_i], one a text encoder.

        Words are short vectors (0.02 a dimension, say). Were that smallness in the last layer's weights, an
        optimiser's ordinary step would multiply them, and tokens many times as long as words drown the
        position embeddings they are added to. So the scale is fixed, and the weights are of ordinary size.
        """
        self.mean.copy_(torch.cat([table.float().mean(0) for table in tables]))
        self.std.copy_(torch.cat([table.float().std(0) for table in tables]))
        nn.init.normal_(self.out.weight, std=self.out.in_features**-0.5)
        nn.init.zeros_(self.out.bias)

    @torch.no_grad()
    def match_features(self) -> None:
        """Put the tokens where a text encoder's normalised features are: mean 0, spread 1."""
        self.mean.zero_()
        self.std.fill_(1.0)
