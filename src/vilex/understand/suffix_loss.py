"""The loss of a suffix, as big_vision's: an example's is the mean over its suffix, the batch's the mean of those.

transformers averages over all suffix tokens of a batch, where long captions weigh more. With smoothing e,

    L = -(1 - e) log p(target) - e / (V - 1) sum over the other words of log p

where torch's `label_smoothing` gives e / V to all words, the target among them: the same with e' = e V / (V - 1).
"""

import torch
from torch import Tensor

from vilex.understand.layout import UNLABELLED


def token_losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Losses [B, K - 1] of the next token; 0 where there is no label.

    Args:
        logits: [B, K, V]. labels: [B, K] of the same places; -100 where nothing is learnt. smoothing: e above.
    """
    log_p = logits[:, :-1].float().log_softmax(-1)
    wanted = labels[:, 1:]
    target = log_p.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    losses = -target
    if smoothing:
        others = log_p.sum(-1) - target
        losses = -(1 - smoothing) * target - smoothing / (logits.shape[-1] - 1) * others
    return torch.where(wanted == UNLABELLED, 0.0, losses)


def example_losses(losses: Tensor, labels: Tensor, question: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Means over each suffix.

    Args:
        losses: as `token_losses` gives them. labels, question: [B, K], of the same places as the logits.
    Returns:
        [B, Q] means and whether there is such a question, for packed rows; [B, 1] otherwise.
    """
    learnt = labels[:, 1:] != UNLABELLED
    numbers = torch.ones_like(labels[:, 1:]) if question is None else question[:, 1:]
    most = int(numbers.max())
    own = torch.stack([learnt & (numbers == number) for number in range(1, most + 1)], dim=1)  # [B, Q, K - 1]
    counts = own.sum(-1)
    return (losses[:, None] * own).sum(-1) / counts.clamp(min=1), counts > 0
