"""What a process takes of its machine: device, cores, memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ltk import machine
from ltk.errors import EnvironmentFault, LtkError, UsageError
from ltk.machine import (
    choose_device,
    core_quotas,
    count_cores,
    exact_float32,
    host_memory,
    memory_limits,
    use_device,
)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine with two GPUs; the list holds those that were made the current one."""
    current: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    return current


@pytest.fixture(autouse=True)
def tf32() -> Iterator[None]:
    """TF32 as torch has it at its start, or as some containers have it."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def tf32_is_allowed() -> set[bool]:
    return {torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32}


def test_auto_takes_cuda_else_the_cpu(monkeypatch: pytest.MonkeyPatch, two_gpus: list[torch.device]) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("mps", EnvironmentFault, "float64"),
        ("cuda:2", EnvironmentFault, "cuda:2 was asked for; this machine has 2 CUDA devices"),
        ("gpu", UsageError, "'gpu'"),
        ("cuda:x", UsageError, "'cuda:x'"),
        ("cuda:300", UsageError, "'cuda:300'"),
    ],
)
def test_a_device_that_cannot_be_had(
    name: str, fault: type[LtkError], words: str, monkeypatch: pytest.MonkeyPatch, two_gpus: list[torch.device]
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(fault, match=words) as refused:
        choose_device(name)
    assert "cpu" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "current"),
    [("cuda:1", [torch.device("cuda:1")]), ("cuda", []), ("cpu", [])],
    ids=["cuda:1", "cuda", "cpu"],
)
def test_the_device_in_use_is_the_current_one_and_exact(
    name: str, current: list[torch.device], two_gpus: list[torch.device]
) -> None:
    """ "cuda" is the current one as it is: with several processes, that of this process."""
    assert use_device(name) == torch.device(name)
    assert two_gpus == current
    assert tf32_is_allowed() == {False}


def test_exact_float32_lasts_as_long_as_it_is_asked_for() -> None:
    with contextlib.suppress(ZeroDivisionError), exact_float32():
        assert tf32_is_allowed() == {False}
        raise ZeroDivisionError
    assert tf32_is_allowed() == {True}


def write_group(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "file", "groups", "limits"),
    [
        ("0::/job_1/step_0\n", "memory.max", {"job_1": "4000", "job_1/step_0": "max"}, [4000]),
        ("0::/job_1/step_0\n", "memory.max", {"job_1": "4000", "job_1/step_0": "3000"}, [3000, 4000]),
        ("0::/docker/of/the/host\n", "memory.max", {".": "5000"}, [5000]),
        ("3:cpu,memory:/job_1\n0::/\n", "memory.limit_in_bytes", {"memory/job_1": "6000"}, [6000]),
        ("3:cpuset:/job_1\n", "memory.limit_in_bytes", {"memory/job_1": "6000"}, []),
    ],
    ids=["above", "both", "container", "version 1", "another controller"],
)
def test_limits_of_control_groups(
    own: str, file: str, groups: dict[str, str], limits: list[int], tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in groups.items():
        write_group(tmp_path / "groups" / name, file, text)
    assert memory_limits(tmp_path / "own", tmp_path / "groups") == limits


def test_memory_is_that_of_the_group_shared_among_the_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert host_memory() == physical
    (tmp_path / "own").write_text("0::/\n")
    write_group(tmp_path, "memory.max", "8000000")
    assert host_memory() == 8_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert host_memory() == 2_000_000
    write_group(tmp_path, "memory.max", str(2 * physical))
    assert host_memory() == physical // 4


@pytest.mark.parametrize(
    ("own", "files", "quotas"),
    [
        ("0::/pod\n", {"pod/cpu.max": "150000 100000", "cpu.max": "max 100000"}, [1.5]),
        (
            "2:cpu,cpuacct:/docker/of/the/host\n",
            {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
            [4.0],
        ),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("2:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, []),
    ],
    ids=["version 2", "version 1", "none", "another controller"],
)
def test_quotas_of_control_groups(own: str, files: dict[str, str], quotas: list[float], tmp_path: Path) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        write_group(path.parent, path.name, text)
    assert core_quotas(tmp_path / "own", tmp_path / "groups") == quotas


@pytest.mark.parametrize(
    ("processes", "quota", "cores"), [("1", "max", 6), ("3", "max", 2), ("8", "max", 1), ("1", "150000", 2)]
)
def test_cores_are_those_of_the_group_shared_among_the_processes(
    processes: str, quota: str, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text("0::/\n")
    write_group(tmp_path, "cpu.max", f"{quota} 100000")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert count_cores() == cores
