"""Which batches a queue of keys takes."""

from __future__ import annotations

import pytest

from ltk.engine.build import build, plan_data
from ltk.errors import UsageError
from ltk.models.queue import KeyQueue
from ltk.resolve import resolve_config


def test_whole_batches_must_fill_the_queue() -> None:
    queue = KeyQueue(256, 2, 3)
    queue.check_batch_size(64)
    with pytest.raises(UsageError, match="256 keys cannot be filled with whole batches of 60") as caught:
        queue.check_batch_size(60)
    assert "method.queue_size=240 or 300" in caught.value.hint
    assert "--batch-size 64 or 32" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        KeyQueue(8, 2, 3).check_batch_size(10)
    assert "method.queue_size=10," in caught.value.hint
    with pytest.raises(UsageError) as caught:
        KeyQueue(1, 2, 3).check_batch_size(64)
    assert caught.value.hint == "Use --set method.queue_size=64."


@pytest.mark.parametrize("method", ["paco", "gpaco"])
def test_a_run_with_an_undividable_queue_does_not_start(method: str) -> None:
    options = {"optim.batch_size": 48, "run.device": "cpu", "run.threads": 1}
    with pytest.raises(UsageError, match="whole batches of 48"):
        build(plan_data(resolve_config(method, dataset="digits", options=options).config))
