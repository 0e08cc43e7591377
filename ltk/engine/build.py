"""From a configuration to everything the loop needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from ltk import distributed
from ltk.config import RunConfig
from ltk.config_text import explain
from ltk.data.banks import Bank, DiskBank, open_bank
from ltk.data.base import Split
from ltk.data.image import ImageSpec, resolve_image
from ltk.data.limits import GroupRule
from ltk.data.loaders import Loader
from ltk.data.splits import Manifest, create_manifest, note_held_out
from ltk.description import describe_model
from ltk.engine.device import choose_engine, choose_precision, choose_threads, create_autocast
from ltk.engine.features import FeatureBank, FeatureEvalSet, check_takes_features
from ltk.engine.parallel import check_batch_size, synchronise_batch_norm
from ltk.engine.streams import create_streams
from ltk.errors import DataError, UsageError
from ltk.evaluation.evaluate import EvalSet
from ltk.evaluation.images import open_configured_source, resolve_groups
from ltk.machine import choose_device, use_device
from ltk.methods import create_method, get_method_class
from ltk.methods.base import Method
from ltk.models.backbones import create_backbone
from ltk.settings import resolve_paths


@dataclass(frozen=True)
class DataPlan:
    """Which images a run uses, before any is read.

    Attributes:
        config: with image size, normalisation, device, precision and threads resolved.
        manifest: which images.
        splits: opened.
        image: size and normalisation.
        groups: the many/medium/few rule.
        notes: what the user should know about the data, one line each.
    """

    config: RunConfig
    manifest: Manifest
    splits: dict[str, Split]
    image: ImageSpec
    groups: GroupRule
    notes: tuple[str, ...] = ()

    @property
    def selection(self) -> str:
        """The split that is evaluated while training: val where there is one, else test."""
        return "val" if "val" in self.splits else "test"


def plan_data(config: RunConfig, manifest: Manifest | None = None) -> DataPlan:
    """Open the data set and choose the images.

    Args:
        config: of the run.
        manifest: of an earlier run; chosen anew when None.

    Raises:
        DataError: images are missing, or not those of the manifest.
        UsageError: the options do not fit the data.
    """
    data = config.data
    source = open_configured_source(data)
    if manifest is None:
        manifest = create_manifest(
            source,
            imb=data.imb,
            imb_type=data.imb_type,
            subset=data.subset,
            seed=data.subset_seed,
            val=data.val,
            head=data.head,
        )
    image = resolve_image(source, data.image_size, data.mean, data.std)
    splits = manifest.open(source)
    _check_batches(config, len(splits["train"]), manifest)
    groups = resolve_groups(data, source)
    notes = (*source.notes, *note_held_out(manifest, source))
    return DataPlan(resolve_machine(config, image), manifest, splits, image, groups, notes)


def _check_batches(config: RunConfig, images: int, manifest: Manifest) -> None:
    check_batch_size(config.optim.batch_size)
    if images < config.optim.batch_size:
        hint = f"Use --batch-size {max(2, images // 4)} or less."
        raise UsageError(f"batch size {config.optim.batch_size} is larger than the {images} training images", hint)
    if min(manifest.counts) == 0:
        empty = [name for name, n in zip(manifest.class_names, manifest.counts, strict=True) if n == 0]
        raise DataError(f"{len(empty)} classes have no training images: {', '.join(empty[:5])}", "Remove them.")


def resolve_machine(config: RunConfig, image: ImageSpec) -> RunConfig:
    """Fill in what depends on data and machine, so that the stored configuration repeats the run.

    Several processes compute as rank 0 does, whose configuration is the one that is stored.
    """
    device = choose_device(config.run.device)
    chosen = {
        "precision": choose_precision(config.run.precision, device, image.size),
        "engine": choose_engine(config.run.engine, device),
        "threads": choose_threads(config.run.threads, device, image.size),
    }
    chosen = json.loads(distributed.from_leader(json.dumps(chosen)))
    run = config.run.model_copy(update={"device": str(device), **chosen})
    data = config.data.model_copy(update={"image_size": image.size, "mean": image.mean, "std": image.std})
    return resolve_paths(config.model_copy(update={"run": run, "data": data}))


def build_method(
    config: RunConfig, counts: Sequence[int], image: ImageSpec, class_names: Sequence[str] | None = None
) -> tuple[Method, dict[str, str]]:
    """Build the network of a run and the description from which it is rebuilt.

    Args:
        config: names backbone and method.
        counts: training images of each class.
        image: channels and size.
        class_names: names of the classes, where known.

    Raises:
        UsageError: an unknown or ill-typed option of the method or the backbone.
    """
    name, given = config.method.name, config.method.options
    try:
        options = dict(get_method_class(name).Options(**given))
    except ValidationError as error:
        raise explain(error, get_method_class(name).Options, f"method {name}") from error
    torch.manual_seed(config.run.seed)
    model = config.model
    backbone = create_backbone(
        model.backbone,
        pretrained=model.pretrained,
        in_chans=image.channels,
        image_size=image.size,
        **model.arguments,
    )
    method = create_method(name, backbone, torch.tensor(counts), **options)
    description = describe_model(
        method=name,
        method_options=options,
        backbone={"name": model.backbone, "options": model.arguments},
        class_counts=[int(n) for n in counts],
        class_names=list(class_names) if class_names else None,
        image=image.as_json(),
    )
    return method, description


def create_loader(plan: DataPlan, method: Method, device: torch.device) -> Loader:
    """Build the loader of the streams a method asks for."""
    config = plan.config
    streams = create_streams(config, method, plan.image, plan.splits["train"].labels_N)
    return Loader(
        _open_training_bank(plan, method, device, any(source.cuts for source in streams.values())),
        streams,
        config.optim.batch_size,
        drop_last=config.optim.drop_last,
        seed=config.run.seed,
        rank=distributed.rank(),
        world=distributed.world_size(),
    )


def _open_training_bank(plan: DataPlan, method: Method, device: torch.device, is_cut_whole: bool) -> Bank:
    train, image, run = plan.splits["train"], plan.image, plan.config.run
    if is_cut_whole:
        return DiskBank(train, image.stored, device, run.workers)
    if not plan.config.parent.cache:
        return open_bank(train, image.stored, image.channels, device, run.workers)
    check_takes_features(method)
    autocast = create_autocast(run.precision, device)
    return FeatureBank(train, image, method, device, batch_size=run.eval_batch_size, autocast=autocast)


def _create_evaluator(plan: DataPlan, method: Method, device: torch.device) -> EvalSet:
    split, batch_size = plan.splits[plan.selection], plan.config.run.eval_batch_size
    if plan.config.parent.cache:
        return FeatureEvalSet(split, plan.image, method, device, batch_size)
    return EvalSet(split, plan.image, device, batch_size, shared=True)


@dataclass(frozen=True)
class Built:
    """Everything the loop needs, on the device."""

    plan: DataPlan
    method: Method
    description: dict[str, str]
    loader: Loader
    evaluator: EvalSet
    device: torch.device


def build(plan: DataPlan, progress: Callable[[str], None] = lambda _: None) -> Built:
    """Read the images and build the network.

    Args:
        plan: which images, and the resolved configuration.
        progress: told what is being done, for long reads.
    """
    run = plan.config.run
    torch.set_num_threads(run.threads)
    device = use_device(run.device)
    method, description = build_method(plan.config, plan.manifest.counts, plan.image, plan.manifest.class_names)
    method.check_batch_size(plan.config.optim.batch_size)
    method = synchronise_batch_norm(method, run)
    method = method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    progress(f"reading {len(plan.splits['train'])} training and {len(plan.splits[plan.selection])} test images")
    loader = create_loader(plan, method, device)
    evaluator = _create_evaluator(plan, method, device)
    return Built(plan, method, description, loader, evaluator, device)
