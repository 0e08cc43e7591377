"""Downloads that can be resumed, are checked before they get their name, and unpack safely; imports no torch."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ltk.errors import DataError, EnvironmentFault, UnsafeError
from ltk.files import DISK_FULL, explain_disk_fault

Advance = Callable[[int, int], None]  # bytes had, bytes in all (0: unknown)
_CHUNK = 1 << 18
_TIMEOUT_S = 60


def hash_file(path: Path, algorithm: str = "md5") -> str:
    """Return the checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str) -> None:
    """Check that an address is encrypted (or on this machine).

    Raises:
        UnsafeError: it is not.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1"):
        raise UnsafeError(f"{url} is not an https address", "Download it yourself and give --from FILE.")


def download(url: str, path: Path, md5: str, advance: Advance = lambda had, total: None) -> None:
    """Fetch a file; what an earlier attempt left as ``<path>.part`` is gone on with.

    Args:
        url: where it is.
        path: where it goes, once its checksum is right.
        md5: its published checksum.
        advance: called with the bytes had and the bytes in all.

    Raises:
        EnvironmentFault: no connection, an error of the server, the disk is full.
        DataError: what came is not the file.
        UnsafeError: the address is not encrypted.
    """
    check_url(url)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, advance)
    except urllib.error.HTTPError as error:
        raise EnvironmentFault(f"{url} answers {error.code} {error.reason}", _elsewhere(path)) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise explain_disk_fault(error, partial) from error
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise EnvironmentFault(
            f"cannot download {url}: {reason}", f"The part that came is kept; try again. {_elsewhere(path)}"
        ) from error
    found = hash_file(partial)
    if found != md5:
        start = partial.read_bytes()[:64].lstrip()
        partial.unlink()
        kind = "a web page, not the archive" if start.startswith(b"<") else f"another file (md5 {found}, not {md5})"
        raise DataError(f"{url} gave {kind}", _elsewhere(path))
    partial.replace(path)


def _elsewhere(path: Path) -> str:
    return f"Or download {path.name} on another machine and give --from {path.name}."


def _fetch(url: str, partial: Path, advance: Advance) -> None:
    had = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-"} if had else {})
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        response = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if had and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            error.close()
            return  # all of it is here already; the checksum decides
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        had = had if resumed else 0
        expected = int(response.headers.get("Content-Length") or 0)
        with partial.open("ab" if resumed else "wb") as file:
            _copy(response, file, had, had + expected if expected else 0, advance)


def _copy(response: IO[bytes], file: IO[bytes], had: int, total: int, advance: Advance) -> None:
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        had += len(chunk)
        advance(had, total)
    if had < total:
        raise ConnectionError(f"the connection ended after {had:,} of {total:,} bytes")


def unpack(archive: Path, target: Path, folder: str) -> None:
    """Unpack the one folder of a tar archive; it appears under ``target`` whole or not at all.

    Raises:
        UnsafeError: a member that would be written elsewhere, or is a link or a device.
        DataError: not a tar archive, or without that folder.
        EnvironmentFault: the disk is full, or no permission.
    """
    staging = target / f".{folder}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(staging, filter="data")
        (staging / folder).rename(target / folder)
    except tarfile.FilterError as error:
        raise UnsafeError(f"{archive} is not a plain archive: {error}", "Do not use it.") from error
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is not a whole tar archive: {error}", "Download it again.") from error
    except FileNotFoundError as error:
        raise DataError(f"{archive} has no folder {folder}", "Is this the right archive?") from error
    except OSError as error:
        if error.errno in DISK_FULL:
            raise explain_disk_fault(error, target) from error
        raise EnvironmentFault(
            f"cannot unpack to {target}: {error.strerror}", "Check space and permissions."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
