"""A long-tailed data set of the real shape, from the command line: trained, killed, resumed, packed, evaluated.

Lists and class counts are those of the data set (ImageNet-LT: 115,846 + 20,000 + 50,000 lines, 1,000 classes), images
are tiny JPEGs written on the fly, the network is tiny. Stage by stage ltk runs as a user starts it; printed are each
one's seconds (by the clock, and of processors) and peak memory, and whether the runs agree to the last bit.

    python benchmarks/large.py
    python benchmarks/large.py --dataset inat2018 --method balanced-softmax --json
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._measure import show
from benchmarks._synthetic import write_data_set

_IMAGE, _STORED = 28, 32  # a view; as it lies in a pack
_SAVE_STEPS = 50
_LTK = ("-m", "ltk")
_BATCH_BY_BATCH = ("-c", "import ltk.data.banks as b; b._SHARE_OF_MEMORY = 0; from ltk.cli import main; main()")
_MARK = "metrics.jsonl"


class Stages:
    """Runs ``ltk`` stage by stage and keeps seconds and peak memory.

    Args:
        folder: working directory of the commands.
        threads: of each command.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._environment = folder, {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.results: dict[str, dict[str, Any]] = {}

    def run(
        self, stage: str, *arguments: str, how: Sequence[str] = _LTK, kill_after: Path | None = None, fine: int = 0
    ) -> str:
        """Run a stage and return what it printed.

        Args:
            stage: its name in the table.
            arguments: those of ``ltk``.
            how: it is started.
            kill_after: kill -9 a second after this file has appeared.
            fine: the exit code that is expected.

        Raises:
            RuntimeError: another exit code.
        """
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as shown:
            process = subprocess.Popen(
                [sys.executable, *how, *arguments],
                cwd=self._folder,
                env=self._environment,
                stdout=shown,
                stderr=subprocess.STDOUT,
            )
            if kill_after:
                _kill(process, kill_after)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            shown.seek(0)
            text = shown.read()
        if process.returncode != fine:
            raise RuntimeError(f"{stage}: exit code {process.returncode}\n{text}")
        self._note(stage, time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        return text

    def write(self, name: str, root: Path, pixels: int, per_class: int) -> None:
        """Write the data set, as a stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        made = write_data_set(name, root, pixels=pixels, per_class=per_class)
        stage = f"write {' + '.join(f'{count:,}' for count in made.values())} images"
        self._note(stage, time.perf_counter() - wall, time.process_time() - cpu)

    def _note(self, stage: str, seconds: float, cpu: float, peak_kb: int = 0) -> None:
        self.results[stage] = {"seconds": round(seconds, 1), "cpu": round(cpu, 1), "peak_mb": round(peak_kb / 1024)}
        print(f"{stage}: {self.results[stage]}", file=sys.stderr, flush=True)


def _kill(process: subprocess.Popen[bytes], mark: Path) -> None:
    while not mark.exists():
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)


def run_stages(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Run all stages in a folder; return their figures and the few-shot table."""
    stages, root = Stages(folder, options.threads), folder / "data"
    stages.write(options.dataset, root, options.pixels, options.per_class)
    where = ("--dataset", options.dataset, "--root", str(root))
    settings = {
        "model.width": options.width,
        "model.pretrained": "false",
        "data.image_size": _IMAGE,
        "views.recipes": '["crop-flip"]',  # the published views hide the patterns of tiny images
        "optim.lr": 0.1,
        "optim.schedule": '{kind = "constant"}',
        "run.threads": options.threads,
        "run.save_steps": _SAVE_STEPS,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    train = ["train", options.method, *where, "--model", options.model, "--epochs", str(options.epochs)]
    train += ["--batch-size", str(options.batch), "--device", "cpu", "--set", "run.eval_batch_size=500", *words]
    killed, packed, streamed = folder / "killed", folder / "packed", folder / "streamed"
    checkpoint = killed / "checkpoints" / "previous.safetensors"
    stages.run("train until kill -9", *train, "--out", str(killed), kill_after=checkpoint, fine=-signal.SIGKILL)
    stages.run("resume to the end", "train", "--resume", str(killed))
    table = stages.run("evaluate", "eval", str(killed), "--split", "many,medium,few")
    stages.run("pack", "data", "pack", options.dataset, "--root", str(root), "--size", str(_STORED))
    stages.run("train from the pack", *train, "--out", str(packed))
    stages.run("train from the pack, batch by batch", *train, "--out", str(streamed), how=_BATCH_BY_BATCH)
    for name, run in (("the pack", packed), ("the pack batch by batch", streamed)):
        same = (run / _MARK).read_bytes() == (killed / _MARK).read_bytes()
        stages.results[f"killed run and {name} agree"] = {"same": same}
    return stages.results, table


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("imagenet-lt", "places-lt", "inat2018"), default="imagenet-lt")
    parser.add_argument("--method", default="ce", help="with a preset for large images")
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=40, help="side of the JPEGs")
    parser.add_argument("--per-class", type=int, default=8, help="files that are images of their own; the rest links")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep everything here (a temporary folder that is deleted)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ltk-large-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        results, table = run_stages(options, folder.resolve())
    finally:
        if not options.folder:
            shutil.rmtree(folder)
    rows = [["stage", "seconds", "CPU seconds", "peak MB"]]
    rows += [
        [name, f"{v['seconds']:.1f}", f"{v['cpu']:.1f}", str(v["peak_mb"])]
        for name, v in results.items()
        if "seconds" in v
    ]
    rows += [[name, "yes" if v["same"] else "NO", "", ""] for name, v in results.items() if "same" in v]
    show(results, rows, threads=options.threads, as_json=options.json)
    if not options.json:
        print("\n" + table)


if __name__ == "__main__":
    main()
