"""A training step of one stream with mixup: images mixed in pairs, and the losses of both labels.

Zhang et al.: "mixup: beyond empirical risk minimization", ICLR 2018, https://arxiv.org/abs/1710.09412.

Suffixes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ltk import draws
from ltk.methods.functional import mixup
from ltk.numerics import at_least_float32
from ltk.types import Batch

_OWN, _PARTNER = range(2)
Loss = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def mixup_step(
    batch: Batch,
    key: Tensor,
    alpha: float,
    *,
    predict: Callable[[Tensor], Tensor],
    loss: Loss,
    mix_images: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the loss of a step and its logits_BK.

    Args:
        batch: of one view.
        key: 0-dim, one per step: the mixing weight and the partners.
        alpha: the weight is drawn from Beta(alpha, alpha); 0 is no mixup.
        predict: logits_BK of images.
        loss: of logits_BK, target_B, key_B and which label of the pair it is, 0 or 1; a loss that draws folds the last
            into the keys.
        mix_images: mix the images; False mixes the losses alone.
    """
    (x,) = batch.views
    if alpha == 0:
        logits_BK = at_least_float32(predict(x))
        return loss(logits_BK, batch.target_B, batch.key_B, _OWN), logits_BK
    weight, partner_B = draws.mixing(key, len(x), alpha)
    logits_BK = at_least_float32(predict(mixup(x, x[partner_B], weight) if mix_images else x))
    own = loss(logits_BK, batch.target_B, batch.key_B, _OWN)
    other = loss(logits_BK, batch.target_B[partner_B], batch.key_B, _PARTNER)
    return mixup(own, other, weight), logits_BK
