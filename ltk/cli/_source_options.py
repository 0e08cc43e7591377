"""The argument and options that say which images a command is about, shared by the commands of ``ltk data``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltk.cli._options import complete_dataset

if TYPE_CHECKING:
    from ltk.data.base import Source

_PANEL = "Where the images are"


def _option(flag: str, text: str, least: int | None = None, most: int | None = None) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=_PANEL, min=least, max=most)


_NAME = Annotated[str, typer.Argument(help="A data set, or a folder of images.", autocompletion=complete_dataset)]
_OPTIONS: dict[str, Any] = {
    "root": Annotated[
        Path | None, _option("--root", "Data root; for folder, list and csv the images' folder (LTK_DATA).")
    ],
    "train_list": Annotated[Path | None, _option("--train-list", "List file of the training images (none).")],
    "val_list": Annotated[Path | None, _option("--val-list", "List file of the validation images (none).")],
    "test_list": Annotated[Path | None, _option("--test-list", "List file of the test images (none).")],
    "csv": Annotated[Path | None, _option("--csv", "Table with the columns path,label[,group,split] (none).")],
    "group_col": Annotated[str | None, _option("--group-col", "Column of the lot, animal or patient (none).")],
    "group_regex": Annotated[str | None, _option("--group-regex", "Pattern whose ( ) finds it in the path (none).")],
    "test": Annotated[float | None, _option("--test", "Share of each class, or images, drawn for testing (0.2).")],
    "min_per_class": Annotated[int | None, _option("--min-per-class", "Least images of a class in each split (3).", 1)],
    "seed": Annotated[int | None, _option("--seed", "Seed of the drawn test split (0).", 0, 2**32 - 1)],
    "allow_outside": Annotated[bool, _option("--allow-outside", "Accept paths that lead out of the root.")],
    "upright": Annotated[bool, _option("--upright", "Turn images as their EXIF orientation says.")],
    "skip_missing": Annotated[bool, _option("--skip-missing", "Leave out listed files that do not exist.")],
}
_FLAGS = ("allow_outside", "upright", "skip_missing")


@dataclass(frozen=True)
class SourceChoice:
    """What the user said about the images.

    Attributes:
        name: data set or folder.
        root: the option --root.
        options: those given, by name.
    """

    name: str
    root: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the images are called: the data set, or the folder of the user's own."""
        from ltk.config import DataSettings

        name, root = self._locate()
        return DataSettings(dataset=name, root=root and root.resolve()).title

    def _locate(self) -> tuple[str, Path | None]:
        from ltk.resolve import name_source

        return name_source(self.name, self.root, self.options)

    def open(self, *, warn: bool = True) -> Source:
        """Open the images.

        Args:
            warn: send what the user should know about them to standard error.

        Raises:
            LtkError: they are not there, or not as they should be.
        """
        from ltk.cli import _console
        from ltk.data.sources import open_source

        name, root = self._locate()
        source = open_source(name, root=root, **self.options)
        for note in source.notes if warn else ():
            _console.warn(note)
        return source


def with_source(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument NAME and the options above; it receives a ``SourceChoice`` as its first argument."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        name, root = given.pop("name"), given.pop("root")
        options = {key: given.pop(key) for key in list(given) if key in _OPTIONS}
        command(
            SourceChoice(name, root, {key: value for key, value in options.items() if value not in (None, False)}),
            **given,
        )

    kind = inspect.Parameter.KEYWORD_ONLY
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(key, kind, default=False if key in _FLAGS else None, annotation=annotation)
        for key, annotation in _OPTIONS.items()
    ]
    parameters = [inspect.Parameter("name", kind, annotation=_NAME), *(p.replace(kind=kind) for p in own), *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # type: ignore[attr-defined] # else the signature of the command would be read
    return run
