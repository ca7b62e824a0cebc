"""The hub's small parts: where downloads go, who may install at once, and what is fetched (the rest: test_download)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from arrowlens.conversion import Progress
from arrowlens.conversion.hub import Source, cache_directory, locked, open_source
from arrowlens.conversion.report import silent
from arrowlens.errors import DownloadError


class TestCacheDirectory:
    def test_as_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
        assert cache_directory() == tmp_path / "cache"

    def test_in_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("ARROWLENS_CACHE", "~/models")
        assert cache_directory() == tmp_path / "models"

    @pytest.mark.parametrize("value", ["", None])
    def test_the_user_s_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        if value is None:
            monkeypatch.delenv("ARROWLENS_CACHE", raising=False)
        else:
            monkeypatch.setenv("ARROWLENS_CACHE", value)
        assert tmp_path in cache_directory().parents
        assert cache_directory().name == "arrowlens"

    def test_a_relative_one_does_not_follow_the_working_folder_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ARROWLENS_CACHE", "cache")
        assert cache_directory() == tmp_path / "cache"


class TestLocked:
    def test_the_second_waits_and_says_so_once(self, tmp_path: Path) -> None:
        inside, leave, order = threading.Event(), threading.Event(), []
        told: list[Progress] = []

        def first() -> None:
            with locked(tmp_path / "x.lock", "first", silent):
                inside.set()
                leave.wait(30)
                order.append("first leaves")

        def second(progress: Progress) -> None:
            told.append(progress)
            leave.set()

        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(30)
        with locked(tmp_path / "x.lock", "another process installs it", second):
            order.append("second enters")
        thread.join()
        assert order == ["first leaves", "second enters"]
        assert [(progress.step, progress.detail) for progress in told] == [
            ("wait", "waiting: another process installs it")
        ]

    def test_released_after_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "x.lock", "", silent):
            raise KeyboardInterrupt
        told: list[Progress] = []
        with locked(tmp_path / "x.lock", "", told.append):
            assert told == []

    def test_nowhere_to_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(DownloadError, match="cannot be written"),
            locked(tmp_path / "file" / "x.lock", "", silent),
        ):
            pass


def test_a_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    with open_source(tmp_path / "org" / "model", silent) as source:
        assert source == Source(tmp_path / "org" / "model", "model")
    assert (tmp_path / "org" / "model").is_dir()


def test_a_folder_comes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openai" / "whisper-base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with open_source("openai/whisper-base", silent) as source:
        assert source.directory.resolve() == tmp_path / "openai" / "whisper-base"
