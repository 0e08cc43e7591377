"""Names that are no data set: a folder may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltk.data.sources import open_source
from ltk.errors import UsageError
from ltk.resolve import resolve_config


def open_directly(name: str) -> None:
    open_source(name)


def train(name: str) -> None:
    resolve_config("ce", dataset=name)


@pytest.mark.parametrize("use", [open_directly, train])
def test_folders_of_the_working_directory_may_be_meant(
    use: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(use)
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "runs"):
        Path(name).mkdir()
    with pytest.raises(UsageError, match="unknown data set 'phots'") as caught:
        use("phots")
    assert caught.value.hint.startswith("Did you mean 'photos/'? Known: cifar10, ")
    assert caught.value.hint.endswith("A folder of images is given as photos/ or ./photos.")
    assert "runs" not in caught.value.hint
