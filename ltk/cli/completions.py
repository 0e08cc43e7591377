"""``ltk completions``: the scripts that shells load."""

from __future__ import annotations

from typing import Annotated

import typer

from ltk.cli import _console
from ltk.errors import unknown_name

ASKED = "_LTK_COMPLETE"  # set by the scripts when they ask for completions
_REGISTER = "compdef _ltk_completion ltk"
# zsh runs the file at the first Tab: it must complete then too, or that Tab is lost.
_COMPLETE_OR_REGISTER = f"""if [[ $funcstack[1] == _ltk ]]; then
    _ltk_completion "$@"
else
    {_REGISTER}
fi"""


_SHELLS = ("bash", "zsh", "fish")


def prepare_completion() -> None:
    """Let ``ltk`` answer the scripts; typer does so by itself only where it adds options of its own."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def completion_script(shell: str) -> str:
    """Return the script of a shell, as it is in ``completions/``."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="ltk", complete_var=ASKED, shell=shell)
    if shell == "zsh":
        script = script.replace(_REGISTER, _COMPLETE_OR_REGISTER)
    return script.strip() + "\n"  # zsh registers a file only if its first line is "#compdef ltk"


def completions(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.", autocompletion=lambda: list(_SHELLS))],
) -> None:
    """Print the completion script of a shell.

    Examples:
      ltk completions bash > ~/.local/share/bash-completion/completions/ltk
      ltk completions zsh > ~/.zfunc/_ltk
      ltk completions fish > ~/.config/fish/completions/ltk.fish
    """
    if shell not in _SHELLS:
        raise unknown_name("shell", shell, _SHELLS)
    _console.print_text(completion_script(shell))
