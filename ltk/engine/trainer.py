"""A built run in its directory: the loop over epochs and steps, and its exact continuation."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from ltk import distributed, draws
from ltk.checkpoint import Checkpoint, save_checkpoint, save_model
from ltk.data.longtail import assign_groups
from ltk.engine.average import WeightAverage
from ltk.engine.build import Built
from ltk.engine.device import create_autocast
from ltk.engine.divergence import DivergenceWatch
from ltk.engine.engines import create_runner
from ltk.engine.generators import gather_states, restore_own, seed_own
from ltk.engine.journal import Journal
from ltk.engine.meters import Meters
from ltk.engine.optim import create_optimizer, load_optimizer_tensors, optimizer_tensors, set_learning_rate
from ltk.engine.position import Position, read_position
from ltk.engine.reporter import Reporter
from ltk.engine.run_dir import RunDir
from ltk.engine.schedules import lr_factor
from ltk.engine.signals import StopRequest
from ltk.engine.step import TrainStep
from ltk.errors import DivergedError, StoppedError
from ltk.evaluation.metrics import GROUP_NAMES, group_accuracies
from ltk.methods.base import Method
from ltk.run_files import BEST

_CHECK_EVERY = {"cpu": 1, "cuda": 50}  # updates between looks at the loss; each look waits for the device


class Trainer:
    """A built run in its directory.

    Args:
        built: network, data, device.
        run_dir: locked.
        reporter: told how it goes.
    """

    def __init__(self, built: Built, run_dir: RunDir, reporter: Reporter) -> None:
        self.built, self.run_dir, self.reporter = built, run_dir, reporter
        self.config = built.plan.config
        settings = self.config.run
        self.optimizer = create_optimizer(self.config.optim, built.method.parameters())
        decay = self.config.optim.ema
        self.average = WeightAverage(built.method, decay) if decay else None
        self.step = TrainStep(
            built.method,
            self.optimizer,
            precision=settings.precision,
            device=built.device,
            clip=self.config.optim.clip,
            undo_bad=settings.max_skips > 0,
            average=self.average,
        )
        self.watch = DivergenceWatch(built, self.step, run_dir, reporter)
        self.autocast = create_autocast(settings.precision, built.device)
        self.meters = Meters()
        self.position = Position()
        self.journal = Journal(run_dir.path, settings.log if distributed.is_leader() else ())
        self.records: list[Mapping[str, Any]] = []
        self._root = draws.fold(draws.make_key(settings.seed, built.device), 1)
        self._group_K = assign_groups(built.plan.manifest.counts, built.plan.groups)
        self.runner = create_runner(built, self.step, self.meters, self._root, reporter, run_dir.path)
        seed_own(settings.seed)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint exactly."""
        self.built.method.load_state_dict(checkpoint.part("model"))
        if self.average:
            self.average.network.load_state_dict(checkpoint.part("model"))  # what only training needs
            self.average.load(checkpoint.part("ema"))
        load_optimizer_tensors(self.optimizer, checkpoint.part("optim"))
        self.meters.load(checkpoint.part("meter"), self.built.device)
        self.position = read_position(checkpoint.state["position"], self.built.loader)
        if checkpoint.state["scaler"] and self.step.scaler.is_enabled():
            self.step.scaler.load_state_dict(checkpoint.state["scaler"])
        self.step.load(checkpoint.part("step"))
        restore_own(checkpoint.part("rng"), self.built.device, self.config.run.seed, self.position.update)
        if distributed.is_leader():
            self.journal.rewind(self.position.epoch)

    def save(self) -> None:
        """Write a checkpoint of this moment.

        Raises:
            DivergedError: it would hold numbers that are not finite; the checkpoints there stay.
            EnvironmentFault: the disk does not take it; the checkpoints there stay.
        """
        self.watch.check(self.position)
        tensors = {f"model.{name}": value for name, value in self.built.method.state_dict().items()}
        self.watch.require_finite(tensors)
        if self.average:
            tensors |= {f"ema.{name}": value for name, value in self.average.tensors().items()}
        tensors |= {f"optim.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        tensors |= {f"meter.{name}": value for name, value in self.meters.tensors().items()}
        tensors |= {f"step.{name}": value for name, value in self.step.tensors().items()}
        tensors |= {f"rng.{name}": value for name, value in gather_states(self.built.device).items()}
        state = {
            "position": vars(self.position),
            "scaler": self.step.scaler.state_dict(),
            "config": self.config.model_dump(mode="json"),
            "fingerprint": self.built.plan.manifest.fingerprint,
            "processes": distributed.world_size(),
        }
        if distributed.is_leader():
            save_checkpoint(self.run_dir.checkpoints, Checkpoint(tensors, state, self.built.description))

    def run(self, stop: StopRequest) -> None:
        """Train to the last epoch.

        Raises:
            StoppedError: a signal asked to stop; a checkpoint was saved.
            DivergedError: a loss is not finite; the last good checkpoint is kept.
        """
        epochs = self.epochs
        if self.position.update == 0:
            self.save()
        while self.position.epoch < epochs:
            times = self._train_epoch(stop)
            self._finish_epoch(times)
            signal = distributed.largest(stop.number)
            if self.position.epoch == epochs or self.position.epoch % self.config.run.save_every == 0 or signal:
                self.save()
            if signal:
                self._stop(signal)

    def _train_epoch(self, stop: StopRequest) -> dict[str, float]:
        """Train what is left of an epoch; return how long all of it takes at the speed of this part, and that speed."""
        place, loader = self.position, self.built.loader
        began, first, before = time.perf_counter(), place.step, place.images
        self.built.method.train()
        set_learning_rate(self.optimizer, self.learning_rate)
        for images in self.runner.epoch(place.epoch, place.step, place.update):
            images *= distributed.world_size()
            place.advance(images)
            if place.update % _CHECK_EVERY[self.built.device.type] == 0:
                self.watch.check(place)
            self.reporter.step(place.epoch, place.step, loader.steps, images)
            if place.step < loader.steps:
                self._pause_point(stop)
        self.watch.check(place)
        self.built.method.after_epoch()
        if self.average:
            self.average.network.after_epoch()
        seconds, share = time.perf_counter() - began, max(1, place.step - first) / max(1, place.step)
        return {"seconds": seconds / share, "images_per_second": (place.images - before) / seconds}

    def _pause_point(self, stop: StopRequest) -> None:
        every = self.config.run.save_steps
        signal = self._agree(stop)
        if signal:
            self.save()
            self._stop(signal)
        if every and self.position.step % every == 0:
            self.save()

    def _agree(self, stop: StopRequest) -> int:
        """The signal that any process received; several processes ask each other only now and then."""
        if distributed.world_size() > 1 and self.position.update % _CHECK_EVERY[self.built.device.type]:
            return 0
        return distributed.largest(stop.number)

    @property
    def network(self) -> Method:
        """What is evaluated and kept: the averaged network where there is one."""
        return self.average.network if self.average else self.built.method

    @property
    def epochs(self) -> int:
        """How many there are; none where nothing is learnt (tau-normalisation)."""
        learns = any(parameter.requires_grad for parameter in self.built.method.parameters())
        return self.config.optim.epochs if learns else 0

    @property
    def learning_rate(self) -> float:
        """Of the current epoch."""
        optim = self.config.optim
        return optim.scaled_lr * lr_factor(optim.schedule, self.position.epoch, optim.epochs)

    def _finish_epoch(self, times: Mapping[str, float]) -> None:
        place, run = self.position, self.config.run
        means = self.meters.means()
        if not means:
            raise DivergedError(f"no update of epoch {place.epoch + 1} was finite", "Try a lower --lr.")
        if place.epoch + 1 == self.config.optim.epochs:
            self.watch.require_updates(place.update)
        record: dict[str, Any] = {"epoch": place.epoch, "lr": self.learning_rate, **means}
        if run.max_skips or self.step.scaler.is_enabled():
            record["skipped"] = int(self.step.num_left_out)
        if (place.epoch + 1) % run.eval_every == 0 or place.epoch + 1 == self.config.optim.epochs:
            record[self.built.plan.selection] = self._evaluate()
        record["best_epoch"] = place.best_epoch
        times = {"epoch": place.epoch, **times}
        if distributed.is_leader():
            self.journal.write(record, times)
        self.reporter.epoch(record, times)
        self.records.append(record)
        self.meters.reset()
        place.epoch, place.step = place.epoch + 1, 0

    def _evaluate(self) -> dict[str, float | None]:
        distributed.share_running_statistics(self.built.method)
        if self.average:
            distributed.share_running_statistics(self.average.network)
        correct_K, total_K = self.built.evaluator.count_correct(self.network, self.autocast)
        top1 = float(correct_K.sum() / total_K.sum())
        groups = group_accuracies(correct_K, total_K, self._group_K)
        if top1 > self.position.best:
            self.position.best, self.position.best_epoch = top1, self.position.epoch
            if distributed.is_leader():
                save_model(self.run_dir.checkpoints / BEST, self.network, self.built.description)
        return {"top1": top1} | {name: groups[name].top1 for name in GROUP_NAMES}

    def _stop(self, signal: int) -> None:
        place, epochs = self.position, self.config.optim.epochs
        raise StoppedError(
            f"stopped in epoch {min(place.epoch + 1, epochs)} of {epochs}, checkpoint saved",
            f"Continue with: ltk train --resume {shlex.quote(str(self.run_dir.path))}",
            signal,
        )
