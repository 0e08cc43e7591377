"""The largest label space of the field: 8,142 classes, 24,426 test images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ltk.evaluation.logits import SavedLogits, save_logits

CLASSES, IMAGES = 8142, 24426
# The peak is read from /proc: ru_maxrss of a child starts at the peak of the process that started it.
SCRIPT = r"""
import json, re, sys, time
from pathlib import Path
start = time.process_time()
from ltk.evaluation.pipeline import AS_TRAINED, Judge
result = Judge().evaluate(Path(sys.argv[1]))
figures = result.assessment().as_dict()
used = time.process_time() - start
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e6
print(json.dumps([used, peak, figures["splits"]["all"]["top1"], len(figures["per_class"]), "torch" in sys.modules]))
"""


@pytest.mark.slow
def test_inaturalist_takes_seconds_and_two_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('preset = ""\n')
    (tmp_path / "card.json").write_text('{"method": "ce", "prior": "none"}')
    rng = np.random.default_rng(0)
    target_N = np.arange(IMAGES) % CLASSES
    logits_NK = rng.standard_normal((IMAGES, CLASSES), dtype=np.float32)
    logits_NK[np.arange(IMAGES), target_N] += 3
    counts = tuple(int(n) for n in np.maximum(2, 1000 * np.exp(-np.arange(CLASSES) / 1000)))
    names = tuple(map(str, range(CLASSES)))
    save_logits(
        SavedLogits(logits_NK, target_N, np.arange(IMAGES), names, counts), tmp_path / "logits" / "test.safetensors"
    )
    del logits_NK
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    used, peak, top1, rows, has_torch = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert used < 10, "seconds of one processor"
    assert peak < 2.0, "GB"
    assert top1 == pytest.approx(0.2269, abs=0.01)
    assert rows == CLASSES
    assert not has_torch
