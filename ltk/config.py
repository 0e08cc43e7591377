"""The configuration of a run: its sections, their keys, defaults and limits; see ``ltk.config_text`` for the files.

Everything here works without torch, so that a typing mistake is answered at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ltk.errors import unknown_name
from ltk.methods import METHODS, is_outside
from ltk.settings import DEVICES, Settings

PerChannel = tuple[float, ...]
_MOST = 1_000_000  # of what is counted: no run has more


class SourceSettings(Settings):
    """How the images of a data set of the user's own are found; what is left out takes the data set's default."""

    train_list: Path | None = Field(None, description="list file of the training images (dataset 'list')")
    val_list: Path | None = Field(None, description="list file of the validation images")
    test_list: Path | None = Field(None, description="list file of the test images")
    csv: Path | None = Field(None, description="table with the columns path,label[,group,split] (dataset 'csv')")
    group_col: str | None = Field(None, description="column of the lot, animal or patient, kept on one side")
    group_regex: str | None = Field(None, description="pattern that finds it in the path, in parentheses")
    test: float | None = Field(None, gt=0, description="share of each class, or images, drawn for testing")
    min_per_class: int | None = Field(None, ge=1, le=_MOST, description="least images of a class in each split")
    seed: int | None = Field(None, ge=0, lt=2**32, description="seed of the drawn test split")
    allow_outside: bool | None = Field(None, description="accept paths that lead out of the root")
    upright: bool | None = Field(None, description="turn images as their EXIF orientation says")
    skip_missing: bool | None = Field(None, description="leave out listed files that do not exist")


class DataSettings(Settings):
    """Which images."""

    dataset: str = Field("digits", description="a data set of `ltk data list`, or 'folder' / 'list' with a root")
    root: Path | None = Field(None, description="where the images are")
    imb: float | None = Field(
        None, ge=1, description="cut to this imbalance factor: largest class / smallest (none: as it is)"
    )
    imb_type: Literal["exp", "step"] = Field("exp", description="profile of the long-tailed cut")
    subset: Literal["ldam", "glmc", "glmc-replacement", "first-n"] = Field(
        "ldam", description="which images of a class the cut keeps"
    )
    subset_seed: int | None = Field(None, ge=0, lt=2**32, description="seed of the cut (none: the rule's official one)")
    head: int | None = Field(
        None, ge=1, le=_MOST, description="images of the largest class (none: all that every class has)"
    )
    val: float = Field(0, ge=0, description="training images per class (or share < 1) held out to select and tune")
    groups: str = Field("auto", description="many/medium/few limits: '100,20', 'tertile', or 'auto' by data set")
    image_size: int | None = Field(None, ge=4, le=1024, description="side of a training view in pixels")
    full_resolution: bool = Field(
        True,
        description="cut resized crops out of whole image files, as in the papers; false: out of their central squares,"
        " which memory and packs hold",
    )
    mean: PerChannel | None = Field(None, description="normalisation, per channel in 0..1 (none: the data set's own)")
    std: PerChannel | None = Field(None, description="normalisation, per channel in 0..1 (none: the data set's own)")
    source: SourceSettings = Field(default_factory=SourceSettings, description="how the images are found")

    def move(self, root: Path) -> Self:
        """Return the settings for images that have moved, and with them lists and tables that are no longer there.

        Args:
            root: where the images are now; the files keep their places relative to it.
        """
        files = {key: value for key, value in self.source if isinstance(value, Path) and not value.exists()}
        if self.root is not None:
            files = {key: root / os.path.relpath(value, self.root) for key, value in files.items()}
        found = {key: value for key, value in files.items() if value.exists()}
        return self.model_copy(update={"root": root, "source": self.source.model_copy(update=found)})

    @property
    def title(self) -> str:
        """What the images are called: the data set, or the folder of the user's own."""
        return self.root.name if self.dataset in ("folder", "list", "csv") and self.root else self.dataset


class ViewSettings(Settings):
    """How training images are changed."""

    recipes: tuple[str, ...] = Field(("crop-flip",), min_length=1, description="one per view; the last one repeats")
    options: dict[str, float | int | str] = Field({}, description="arguments of the recipes, such as m = 10")


CIFAR = "cifar_resnet"  # how the names of the networks with a width begin


class ModelSettings(Settings):
    """The network."""

    backbone: str = Field("cifar_resnet32", description="any timm model, or cifar_resnet8..110")
    width: int | None = Field(None, ge=1, le=65_536, description="channels of the first stage (CIFAR ResNets alone)")
    pretrained: bool | Path = Field(False, description="timm's weights, or a local weight file")
    options: dict[str, bool | float | int | str | list[int]] = Field({}, description="more arguments of the timm model")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the network that are given."""
        return {key: value for key, value in {"width": self.width, **self.options}.items() if value is not None}


class ScheduleSettings(Settings):
    """The learning rate as a function of the epoch; see ``ltk.engine.schedules``."""

    kind: Literal["cosine", "multistep", "constant", "glmc-large"] = Field("cosine", description="the decay")
    warmup_epochs: int = Field(0, ge=0, le=_MOST, description="epochs of linear warm-up")
    warmup_start: float = Field(0.0, ge=0, le=1, description="factor from which the warm-up climbs to 1")
    warmup_form: Literal["reach", "overshoot", "inclusive"] = Field(
        "reach", description="how the warm-up ends: at 1, one step above 1 (PaCo on CIFAR), or start included (BaGMar)"
    )
    milestones: tuple[int, ...] = Field((), description="epochs at which the factor changes (multistep)")
    factors: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (), description="the factor from each milestone on (multistep)"
    )
    at_epoch_start: bool = Field(False, description="cosine stepped before each epoch: the last epoch has rate 0")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.milestones) != len(self.factors):
            raise ValueError("milestones and factors must be equally many")
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones and factors")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must ascend")
        return self


class ParentSettings(Settings):
    """The run that this one continues; see ``ltk finetune-classifier``."""

    path: Path | None = Field(None, description="a run, or a model file, whose backbone this run starts from")
    checkpoint: Literal["last", "best"] = Field("last", description="which checkpoint of that run")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="its checksum (none: whatever is found there)")
    cache: bool = Field(False, description="make the features once, of plain images, instead of anew in every epoch")
    tuned: tuple[str, ...] = Field((), description="the method's options that were chosen on the validation images")


class OptimSettings(Settings):
    """The optimiser and its budget."""

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="the optimiser")
    lr: float = Field(0.1, gt=0, le=100, description="base learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd), first beta (adamw)")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd)")
    weight_decay: float = Field(2e-4, ge=0, le=10, description="on all parameters, norms and biases included")
    batch_size: int = Field(128, ge=2, le=_MOST, description="images per update and stream, over all devices")
    lr_rule: Literal["none", "linear"] = Field("none", description="linear: lr x batch_size / reference_batch")
    reference_batch: int | None = Field(
        None, ge=2, le=_MOST, description="batch size that lr was chosen for (lr_rule linear)"
    )
    epochs: int = Field(200, ge=1, le=_MOST, description="passes over the training images")
    drop_last: bool = Field(False, description="leave out the last, smaller batch of an epoch")
    clip: float = Field(0.0, ge=0, description="largest gradient norm (0: no clipping)")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights, evaluated and kept instead (0: none)")
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings, description="the learning rate's course")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs optimizer sgd and a momentum")
        if self.schedule.warmup_epochs > self.epochs:
            raise ValueError(f"schedule.warmup_epochs {self.schedule.warmup_epochs} > epochs {self.epochs}")
        if self.epochs == 1 and self.schedule.at_epoch_start and not self.schedule.warmup_epochs:
            raise ValueError("schedule.at_epoch_start leaves the learning rate 0 to the only epoch")
        if (self.lr_rule == "linear") != (self.reference_batch is not None):
            raise ValueError('lr_rule = "linear" and reference_batch, the batch size of lr, go together')
        return self

    @property
    def scaled_lr(self) -> float:
        """The base learning rate at this batch size (Goyal et al. 2017, https://arxiv.org/abs/1706.02677)."""
        return self.lr if self.reference_batch is None else self.lr * self.batch_size / self.reference_batch

    def describe_rate(self) -> str:
        """Return the base learning rate, and how it follows from the batch size."""
        if self.reference_batch is None:
            return f"{self.lr:g}, whatever the batch (lr_rule none)"
        return f"{self.scaled_lr:g} = {self.lr:g} x {self.batch_size} / {self.reference_batch} (lr_rule linear)"


class RunSettings(Settings):
    """How and where the run executes; none of it is part of the method."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed of initialisation, order, views and draws")
    device: str = Field("auto", pattern=DEVICES, description="auto, cpu, cuda, cuda:N")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="of forward and backward")
    engine: Literal["auto", "eager", "compile", "graph"] = Field(
        "auto", description="how steps run: eager, compile (torch.compile), graph (a CUDA graph; what auto takes there)"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads (0: as many as are free, one for tiny images)")
    workers: int = Field(0, ge=0, le=256, description="threads that read images from the disk (0: as many as cores)")
    eval_every: int = Field(1, ge=1, le=_MOST, description="epochs between evaluations")
    eval_batch_size: int = Field(
        0, ge=0, le=_MOST, description="images per evaluation batch (0: 64 on a CPU, else 1,000)"
    )
    save_every: int = Field(1, ge=1, le=_MOST, description="epochs between checkpoints")
    save_steps: int = Field(
        0, ge=0, le=1_000_000_000, description="updates between checkpoints within an epoch (0: none)"
    )
    on_nan: str = Field(
        "stop",
        pattern=r"^(stop|skip:[1-9]\d{0,8})$",
        description="at a loss that is not finite: stop, or skip:N to leave out up to N such updates of a run",
    )
    log: tuple[Literal["tensorboard", "wandb"], ...] = Field((), description="extra journals")
    sync_bn: bool = Field(False, description="batch statistics over all CUDA devices, instead of each device's own")
    timeout: int = Field(
        300, ge=1, le=_MOST, description="seconds that several processes wait for one that does not answer"
    )
    profile: bool = Field(False, description="write a profiler trace and a summary of some of the first steps")

    @property
    def max_skips(self) -> int:
        """How many updates may be left out because they are not finite."""
        return int(self.on_nan.removeprefix("skip:")) if self.on_nan != "stop" else 0


class MethodSettings(Settings):
    """The method by name; its own options stand beside the name and are checked by the method."""

    name: str = Field("ce", description="the method; one outside ltk is package.module:Class")
    model_config = Settings.model_config | {"extra": "allow"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name not in METHODS and not is_outside(self.name):
            raise unknown_name("method", self.name, METHODS)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options as given."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """What the run is called: the recipe, where a method has several, else the method."""
        return str(self.options.get("recipe", self.name.rpartition(":")[2]))


class RunConfig(Settings):
    """Everything that decides a run."""

    preset: str = Field("", description="the preset this came from")
    data: DataSettings = Field(default_factory=DataSettings)
    views: ViewSettings = Field(default_factory=ViewSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    parent: ParentSettings = Field(default_factory=ParentSettings)
    method: MethodSettings = Field(default_factory=MethodSettings)
    optim: OptimSettings = Field(default_factory=OptimSettings)
    run: RunSettings = Field(default_factory=RunSettings)
