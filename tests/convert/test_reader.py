"""What the safe reader reads, and what it refuses and how."""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ltk.convert.reader import read_checkpoint
from ltk.convert.reader.child import EXIT_WATCHED
from ltk.convert.reader.limits import Limits
from ltk.convert.reader.messages import ERROR, error_of, read_messages
from ltk.errors import DataError, UnsafeError
from tests.convert.honest_files import HONEST, save, weights
from tests.convert.hostile_files import (
    DAMAGED,
    EXPECTED,
    HOSTILE,
    ODD,
    Builder,
    payloads,
    rezip_of,
    two_types,
    zipped,
)
from tests.convert.reading import flat, read_here

ROOT = Path(__file__).parents[2]
REFUSED = HOSTILE | DAMAGED


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def plain(node: Any) -> Any:
    """torch's own contents with modules as their state dicts."""
    if isinstance(node, torch.nn.Module):
        return dict(node.state_dict())
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return node


@pytest.mark.parametrize("name", [name for name in HONEST if name != "holds itself"])
def test_tensors_are_those_torch_reads(name: str) -> None:
    data = HONEST[name]()
    mine = flat(read_here(data).tree())
    theirs = flat(plain(torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)))
    assert theirs
    for path, tensor in theirs.items():
        assert mine[path].dtype == tensor.dtype
        assert mine[path].shape == tensor.shape
        assert mine[path].is_contiguous()
        assert torch.equal(bits(mine[path]), bits(tensor)), path


def test_other_values_are_plain_data() -> None:
    tree = read_here(HONEST["sets and odd values"]()).tree()
    assert tree["a"] == [1, 2]
    assert tree["f"] == 1 << 80
    assert tree["g"] == float("inf")
    assert tree["h"] == (1, (2,))
    scalars = read_here(HONEST["numpy scalars"]()).tree()
    assert (scalars["best"], scalars["epoch"], scalars["half"]) == (0.25, 9, 0.5)
    assert read_here(HONEST["namespace"]()).tree()["args"] == {"lr": 0.1, "arch": "resnet32"}
    assert read_here(HONEST["settings node"]()).tree()["cfg"] == {"lr": 0.1, "node": {"depth": 3}}
    assert read_here(HONEST["holds itself"]()).tree()["loop"] == [1, None]


def test_numpy_arrays_become_tensors() -> None:
    for name in ("numpy arrays", "numpy arrays, protocol 5"):
        tree = read_here(HONEST[name]()).tree()
        assert torch.equal(tree["a"], torch.arange(6.0, dtype=torch.float64).view(2, 3))
    assert torch.equal(read_here(HONEST["numpy arrays"]()).tree()["f"], torch.ones(2, 3))


def test_names_of_one_tensor_share_it_and_views_do_not_keep_their_storage() -> None:
    tied = read_here(HONEST["tied"]()).tree()
    assert tied["encoder.weight"] is tied["decoder.weight"]
    raw = read_here(save({"part.weight": torch.arange(1_000_000.0)[16:26]}))
    assert [len(buffer) for buffer in raw.buffers] == [40]
    assert torch.equal(raw.tree()["part.weight"], torch.arange(16.0, 26.0))


def test_warnings_name_what_cannot_be_checked_and_what_is_inert() -> None:
    assert "no checksums" in read_here(HONEST["before torch 1.6"]()).warnings[0]
    assert "argparse.Namespace" in read_here(HONEST["namespace"]()).warnings[0]
    assert "4 bytes after the end" in read_here(save(weights()) + b"tail").warnings[0]
    assert read_here(save(weights())).warnings == []


def test_names_of_a_file_cannot_write_to_the_terminal() -> None:
    evil = b"\x80\x04\x8c\x03pkg\x8c\x0f\x1b[31mEvil\nfake:\x93)R."
    (warning,) = read_here(zipped(evil)).warnings
    assert warning == r"objects read as inert data: pkg.\x1b[31mEvil\nfake:"
    with pytest.raises(UnsafeError) as caught:
        read_here(zipped(evil.replace(b"\x03pkg", b"\x02os")))
    assert r"os.\x1b[31mEvil\nfake:" in caught.value.message
    with pytest.raises(DataError, match=r"kind \(\\x1b\[2J\)"):
        read_here(zipped(b"\x80\x02ctorch._utils\n_rebuild_\x1b[2J\n)R."))


def test_buffers_that_are_not_saved_are_left_out() -> None:
    for protocol in (2, 4):
        module = torch.nn.Linear(2, 2)
        module.register_buffer("transient", torch.zeros(3), persistent=False)
        tree = read_here(save(module, pickle_protocol=protocol)).tree()
        assert set(tree) == {"weight", "bias"}


def test_a_pickle_of_tensors_says_how_to_save_it() -> None:
    with pytest.raises(UnsafeError, match="which unpickles what it is given") as caught:
        read_here(pickle.dumps(weights(), protocol=2))
    assert "torch.save" in caught.value.hint


OTHER_KINDS = {
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(50),
    "PDF": b"%PDF-1.7\n",
    "Zstandard": b"\x28\xb5\x2f\xfd" + bytes(30),
    "ONNX": b"\x08\x07\x12\x07pytorch" + bytes(50),
    "JSON": b'{"error": {"code": 404}}',
    "JSON ": b'{"error":{"code":404}}',
    "HTML": "<html>".encode("utf-16"),
    "npz": rezip_of({"a.npy": b"\x93NUMPY"}),
    "joblib": b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b\x00\x00\x00",
    "quantised": DAMAGED["quantised"](),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_of_files_are_named(kind: str) -> None:
    with pytest.raises(DataError, match=kind.strip()) as caught:
        read_here(OTHER_KINDS[kind])
    assert "unpack it" not in caught.value.hint


def test_windows_of_two_types_may_share_a_storage() -> None:
    tree = read_here(two_types()).tree()
    assert (tree["a.w"].item(), tree["b.w"].item()) == (0.0, 7)


def test_records_without_checksum_are_named() -> None:
    data = bytearray(save(weights()))
    at = data.index(b"PK\x01\x02")
    while at >= 0:
        data[at + 16 : at + 20] = bytes(4)
        at = data.find(b"PK\x01\x02", at + 4)
    assert "no checksum" in read_here(bytes(data)).warnings[0]


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(EXPECTED[name]) as caught:
        read_here(REFUSED[name]()).tree()
    assert type(caught.value) is EXPECTED[name]
    assert "cannot be understood" not in caught.value.message
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(("name", "build"), payloads("marker").items())
def test_payloads_are_called_hostile(name: str, build: Builder) -> None:
    with pytest.raises(UnsafeError, match=r"hostile|extension registry"):
        read_here(build())


def test_a_hostile_name_is_shown_and_nothing_else_is_offered() -> None:
    with pytest.raises(UnsafeError) as caught:
        read_here(payloads("marker")["os.system"]())
    assert "os.system" in caught.value.message
    assert "weights_only" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("name", ODD)
def test_odd_files_end_soon(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(ODD[name]())
    start = time.monotonic()
    with contextlib.suppress(DataError, UnsafeError):
        read_checkpoint(path)
    assert time.monotonic() - start < 10


def test_a_cut_file_says_how_long_it_should_be() -> None:
    with pytest.raises(DataError, match="3000 of at least 20456 bytes"):
        read_here(DAMAGED["cut zip in the weights"]())
    whole = save(weights(), _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=f"{len(whole) - 20} of at least {len(whole)} bytes"):
        read_here(whole[:-20])


def test_every_cut_is_noticed() -> None:
    for data in (save(weights()), save(weights(), _use_new_zipfile_serialization=False)):
        for length in range(0, len(data) - 1, 37):
            with pytest.raises(DataError):
                read_here(data[:length])


def test_limits_are_limits() -> None:
    data = save(weights())
    for limits in (Limits(operations=20), Limits(memo=3), Limits(entries=2), Limits(nodes=2), Limits(pickle_bytes=100)):
        (kind, content), *_ = list(read_messages(io.BytesIO(data), len(data), limits))[-1:]
        assert kind == ERROR
        assert isinstance(error_of(content), UnsafeError | DataError)


def test_web_pages_are_named_with_a_byte_order_mark_too() -> None:
    with pytest.raises(DataError, match="HTML"):
        read_here(b"\xef\xbb\xbf\n<!DOCTYPE html><html></html>")


def test_a_fault_of_the_reader_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("ltk.convert.reader.messages.open_container", fail)
    with pytest.raises(DataError, match=r"cannot be understood \(KeyError\)"):
        read_here(save(weights()))


def test_the_file_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "weights.anything"
    path.write_bytes(save(weights()))
    raw = read_checkpoint(path)
    assert torch.equal(raw.tree()["conv1.weight"], weights()["conv1.weight"])
    assert len(raw.sha256) == 64
    path.write_bytes(payloads(tmp_path / "marker")["os.system"]())
    with pytest.raises(UnsafeError, match=r"weights\.anything: hostile"):
        read_checkpoint(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(DataError, match="not a file"):
        read_checkpoint(tmp_path)
    with pytest.raises(DataError) as caught:
        read_checkpoint(tmp_path)
    assert caught.value.message.count(str(tmp_path)) == 1


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(start, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)


def test_positive_control_the_payloads_do_fire(tmp_path: Path) -> None:
    """Under unsafe loading the same files leave a mark, so that their silence elsewhere means something."""
    for i, build in enumerate(list(payloads(tmp_path / "marker").values())[:7]):
        (tmp_path / f"{i}.pth").write_bytes(build())
    run(
        """
        import sys, pathlib, torch
        folder = pathlib.Path(sys.argv[1])
        for i in range(7):
            try:
                torch.load(folder / f"{i}.pth", weights_only=False)
            except Exception:
                pass
            if (folder / "marker").exists():
                (folder / "marker").unlink()
                (folder / f"fired-{i}").touch()
        """,
        str(tmp_path),
    )
    assert len(list(tmp_path.glob("fired-*"))) == 7


def test_nothing_fires_and_nothing_is_touched(tmp_path: Path) -> None:
    """An audit hook sees no import, no execution, no process, no connection and no write while files are parsed."""
    marker = tmp_path / "marker"
    corpus = [*payloads(marker).values(), *HOSTILE.values(), *DAMAGED.values(), *HONEST.values()]
    for i, build in enumerate(corpus):
        (tmp_path / f"{i}.bin").write_bytes(build())
    result = run(
        """
        import pathlib, sys
        from ltk.convert.reader.messages import read_messages
        from ltk.convert.reader.child import _FORBIDDEN
        files = sorted(pathlib.Path(sys.argv[1]).glob("*.bin"))
        opened = [(path.stat().st_size, open(path, "rb")) for path in files]
        seen, done = [], 0
        sys.addaudithook(lambda event, _: seen.append(event))
        for size, file in opened:
            done += len([kind for kind, _ in read_messages(file, size) if kind in b"ZE"])
        print(done, sorted({event for event in seen if event.startswith(_FORBIDDEN)}))
        """,
        str(tmp_path),
    )
    assert result.stdout.strip() == f"{len(corpus)} []", result.stderr
    assert not marker.exists()


DEEDS = ["import antigravity", "eval('1')", "open('x', 'w')", "__import__('os').system('true')"]


@pytest.mark.parametrize("deed", DEEDS)
def test_the_watch_ends_the_process(deed: str) -> None:
    watch = "import sys; from ltk.convert.reader.child import watch; sys.addaudithook(watch)"
    result = run(f"{watch}; {deed}; print('on')")
    assert result.returncode == EXIT_WATCHED
    assert result.stdout == ""


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A 40 MB file is read within twice its size, the interpreter aside."""
    path = tmp_path / "big.pth"
    path.write_bytes(save({f"layer.{i}": torch.ones(1_000_000) for i in range(10)}))
    result = run(
        """
        import re, sys
        from pathlib import Path
        from ltk.convert.reader import read_checkpoint
        import torch
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
        before = peak()
        tree = read_checkpoint(Path(sys.argv[1])).tree()
        print(peak() - before, len(tree))
        """,
        str(path),
    )
    grown, count = map(int, result.stdout.split())
    assert count == 10
    assert grown * 1024 < 2 * path.stat().st_size
