"""The watch for a loss or weight that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ltk import distributed
from ltk.engine.build import Built
from ltk.engine.position import Position
from ltk.engine.reporter import Reporter
from ltk.engine.run_dir import RunDir
from ltk.engine.step import TrainStep
from ltk.errors import DivergedError
from ltk.files import write_text
from ltk.run_files import BAD_BATCH


class DivergenceWatch:
    """Stops a run that diverges, or lets it go on as ``run.on_nan`` says.

    Args:
        built: the run.
        step: notes on the device which update was not finite.
        run_dir: where the images of a bad batch are named.
        reporter: told of updates left out.
    """

    def __init__(self, built: Built, step: TrainStep, run_dir: RunDir, reporter: Reporter) -> None:
        self._built, self._step, self._run_dir, self._reporter = built, step, run_dir, reporter
        self._allowed = built.plan.config.run.max_skips
        self._kept = f"the last good checkpoint is kept in {run_dir.checkpoints}."

    def check(self, place: Position) -> None:
        """Look at the updates since the last look, which are all of the current epoch; waits for the device.

        Args:
            place: where the run stands.

        Raises:
            DivergedError: one was not finite, and no more may be left out.
        """
        bad = int(self._step.first_bad)
        if bad < 0:
            return
        path = self._run_dir.path / BAD_BATCH
        epoch, step = place.locate(bad)
        names = self._images_of(epoch, step)
        if distributed.is_leader():
            write_text(path, "\n".join(names) + "\n")
        fault = f"the loss or a gradient of update {bad} (epoch {epoch + 1}) is not finite"
        where = f"Its {len(names)} images are named in {path}"
        skipped = int(self._step.num_bad)
        if skipped <= self._allowed:
            self._step.forget_bad()
            self._reporter.warn(f"{fault}; left out, {skipped} of at most {self._allowed}. {where}.")
            return
        advice = "--precision fp32, " if self._step.scaler.is_enabled() else ""
        raise DivergedError(
            fault + (f", after {self._allowed} that were left out" if self._allowed else ""),
            f"Try {advice}a lower --lr or --set optim.clip=5. {where}; {self._kept}",
        )

    def require_updates(self, updates: int) -> None:
        """Raise DivergedError if no update of a run was made: in fp16 the scaler may leave out all of a short one."""
        if int(self._step.num_left_out) == updates:
            fault = f"none of the {updates} updates was made: their gradients were not finite"
            raise DivergedError(fault, f"Try --precision fp32 or a lower --lr; {self._kept}")

    def require_finite(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise DivergedError if any of the tensors is not finite."""
        bad = [name for name, value in tensors.items() if not value.isfinite().all()]
        if bad:
            weights = f"{len(bad)} weights are not finite: {', '.join(bad[:3])}"
            raise DivergedError(weights, f"Try a lower --lr; {self._kept}")

    def _images_of(self, epoch: int, step: int) -> list[str]:
        names = self._built.plan.splits["train"].names
        indices = self._built.loader.indices(epoch, step)
        return [f"{stream}\t{names[i]}" for stream, index_B in indices.items() for i in index_B.tolist()]
