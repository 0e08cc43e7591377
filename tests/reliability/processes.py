"""Runs ``ltk`` in real processes that can be killed, hundreds of times, without importing torch hundreds of times.

A server process imports everything once and forks: each child is a process of its own with its own working directory,
environment, standard streams and limits, and calls ``ltk.cli.main`` as the installed command does.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "1000"}


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code (minus the signal if one killed it) and what it printed."""

    code: int
    out: str
    err: str


class Process:
    """A running command."""

    def __init__(self, launcher: Launcher, pid: int, files: tuple[Path, Path]) -> None:
        self.pid, self._launcher, self._files = pid, launcher, files

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> Done:
        """Return when the command has ended."""
        status = int(self._launcher.ask({"wait": self.pid}))
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._files)
        return Done(os.waitstatus_to_exitcode(status), out, err)

    def read_errors(self) -> str:
        """Return what is on standard error so far."""
        return self._files[1].read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until ``text`` is on standard error."""
        self.wait_until(lambda: text in self.read_errors(), seconds)

    def wait_until(self, condition: Any, seconds: float = 60) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(self.read_errors())
            time.sleep(0.002)


class Launcher:
    """Starts commands; use it as a context."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._number = 0
        command = [sys.executable, str(Path(__file__))]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **_ENVIRONMENT})
        assert self._server.stdout
        assert self._server.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()
        self._server.communicate()
        self._folder.cleanup()

    def ask(self, request: Mapping[str, Any]) -> str:
        """Send a request to the server and return its answer."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()

    def start(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        file_limit: int | None = None,
        before: str = "",
        streams: Mapping[int, str] | None = None,
    ) -> Process:
        """Start a command.

        Args:
            arguments: those of ``ltk``.
            cwd: working directory.
            env: environment variables to set, or with None to unset.
            file_limit: most bytes of any file it writes (RLIMIT_FSIZE).
            before: Python code to run first.
            streams: what standard output (1) or standard error (2) is instead of a file: "no reader" (a pipe whose
                other end is closed), "closed" or "full disk".
        """
        self._number += 1
        out, err = (Path(self._folder.name) / f"{self._number}.{name}" for name in ("out", "err"))
        for path in (out, err):
            path.touch()
        request = {
            "arguments": [str(a) for a in arguments],
            "cwd": str(cwd or self._folder.name),
            "env": dict(env or {}),
            "file_limit": file_limit,
            "before": before,
            "streams": {str(number): how for number, how in (streams or {}).items()},
            "out": str(out),
            "err": str(err),
        }
        return Process(self, int(self.ask(request)), (out, err))

    def run(self, *arguments: str | Path, **options: Any) -> Done:
        """Start a command and wait for its end."""
        return self.start(*arguments, **options).wait()


def _serve() -> None:
    import sklearn.datasets  # noqa: F401

    from ltk.methods import METHODS, get_method_class

    for name in METHODS:
        get_method_class(name)
    print("ready", flush=True)  # noqa: T201 - to the client
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitpid(request["wait"], 0)[1]
        else:
            answer = os.fork()
            if answer == 0:
                os._exit(_run(request))
        print(answer, flush=True)  # noqa: T201 - the answer to the client


def _spoil(number: int, how: str) -> None:
    if how == "closed":
        os.close(number)
    elif how == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, number)


def _run(request: Mapping[str, Any]) -> int:
    """In the child: become the command, run it, return its exit code."""
    _redirect(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a suite started by nohup hands its neglect down
    os.chdir(request["cwd"])
    for name, value in request["env"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if request["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], request["file_limit"]))
    sys.argv = ["ltk", *request["arguments"]]
    code: Any = 0
    try:
        exec(request["before"], {})
        import ltk.cli

        ltk.cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        code = 120  # as the interpreter does
    return int(code)


def _redirect(request: Mapping[str, Any]) -> None:
    """Give the child the standard streams it shall have, as the interpreter finds them at its start."""
    for number, path, mode in ((0, os.devnull, "r"), (1, request["out"], "w"), (2, request["err"], "w")):
        with Path(path).open(mode) as file:
            os.dup2(file.fileno(), number)
    for name, how in request["streams"].items():
        _spoil(int(name), how)
    for number, name in ((1, "stdout"), (2, "stderr")):
        closed = request["streams"].get(str(number)) == "closed"
        setattr(sys, name, None if closed else os.fdopen(number, "w", encoding="utf-8", closefd=False))


if __name__ == "__main__":
    _serve()
