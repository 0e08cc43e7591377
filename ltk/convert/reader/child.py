"""The process that reads: standard library alone, no rights, little memory, and a watch on what it does.

Run as ``python -I -S -c "...main(memory, seconds)"`` with the file as standard input; it writes messages to standard
output, each as its kind, its length in 8 bytes and its content.
"""

from __future__ import annotations

import os
import sys

from ltk.convert.reader.messages import read_messages

EXIT_WATCHED = 97
_FORBIDDEN = (
    "import", "exec", "compile", "open", "os.", "subprocess.", "socket.", "shutil.", "ctypes.", "marshal.", "pickle.",
    "pty.", "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.", "code.__new__", "function.__new__", "sqlite3.",
    "tempfile.", "winreg.", "signal.", "sys.addaudithook", "syslog.", "fcntl.", "mmap.",
)  # fmt: skip


def main(memory: int, seconds: int) -> None:
    """Read standard input, write messages to standard output.

    Args:
        memory: bytes of address space.
        seconds: of processor time.
    """
    limit_resources(memory, seconds)
    size = os.fstat(0).st_size
    out, file = os.fdopen(1, "wb"), os.fdopen(0, "rb")
    sys.addaudithook(watch)
    try:
        for kind, content in read_messages(file, size):
            out.write(kind + len(content).to_bytes(8, "little"))
            out.write(content)
        out.flush()
    finally:
        os._exit(0)  # no clean-up and no traceback; the other side sees whether the last message came


def limit_resources(memory: int, seconds: int) -> None:
    """Bound memory, time and files of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, amount in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(what, (amount, amount))
        except (ValueError, OSError):  # macOS knows no RLIMIT_AS
            continue


def watch(event: str, _: object) -> None:
    """Audit hook: end the process at once when it does what reading never needs."""
    if event.startswith(_FORBIDDEN):
        os._exit(EXIT_WATCHED)
