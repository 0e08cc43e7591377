"""Files made to do harm, and files that are damaged: what the safe reader must refuse, and how.

Nothing here is ever unpickled by the tests, except by the positive control, in a process of its own.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from ltk.errors import DataError, LtkError, UnsafeError
from tests.convert.honest_files import rezipped, save, weights

Builder = Callable[[], bytes]


def text(value: str) -> bytes:
    """Push a string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """Push an integer of any size."""
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def call(module: str, attribute: str, *arguments: str) -> bytes:
    """Call module.attribute(*arguments)."""
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


def numbers(*values: int) -> bytes:
    """Push a tuple of integers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """Push a storage by its persistent id."""
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(key: str, count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Push a tensor."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + storage(key, count) + number(offset) + numbers(*shape) + numbers(*stride) + b"\x89}tR"


def typed_tensor(key: str, nbytes: int, offset: int, shape: tuple[int, ...], dtype: bytes) -> bytes:
    """Push a tensor that names its own type over bytes without one; ``dtype`` pushes the name."""
    untyped = b"(" + text("storage") + b"ctorch.storage\nUntypedStorage\n" + text(key) + text("cpu") + number(nbytes)
    geometry = number(offset) + numbers(*shape) + numbers(*(1,) * len(shape))
    return b"ctorch._utils\n_rebuild_tensor_v3\n(" + untyped + b"tQ" + geometry + b"\x89}" + dtype + b"}tR"


def entries(*pairs: tuple[str, bytes]) -> bytes:
    """A whole pickle of one dictionary."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in pairs) + b"u."


def zipped(
    content: bytes,
    storages: dict[str, bytes] | None = None,
    extra: dict[str, bytes] | None = None,
    deflate: bool = False,
) -> bytes:
    """A zip checkpoint around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", b"3\n")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return out.getvalue()


def legacy(content: bytes, keys: list[str] | None = None, storages: bytes = b"", magic: bytes | None = None) -> bytes:
    """A checkpoint of torch < 1.6 around a pickle."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    return b"".join([magic or parts[0], *parts[1:], content, pickle.dumps(keys or [], protocol=2), storages])


def payload(module: str, attribute: str, *arguments: str) -> Builder:
    """A checkpoint that calls something before it says its weights."""
    one = tensor("0", 2, 0, (2,), (1,))

    def build() -> bytes:
        return zipped(entries(("x", call(module, attribute, *arguments)), ("conv1.weight", one)), {"0": bytes(8)})

    return build


def _global(module: str, attribute: str) -> bytes:
    """Push module.attribute, whose attribute may be dotted."""
    return text(module) + text(attribute) + b"\x93"


def beyond(module: str, attribute: str) -> Builder:
    """A checkpoint of protocol 4 that calls something by a path through a module that an ordinary module imports."""
    called = _global(module, attribute) + text("x") + b"\x85R"
    return lambda: zipped(b"\x80\x04}(" + text("x") + called + b"u.")


def command(marker: Path | str) -> str:
    """A shell command that leaves a mark."""
    return f"touch {marker}"


def payloads(marker: Path | str) -> dict[str, Builder]:
    """Files whose unpickling leaves a mark (the first seven with certainty) or calls what only an attacker would."""
    code = f"open({str(marker)!r}, 'w').close()"
    popped = b"\x80\x02" + call("os", "system", command(marker)) + b"0}."
    return {
        "os.system": payload("os", "system", command(marker)),
        "posix.system": payload("posix", "system", command(marker)),
        "subprocess": payload("subprocess", "getoutput", command(marker)),
        "exec": payload("builtins", "exec", code),
        "eval": payload("builtins", "eval", f"__import__('os').system({command(marker)!r})"),
        "result popped": lambda: zipped(popped),
        "before torch 1.6": lambda: legacy(b"\x80\x02" + call("os", "system", command(marker)) + b"."),
        "where the magic number belongs": lambda: legacy(
            b"\x80\x02}.", magic=b"\x80\x02" + call("os", "system", command(marker)) + b"."
        ),
        "bare pickle": lambda: b"\x80\x02" + call("os", "system", command(marker)) + b".",
        "opcode INST": lambda: zipped(b"(" + text(command(marker)) + b"ios\nsystem\n."),
        "opcode OBJ": lambda: zipped(b"(cos\nsystem\n" + text(command(marker)) + b"o."),
        "STACK_GLOBAL": lambda: zipped(
            b"\x80\x04" + text("os") + text("system") + b"\x93(" + text(command(marker)) + b"tR."
        ),
        "runpy": payload("runpy", "run_path", "/nonexistent.py"),
        "getattr": payload("builtins", "getattr", "a", "b"),
        "torch.load": payload("torch", "load", "/nonexistent"),
        "torch.hub": payload("torch.hub", "load", "a", "b"),
        "nested load": payload("torch.storage", "_load_from_bytes", "x"),
        "numpy gadget": payload("numpy.testing._private.utils", "runstring", "pass", "{}"),
        "pip": payload("pip", "main", "install"),
        "timeit": payload("timeit", "timeit", "pass"),
        "import_module": payload("importlib", "import_module", "antigravity"),
        "code": payload("code", "InteractiveInterpreter"),
        "asyncio": payload("asyncio.unix_events", "_UnixSubprocessTransport"),
        "pickle.loads": payload("pickle", "loads", "x"),
        "logging.config": payload("logging.config", "dictConfig", "x"),
        "webbrowser": payload("webbrowser", "open", "http://localhost"),
        "past a class": payload("torch.nn", "modules.module.torch.os.system", "true"),
        "past a foreign class": payload("sklearn.utils", "os.system", "true"),
        "globals of a class": payload("collections", "OrderedDict.__init__.__globals__"),
        "class of a class": payload("torch.nn", "Module.__class__", "x"),
        "maker of functions": payload("torch.optim.lr_scheduler", "types.FunctionType", "x"),
        "reader of files": payload("torch.utils.data.datapipes.utils.decoder", "basichandlers", "x"),
        "persistent id of a module": lambda: zipped(
            b"\x80\x02(" + text("module") + b"cos\nsystem\n" + text("x") + b"tQ(" + text(command(marker)) + b"tR."
        ),
        "state with code": lambda: zipped(b"\x80\x02cpkg\nThing\n)R}" + text("x") + b"cos\nsystem\nsb."),
        "call of a call": lambda: zipped(b"\x80\x02" + call("functools", "partial") + b")R."),
        "terminal codes in a name": beyond("os", "\x1b[31msystem\nfake"),
        "past a module of torch": beyond("torch.nn.modules.module", "torch.storage._load_from_bytes"),
        "past the optimiser": beyond("torch.optim.optimizer", "torch.hub.load"),
        "past timm": beyond("timm.models.resnet", "torch.storage._load_from_bytes"),
        "past torchvision": beyond("torchvision.transforms.transforms", "torch.storage._load_from_bytes"),
        "past an alias": beyond("torch.nn.parallel.distributed", "dist.rpc.Anything"),
        "past numpy": beyond("sklearn.base", "np.load"),
        "called by a rebuilder": lambda: zipped(
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch.hub\nload\nctorch\nTensor\n("
            + text("x")
            + b"t}tR."
        ),
        "called by a generator": lambda: zipped(
            b"\x80\x02cnumpy.random._pickle\n__generator_ctor\n(" + text("x") + b"ctorch.hub\nload\ntR."
        ),
        "partial, called by a generator": lambda: zipped(
            b"\x80\x02cnumpy.random._pickle\n__generator_ctor\n(" + text("x") + call("functools", "partial") + b"tR."
        ),
        "constructor that calls": payload("torch.optim.lr_scheduler", "LambdaLR", "x", "y"),
        "maker of classes": payload("builtins", "type", "a", "b", "c"),
        "item of anything": payload("_operator", "getitem", "a", "b"),
        "operator alone": payload("_operator", "or_", "a", "b"),
        "reduce": payload("functools", "reduce", "a", "b"),
        "extension registry": lambda: zipped(b"\x80\x02\x82\x01)R."),
    }


def _weights_zip(**extra: bytes) -> bytes:
    """An honest small checkpoint with further records."""
    return zipped(entries(("w", tensor("0", 4, 0, (4,), (1,)))), {"0": bytes(range(16))}, extra)


def _flip(data: bytes, at: int, value: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


def _zero_page(data: bytes) -> bytes:
    return data[:1500] + bytes(4096) + data[5596:]


def _two_records() -> bytes:
    """Two records of one name; Python's zipfile only warns."""
    import warnings

    out = io.BytesIO(_weights_zip())
    with warnings.catch_warnings(), zipfile.ZipFile(out, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data/0", bytes(16))
    return out.getvalue()


def _patched_directory(offset: int, value: bytes, name: bytes = b"archive/data/0") -> bytes:
    """Change a field of the directory entry of a record."""
    data = _weights_zip()
    at = data.rindex(name) - 46 + offset
    return data[:at] + value + data[at + len(value) :]


def _aliased() -> bytes:
    """Two records over the same bytes."""
    data = zipped(
        entries(("a", tensor("0", 4, 0, (4,), (1,))), ("b", tensor("1", 4, 0, (4,), (1,)))),
        {"0": bytes(range(16)), "1": bytes(range(16))},
    )
    first = data.index(b"archive/data/0") - 30
    at = data.rindex(b"archive/data/1") - 4
    return data[:at] + struct.pack("<I", first) + data[at + 4 :]


def _overlapping() -> bytes:
    """Two records over the same bytes: the first one's local header calls the second's header its extra field."""
    values = bytes(range(16))
    content = entries(("a", tensor("0", 4, 0, (4,), (1,))), ("b", tensor("1", 4, 0, (4,), (1,))))
    local, central = b"", b""
    inner = _local_header(b"archive/data/1", values)
    for name, data, extra in (
        (b"archive/data.pkl", content, b""),
        (b"archive/data/0", values, bytes(len(values)) + inner),
        (b"archive/data/1", values, b""),
    ):
        shared = name == b"archive/data/1"
        offset = len(local) - len(values) - len(inner) if shared else len(local)
        local += b"" if shared else _local_header(name, data, extra) + data
        fields = (0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0, 0, 0, 0, 0, offset)
        central += b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, *fields) + name
    end = struct.pack("<HHHHIIH", 0, 0, 3, 3, len(central), len(local), 0)
    return local + central + b"PK\x05\x06" + end


def _local_header(name: bytes, data: bytes, extra: bytes = b"") -> bytes:
    sizes = (zlib.crc32(data), len(data), len(data), len(name), len(extra))
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, *sizes) + name + extra


def _one(count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], stored: int = 4) -> Builder:
    """A checkpoint of one tensor with a geometry of choice over ``stored`` floats."""
    return lambda: zipped(entries(("w", tensor("0", count, offset, shape, stride))), {"0": bytes(4 * stored)})


def _many_windows() -> bytes:
    """A thousand different windows of almost all of 40 kB."""
    windows = [(str(i), tensor("0", 10_000, i, (9_000,), (1,))) for i in range(1000)]
    return zipped(entries(*windows), {"0": bytes(40_000)})


def _laughs() -> bytes:
    """Lists of lists that double sixty times."""
    doubling = b"".join(b"(h" + bytes([i]) + b"h" + bytes([i]) + b"l\x94" for i in range(60))
    return zipped(b"\x80\x02]\x94" + doubling + b".")


def _laughs_as(use: Callable[[bytes], bytes]) -> Builder:
    """The doubling lists, written where a text belongs: writing them out would take hours."""
    return lambda: zipped(b"\x80\x02" + _doubled(60) + b"0" + use(b"h\x3b") + b".", {"0": bytes(16)})


def _doubled(times: int) -> bytes:
    return b"]\x94" + b"".join(b"(h" + bytes([i]) + b"h" + bytes([i]) + b"l\x94" for i in range(times))


def _doubling_modules() -> bytes:
    """Modules of two kilobytes, each of which holds the one before twice."""
    slots = b"}(U\x0b_parameters}U\x08_buffers}U\x08_modules}"
    content = b"\x80\x02cpkg\nThing\n)\x81q\x00" + slots + b"ub"
    for i in range(1, 40):
        before = b"h" + bytes([i - 1])
        content += b"cpkg\nThing\n)\x81q" + bytes([i]) + slots + b"(U\x01a" + before + b"U\x01b" + before + b"uub"
    return zipped(content + b".")


def _shared_submodules() -> bytes:
    """A thousand modules that share one dictionary of ten thousand things that are none."""
    pairs = b"".join(b"M" + struct.pack("<H", i) + b"N" for i in range(10_000))
    one = b"cpkg\nThing\n)\x81}(U\x0b_parameters}U\x08_modulesh\x00ub"
    return zipped(b"\x80\x02}(" + pairs + b"uq\x000(" + one * 1000 + b"l.")


def _many_copies() -> bytes:
    """A dictionary of three thousand entries, copied eight thousand times."""
    pairs = b"".join(b"M" + struct.pack("<H", i) + b"N" for i in range(3000))
    start = b"\x80\x02ccollections\nOrderedDict\nq\x000}(" + pairs + b"u\x85q\x010"
    return zipped(start + b"h\x00h\x01R0" * 8000 + b"N.")


def _many_bytes() -> bytes:
    """A text of thirty thousand letters, turned into bytes a thousand times."""
    start = b"\x80\x02c_codecs\nencode\nq\x000" + text("a" * 30_000) + text("latin1") + b"\x86q\x010"
    return zipped(start + b"h\x00h\x01R0" * 1000 + b"N.")


def _few_bytes_many_values() -> bytes:
    """Half a million values from 700 bytes, none of them too deep."""
    return zipped(b"\x80\x02" + _doubled(18) + b".")


def _deep_tuple_key(depth: int = 500_000) -> bytes:
    return zipped(b"\x80\x02})" + b"\x85" * depth + b"Ns.")


def _bomb() -> bytes:
    return zipped(entries(("w", tensor("0", 1 << 24, 0, (1 << 24,), (1,)))), {"0": bytes(1 << 26)}, deflate=True)


def _pickle_bomb() -> bytes:
    return zipped(b"\x80\x02" + b"N0" * (8 << 20) + b"N.", deflate=True)


def _big_endian() -> bytes:
    return _weights_zip(**{"archive/byteorder": b"big"})


def _long_count() -> bytes:
    content = entries(("w", tensor("0", 1 << 36, 0, (4,), (1,))))
    return legacy(content, ["0"], struct.pack("<q", 1 << 36) + bytes(16))


def _lying_count() -> bytes:
    content = entries(("w", tensor("0", 4, 0, (4,), (1,))))
    return legacy(content, ["0"], struct.pack("<q", 8) + bytes(32))


def _sparse() -> bytes:
    return save({"w": torch.eye(3).to_sparse()})


def _meta() -> bytes:
    return save({"w": torch.empty(3, device="meta")})


def _collisions() -> bytes:
    keys = b"".join(number(((1 << 61) - 1) * i) + b"N" for i in range(30_000))
    return zipped(b"\x80\x02}(" + keys + b"u.")


HOSTILE: dict[str, Builder] = {
    "second pickle outside the root": lambda: _weights_zip(**{"evil.pkl": b"x"}),
    "second pickle inside": lambda: _weights_zip(**{"archive/evil.pkl": b"x"}),
    "path out of the archive": lambda: _weights_zip(**{"archive/data/../../evil": b"x"}),
    "absolute path": lambda: _weights_zip(**{"/tmp/evil": b"x"}),
    "backslash path": lambda: _weights_zip(**{"archive\\..\\evil": b"x"}),
    "encrypted flag": lambda: _patched_directory(8, b"\x01\x00"),
    "two records of one name": _two_records,
    "records over the same bytes": _aliased,
    "records over the same bytes, by the extra field": _overlapping,
    "local header differs": lambda: _weights_zip().replace(b"archive/data/0", b"archive/data/9", 1),
    "bytes before the archive": lambda: b"PK\x03\x04" + bytes(60) + _weights_zip(),
    "TorchScript": lambda: _weights_zip(**{"archive/code/x.py": b"x", "archive/constants.pkl": b"\x80\x02)."}),
    "zip bomb": _bomb,
    "pickle bomb": _pickle_bomb,
    "stride 0 bomb": _one(4, 0, (1 << 20, 1 << 20), (0, 0)),
    "many windows of one storage": _many_windows,
    "doubling lists": _laughs,
    "doubling modules": _doubling_modules,
    "shared submodules": _shared_submodules,
    "many copies": _many_copies,
    "many bytes": _many_bytes,
    "beyond the storage": _one(4, 0, (5,), (1,)),
    "offset beyond the storage": _one(4, 3, (2,), (1,)),
    "stride beyond the storage": _one(4, 0, (2,), (4,)),
    "negative size": _one(4, 0, (-1,), (1,)),
    "negative offset": _one(4, -1, (2,), (1,)),
    "overflowing size": _one(4, 0, (1 << 62, 4), (4, 1)),
    "shape without strides": _one(4, 0, (2, 2), (1,)),
    "empty tensor of absurd sizes": _one(4, 0, (0, 1 << 47, 1 << 47), (1, 1, 1)),
    "absurd sizes of an empty tensor": _one(4, 0, (1 << 47, 1 << 47, 0), (1, 1, 1)),
    "few bytes, many values": _few_bytes_many_values,
    "memory in a string": lambda: zipped(b"\x80\x02X" + struct.pack("<I", 1 << 31) + b"."),
    "giant integer": lambda: zipped(b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"."),
    "safetensors that overlap": lambda: _safetensors({"a": [0, 8], "b": [4, 12]}, 12),
    "safetensors with a lie": lambda: _safetensors({"a": [0, 4]}, 4),
    "safetensors that names twice": lambda: _raw_safetensors(b'{"a":1,"a":1}', b""),
}


def _raw_safetensors(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def _safetensors(offsets: dict[str, list[int]], length: int) -> bytes:
    import json

    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": span} for name, span in offsets.items()}
    return _raw_safetensors(json.dumps(header).encode(), bytes(length))


DAMAGED: dict[str, Builder] = {
    "empty": lambda: b"",
    "random": lambda: bytes((i * 7919) % 251 for i in range(5000)),
    "HTML page": lambda: b"<!DOCTYPE html><html><title>Quota exceeded</title></html>",
    "git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "gzip": lambda: b"\x1f\x8b\x08" + bytes(50),
    "tar": lambda: b"x" * 257 + b"ustar" + bytes(300),
    "bare pickle": lambda: pickle.dumps({"a": [1, 2, 3]}, protocol=2),
    "ordinary zip": lambda: rezip_of({"readme.txt": b"hello"}),
    "cut zip": lambda: save(weights())[:-300],
    "cut zip in the weights": lambda: save(weights(big=torch.zeros(5000)))[:3000],
    "cut old file": lambda: save(weights(), _use_new_zipfile_serialization=False)[:-20],
    "old file with more": lambda: save(weights(), _use_new_zipfile_serialization=False) + b"x",
    "missing record": lambda: zipped(entries(("w", tensor("0", 4, 0, (4,), (1,))))),
    "short record": _one(5, 0, (5,), (1,)),
    "absurd count": _one(1 << 40, 0, (4,), (1,)),
    "count that overflows": _one((1 << 62) + 4, 0, (4,), (1,)),
    "absurd count, before torch 1.6": _long_count,
    "wrong count, before torch 1.6": _lying_count,
    "flipped bit in the weights": lambda: _flip(save(weights(big=torch.ones(5000))), 9000),
    "page of zeros": lambda: _zero_page(save(weights(big=torch.ones(5000)))),
    "flipped bit in the pickle": lambda: _flip(save(weights()), 200),
    "big endian": _big_endian,
    "sparse": _sparse,
    "meta": _meta,
    "key set twice": lambda: zipped(entries(("w", tensor("0", 4, 0, (4,), (1,))), ("w", b"N")), {"0": bytes(16)}),
    "unknown opcode": lambda: zipped(b"\x80\x02\xff."),
    "no stop": lambda: zipped(b"\x80\x02N"),
    "stack underflow": lambda: zipped(b"\x80\x02R."),
    "memo hole": lambda: zipped(b"\x80\x02h\x05."),
    "lists for a type": _laughs_as(lambda laughs: typed_tensor("0", 16, 0, (4,), laughs)),
    "lists for a storage": _laughs_as(
        lambda laughs: b"(" + text("storage") + laughs + text("0") + text("cpu") + number(4) + b"tQ"
    ),
    "call for a storage key": lambda: zipped(
        b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\ncpkg\nThing\n)R" + text("cpu") + number(4) + b"tQ."
    ),
    "storage outside its folder": lambda: zipped(
        entries(("w", tensor("../version", 4, 0, (4,), (1,)))), {"0": bytes(16)}
    ),
    "deep safetensors header": lambda: _raw_safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "truth for a size": lambda: _raw_safetensors(
        b'{"a":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}}', bytes(8)
    ),
    "quantised": lambda: zipped(entries(("w", storage("0", 4, "QInt8Storage"))), {"0": bytes(4)}),
    "endless name": lambda: zipped(b"\x80\x04" + _global("a" * 600, "b") + b"."),
    "unknown persistent id": lambda: zipped(b"\x80\x02NQ."),
    "cut safetensors": lambda: _safetensors({"a": [0, 8], "b": [8, 16]}, 12),
    "safetensors with more": lambda: _safetensors({"a": [0, 8]}, 12),
    "safetensors without JSON": lambda: _raw_safetensors(b"{nothing", b""),
}


def two_types() -> bytes:
    """An eight-byte number and a byte that share nine bytes."""
    wide = typed_tensor("0", 9, 0, (1,), b"ctorch\nfloat64\n")
    narrow = typed_tensor("0", 9, 8, (1,), b"ctorch\nuint8\n")
    return zipped(entries(("a.w", wide), ("b.w", narrow)), {"0": bytes(8) + b"\7"})


def rezip_of(content: dict[str, bytes]) -> bytes:
    """An ordinary zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()


# Odd but harmless, or harmless in bounded time: read, or refused, never more.
ODD: dict[str, Builder] = {
    "deep tuple as a key": _deep_tuple_key,
    "colliding keys": _collisions,
    "four million empty lists": lambda: zipped(b"\x80\x02" + b"]" * 3_900_000 + b"."),
    "deep list": lambda: zipped(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "deflated": lambda: rezipped(save(weights())),
    "lists for a numpy type": _laughs_as(
        lambda laughs: b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + laughs + b"tR" + laughs + b"tR"
    ),
    "two types over one storage": two_types,
}

EXPECTED: dict[str, type[LtkError]] = dict.fromkeys(HOSTILE, UnsafeError) | dict.fromkeys(DAMAGED, DataError)
