"""A ring buffer of past embeddings and their labels (He et al.: "Momentum contrast", 2020, section 3.1)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.errors import UsageError

EMPTY = -1  # the label of a slot that holds no key yet

QueueInit = Literal["official", "unit", "empty"]


def initial_keys(noise_QE: Tensor, init: QueueInit) -> Tensor:
    """Return what a queue holds before the first key.

    Args:
        noise_QE: standard normal numbers.
        init: "official" divides each column by its length (so that a key has length about sqrt(E / Q)), "unit" each
            row (keys of length 1), "empty" gives zeros.
    """
    if init == "empty":
        return torch.zeros_like(noise_QE)
    return F.normalize(noise_QE, dim=0 if init == "official" else 1)


class KeyQueue(nn.Module):
    """The newest Q keys; the oldest are overwritten.

    Args:
        size: Q.
        width: E, numbers per key.
        num_classes: K; the first labels are uniform in [0, K), or ``EMPTY`` for "empty".
        init: see ``initial_keys``.

    Attributes:
        keys_QE: float32 keys.
        labels_Q: int64 labels, ``EMPTY`` where there is no key.
        pointer: 0-dim int64, the slot to be written next.
    """

    keys_QE: Tensor
    labels_Q: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, num_classes: int, init: QueueInit = "official") -> None:
        super().__init__()
        labels_Q = torch.full((size,), EMPTY) if init == "empty" else torch.randint(num_classes, (size,))
        self.register_buffer("keys_QE", initial_keys(torch.randn(size, width), init))
        self.register_buffer("labels_Q", labels_Q)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def check_batch_size(self, batch_size: int) -> None:
        """Check that whole batches fill the queue, so that every key stays equally long.

        A last, smaller batch of an epoch goes around the end of the ring.

        Raises:
            UsageError: they do not; the nearest sizes that do are named.
        """
        size = len(self.labels_Q)
        below = size // batch_size * batch_size
        if below == size:
            return
        divisors = [each for each in range(2, size + 1) if size % each == 0]
        queues = " or ".join(str(each) for each in (below, below + batch_size) if each)
        batches = " or ".join(map(str, sorted(divisors, key=lambda each: abs(each - batch_size))[:2]))
        other = f", or --batch-size {batches}" if batches else ""
        raise UsageError(
            f"a queue of {size} keys cannot be filled with whole batches of {batch_size}",
            f"Use --set method.queue_size={queues}{other}.",
        )

    @torch.no_grad()
    def enqueue(self, keys_BE: Tensor, labels_B: Tensor) -> None:
        """Write a batch from the pointer on, past the end back to the start; of more than Q keys the last Q stay.

        Args:
            keys_BE: new keys.
            labels_B: their int64 labels.
        """
        size, count = len(self.keys_QE), len(keys_BE)
        skipped = max(count - size, 0)
        slots = (self.pointer + torch.arange(skipped, count, device=self.pointer.device)) % size
        self.keys_QE.index_copy_(0, slots, keys_BE[skipped:].to(self.keys_QE.dtype))
        self.labels_Q.index_copy_(0, slots, labels_B[skipped:])
        self.pointer.copy_((self.pointer + count) % size)
