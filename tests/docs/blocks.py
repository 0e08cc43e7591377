"""Reading the fenced blocks of a document, and running their commands small."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")
_NOT_RUN = re.compile(r"^<!-- not run: (.{10,}) -->$")
_ASSIGNMENT = re.compile(r"^[A-Z_]+=")
_GLOB = re.compile(r"[*?\[]")
SMALL_NETWORK = ["--model", "cifar_resnet8", "--set", "model.width=4", "--set", "model.pretrained=false"]
SMALL_IMAGES = ["--set", "data.image_size=16"]
SMALL_RUN = ["--epochs", "1", "--batch-size", "16", "--device", "cpu", "--set", "run.threads=1"]
SHELL, PYTHON, TEXT = "sh", "python", "text"
LANGUAGES = {SHELL, PYTHON, TEXT, "bibtex", "toml"}


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: after the fence.
        lines: between the fences.
        line: number of the opening fence, from 1.
        reason: why it is not run; "" where it is.
    """

    language: str
    lines: tuple[str, ...]
    line: int
    reason: str = ""


def read_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a document."""
    blocks, lines, i = [], text.splitlines(), 0
    while i < len(lines):
        fence = _FENCE.match(lines[i])
        if not fence:
            i += 1
            continue
        end = lines.index("```", i + 1)
        marker = _NOT_RUN.match(lines[i - 1]) if i else None
        blocks.append(Block(fence[1], tuple(lines[i + 1 : end]), i + 1, marker[1] if marker else ""))
        i = end + 1
    return blocks


@dataclass(frozen=True)
class Command:
    """One command line of a document.

    Attributes:
        environment: variables set in front of it, or exported.
        words: the program and its arguments, patterns filled in; empty for an export.
        output: file its standard output goes to; "" for none.
    """

    environment: dict[str, str]
    words: list[str]
    output: str = ""


def read_commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a shell block; comments fall away, a backslash joins lines."""
    for line in "\n".join(block.lines).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        output = ""
        if ">" in words:
            output = words[words.index(">") + 1]
            words = words[: words.index(">")]
        if words[0] == "export":
            words = words[1:]
        environment = {}
        while words and _ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        yield Command(environment, words, output)


def expand(words: list[str], folder: Path) -> list[str]:
    """Fill in file name patterns, as a shell does."""
    found: list[str] = []
    for word in words:
        is_pattern = _GLOB.search(word) and "/" in word and not word.startswith("-")
        paths = folder.glob(word) if is_pattern else ()
        found += sorted(str(path.relative_to(folder)) for path in paths) or [word]
    return found


def make_small(words: list[str]) -> list[str]:
    """Return a command that does the same on tiny networks, in one epoch; a later option wins."""
    kind = words[1] if len(words) > 1 else ""
    if kind == "demo":
        return [*words, "--seeds", "1", "--epochs", "1"]
    if kind == "finetune-classifier":
        return [*words, *SMALL_RUN]
    if kind != "train" or "--dry-run" in words or "--resume" in words:
        return words
    small = [*words, *SMALL_NETWORK, *SMALL_RUN]
    return small + SMALL_IMAGES if "photos/" in words else small
