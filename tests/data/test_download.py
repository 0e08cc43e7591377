from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ltk.data import cifar, prepare
from ltk.data.catalogue import FACTS
from ltk.data.download import download, unpack
from ltk.data.prepare import plan_licensed, prepare_cifar
from ltk.data.presence import list_presence
from ltk.errors import DataError, EnvironmentFault, UnsafeError

from .conftest import WriteImages

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``content`` with ranges, breaks off once on /torn, and answers other paths as their name says."""

    content = CONTENT
    torn = 0
    asked: list[str | None]

    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.asked.append(self.headers.get("Range"))
        if self.path == "/gone":
            self.send_error(404, "Not Found")
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.com/file")
            self.end_headers()
        elif self.path == "/quota":
            self._send(b"<!doctype html>quota", 0)
        elif start >= len(self.content):
            self.send_error(416)
        else:
            self._send(self.content, start)

    def _send(self, content: bytes, start: int) -> None:
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.path == "/torn" and type(self).torn == 0:
            type(self).torn = 1
            content = content[:300_000]
        self.wfile.write(content[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.torn, Handler.asked = 0, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def test_a_whole_file_gets_its_name_and_progress_is_told(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download(f"{server}/file", tmp_path / "new" / "file", MD5, lambda had, total: seen.append((had, total)))
    assert (tmp_path / "new/file").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_torn_download_is_gone_on_with(server: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="connection") as caught:
        download(f"{server}/torn", tmp_path / "file", MD5)
    assert "try again" in caught.value.hint
    assert (tmp_path / "file.part").stat().st_size == 300_000
    assert not (tmp_path / "file").exists()
    download(f"{server}/torn", tmp_path / "file", MD5)
    assert Handler.asked == [None, "bytes=300000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_taken(server: str, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(f"{server}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/gone", EnvironmentFault, "answers 404 Not Found"),
        ("/quota", DataError, "a web page, not the archive"),
        ("/away", UnsafeError, "not an https address"),
    ],
)
def test_what_is_not_the_file_is_refused(
    server: str, tmp_path: Path, path: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        download(server + path, tmp_path / "file", MD5)
    assert not (tmp_path / "file").exists()


def test_another_file_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"another file \\(md5 {MD5}, not {'0' * 32}\\)"):
        download(f"{server}/file", tmp_path / "file", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_the_other_way_is_shown(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot download") as caught:
        download("http://127.0.0.1:9/cifar.tar.gz", tmp_path / "cifar.tar.gz", MD5)
    assert "--from cifar.tar.gz" in caught.value.hint
    assert caught.value.exit_code == 6
    with pytest.raises(UnsafeError):
        download("http://example.com/cifar.tar.gz", tmp_path / "cifar.tar.gz", MD5)


def write_tar(path: Path, members: dict[str, bytes], link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return path


def test_hostile_archives_write_nothing(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    for i, (members, link) in enumerate(
        [
            ({"set/ok": b"1", "../escaped": b"2"}, None),
            ({"set/ok": b"1", "/tmp/escaped": b"2", "set/../../escaped": b"3"}, None),
            ({"set/ok": b"1"}, ("set/link", "/etc/passwd")),
        ]
    ):
        archive = write_tar(tmp_path / f"{i}.tar.gz", members, link)
        with pytest.raises(UnsafeError, match="not a plain archive"):
            unpack(archive, target, "set")
        assert list(target.iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_torn_or_other_archives_write_nothing(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    archive = write_tar(tmp_path / "a.tar.gz", {"set/ok": bytes(100_000)})
    with pytest.raises(DataError, match="has no folder other"):
        unpack(archive, target, "other")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="not a whole tar archive"):
        unpack(archive, target, "set")
    assert list(target.iterdir()) == []


@pytest.fixture
def tiny_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The archive of a CIFAR-100 of three files."""
    members = {f"cifar-100-python/{name}": name.encode() for name in ("train", "test", "meta")}
    archive = write_tar(tmp_path / "cifar-100-python.tar.gz", members)
    sums = {name: hashlib.md5(name.encode()).hexdigest() for name in ("train", "test", "meta")}
    layout = cifar.Layout(
        archive=archive.name,
        md5=hashlib.md5(archive.read_bytes()).hexdigest(),
        folder="cifar-100-python",
        train={"train": sums["train"]},
        test={"test": sums["test"]},
        meta={"meta": sums["meta"]},
        label_key="fine_labels",
        names_key="fine_label_names",
    )
    monkeypatch.setitem(cifar.LAYOUTS, "cifar100", layout)
    return archive


def test_cifar_is_prepared_from_an_archive_or_its_folder(tiny_cifar: Path, tmp_path: Path) -> None:
    for i, given in enumerate((tiny_cifar, tiny_cifar.parent)):
        folder = prepare_cifar("cifar100", tmp_path / f"root{i}", given)
        assert (folder / "meta").read_bytes() == b"meta"
    assert prepare_cifar("cifar100", tmp_path / "root0", None) == tmp_path / "root0/cifar-100-python"
    (tmp_path / "root0/cifar-100-python/train").write_bytes(b"rotten")
    with pytest.raises(DataError, match="train is damaged"):
        prepare_cifar("cifar100", tmp_path / "root0", None)
    with pytest.raises(DataError, match=r"no file .*nowhere"):
        prepare_cifar("cifar100", tmp_path / "root2", tmp_path / "nowhere")
    tiny_cifar.write_bytes(b"other")
    with pytest.raises(DataError, match=r"is not cifar-100-python\.tar\.gz"):
        prepare_cifar("cifar100", tmp_path / "root2", tiny_cifar)


def test_cifar_is_downloaded(tiny_cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(prepare, "_ADDRESS", f"{server}/")
    with pytest.raises(DataError, match="gave another file"):
        prepare_cifar("cifar100", tmp_path / "root", None)
    assert list((tmp_path / "root").iterdir()) == []
    monkeypatch.setattr(Handler, "content", tiny_cifar.read_bytes())
    assert (prepare_cifar("cifar100", tmp_path / "root", None) / "train").is_file()


def test_licensed_sets_say_what_to_place_where(tmp_path: Path, write_images: WriteImages) -> None:
    steps = {step.what: step for step in plan_licensed("imagenet-lt", tmp_path)}
    assert list(steps) == [
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        "ImageNet_LT_train.txt",
        "ImageNet_LT_val.txt",
        "ImageNet_LT_test.txt",
    ]
    assert steps["ImageNet_LT_train.txt"].check == "115,846 lines, md5 unknown (class counts are checked)"
    assert "ef44f8e43fbc904809a77216042e7498" in steps["ImageNet_LT_val.txt"].check
    assert steps["ImageNet_LT_test.txt"].where == tmp_path / "lists/ImageNet_LT_test.txt"
    assert not any(step.present for step in steps.values())
    (tmp_path / "imagenet-lt/train").mkdir(parents=True)
    assert [step.present for step in plan_licensed("imagenet-lt", tmp_path)] == [True, False, False, False, False]


def test_presence(tiny_cifar: Path, tmp_path: Path) -> None:
    prepare_cifar("cifar100", tmp_path, tiny_cifar)
    (tmp_path / "places-lt/data_256").mkdir(parents=True)
    found = {entry.name: entry for entry in list_presence(tmp_path)}
    assert list(found) == list(FACTS)
    assert {name: entry.state for name, entry in found.items()} == {
        "digits": "built in",
        "cifar10": "no",
        "cifar100": "yes",
        "imagenet": "no",
        "imagenet-lt": "no",
        "places-lt": "in part",
        "inat2018": "no",
    }
    assert found["places-lt"].missing[0] == "val_256.tar"
    assert (found["cifar100"].get, found["inat2018"].get) == ("", "ltk data prepare inat2018")
