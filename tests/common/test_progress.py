from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.store_contract import build

from arraystore import Progress
from arraystore._common.progress import reporting


def test_seconds_run_from_when_the_call_began() -> None:
    progress = Progress(total=3)
    assert (progress.done, progress.bad, progress.source_bytes) == (0, 0, 0)
    before = progress.seconds
    time.sleep(0.01)
    assert progress.seconds >= before + 0.01


def test_silence_says_nothing(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(photos, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_function_is_called_itself() -> None:
    calls: list[Progress] = []
    state = Progress(total=2)
    with reporting(calls.append) as report:
        report(state)
    assert calls == [state]


def test_the_bar_goes_to_stderr_and_ends_full(mixed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(mixed, progress=True, bad="keep")
    out, err = capfd.readouterr()
    assert out == ""
    last = err.rstrip().split("\r")[-1]
    assert "100%" in last
    assert "12/12" in last
    assert "bad=4" in last


def test_the_bar_starts_where_an_earlier_call_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    state = Progress(total=10, done=6)
    with reporting(True) as report:
        report(state)
        state.done = 10
        report(state)
    err = capfd.readouterr().err
    assert "6/10" in err.split("\r")[1]
    assert "10/10" in err.rstrip().split("\r")[-1]


def test_the_bar_is_closed_where_the_build_fails(capfd: pytest.CaptureFixture[str]) -> None:
    state = Progress(total=10)

    def fail() -> None:
        with reporting(True) as report:
            report(state)
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err.endswith("\n")  # the error's own text starts on a line of its own
