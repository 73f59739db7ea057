"""The command that compares ways to load: what it asks for, what it prints and writes, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.command import COMMAND, alive, environment, one_line, run, wait_until
from typer.testing import CliRunner, Result

from arraystore.cli import profile as command
from arraystore.cli.app import app
from arraystore.memory import MemoryReport
from arraystore.memory.measurement import Curve, Measurement, Outcome
from arraystore.memory.stages import Stage
from arraystore.memory.strategies import STRATEGIES


def measured(name: str, outcome: Outcome = "finished") -> Measurement:
    return Measurement(name, outcome, curve=Curve((0.0,), (5,), (4,), (3,), (2,), (1,)))


class Stand:
    """In place of `profile`: keeps the call, and gives a report; or ends as a Ctrl-C does when one is measured."""

    def __init__(self) -> None:
        self.source: Any = None
        self.options: dict[str, Any] = {}
        self.outcomes: tuple[Outcome, ...] = ("finished", "killed")
        self.interrupted_after: int | None = None

    def __call__(self, source: Any, **options: Any) -> MemoryReport:
        watch = options.pop("progress")
        self.source, self.options = source, options
        measurements = tuple(measured(f"way {i}", outcome) for i, outcome in enumerate(self.outcomes))
        for number in range(len(measurements) + 1):
            watch(Stage("next", len(measurements), MemoryReport("so far", measurements[:number])))
            if number == self.interrupted_after:
                raise KeyboardInterrupt
        return MemoryReport("all", measurements, 9, {"cores": "2"}, "arraystore.profile(...)")


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """`profile` and the faces of its report, replaced; all else is real."""
    stand = Stand()
    monkeypatch.setattr(command, "profile", stand)
    monkeypatch.setattr(MemoryReport, "print", lambda report: typer.echo(f"table of {report.title}"))
    monkeypatch.setattr(MemoryReport, "plot", lambda report, path: Path(path).write_text(f"picture {report.title}"))
    monkeypatch.setattr(MemoryReport, "to_html", lambda report: f"<page {report.command} ü>")
    return stand


def unboxed(result: Result) -> str:
    """What a usage error says, without the box round it."""
    assert result.exit_code == 2
    return " ".join(re.sub("[\u2500-\u257f]", " ", result.stderr).split())


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


class TestWhatItDoes:
    def test_defaults(self, stand: Stand) -> None:
        result = invoke("photos")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "table of all\n", "")
        assert stand.source == "photos"
        assert stand.options == {
            "size": (256, 256),
            "count": 10_000,
            "strategies": None,
            "limit": None,
            "scratch": None,
            "timeout_s": 3600.0,
        }

    def test_every_option_arrives(self, stand: Stand, tmp_path: Path) -> None:
        options = ["--size", "64x96", "--count", 40, "--strategy", "ram", "--strategy", "list + np.vstack"]
        options += ["--limit", "2GB", "--timeout", 9, "--scratch", tmp_path]
        assert invoke("my photos", *options, "--html", tmp_path / "x.html").exit_code == 0
        assert stand.options == {
            "size": (64, 96),
            "count": 40,
            "strategies": ["ram", "list + np.vstack"],
            "limit": "2GB",
            "scratch": tmp_path,
            "timeout_s": 9.0,
        }
        again = "arraystore profile 'my photos' --size 64x96 --count 40 --strategy ram --strategy 'list + np.vstack'"
        assert (tmp_path / "x.html").read_text("utf-8") == f"<page {again} --limit 2GB ü>"

    def test_files_are_written_and_named(self, stand: Stand, tmp_path: Path) -> None:
        assert stand.source is None
        plot, page, data = tmp_path / "a.png", tmp_path / "b.html", tmp_path / "c.json"
        data.write_text("old")
        result = invoke("photos", "--plot", plot, "--json", data, "--html", page)
        assert result.stdout == f"table of all\nwrote {plot}\nwrote {data}\nwrote {page}\n"
        assert plot.read_text() == "picture all"
        assert page.read_text("utf-8").startswith("<page arraystore profile photos --size 256")
        report = MemoryReport.from_json(data.read_text("utf-8"))
        assert (report.title, report.command) == ("all", "arraystore profile photos --size 256 --count 10000")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.html", "c.json"]

    @pytest.mark.parametrize(
        ("outcomes", "code"),
        [
            (("finished", "skipped"), 0),
            (("killed",), 0),
            (("finished", "failed"), 1),
            (("skipped", "skipped"), 1),
        ],
    )
    def test_exit_codes(self, stand: Stand, outcomes: tuple[Outcome, ...], code: int) -> None:
        stand.outcomes = outcomes
        result = invoke("photos")
        assert (result.exit_code, result.stdout, result.stderr) == (code, "table of all\n", "")

    @pytest.mark.parametrize(("number", "shown"), [(0, ""), (1, "table of so far\n")])
    def test_ctrl_c_shows_what_is_finished(self, stand: Stand, tmp_path: Path, number: int, shown: str) -> None:
        stand.interrupted_after = number
        result = invoke("photos", "--json", tmp_path / "x.json")
        assert (result.exit_code, result.stdout) == (130, shown)
        assert result.stderr == "arraystore: interrupted; temporary files are removed\n"
        assert list(tmp_path.iterdir()) == []
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class TestWhatIsFoundBefore:
    @pytest.fixture(autouse=True)
    def not_run(self, stand: Stand) -> Iterator[None]:
        yield
        assert stand.source is None

    def test_output_that_is_a_folder_or_a_fifo(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "fifo"):
            text = unboxed(invoke("photos", "--json", path))
            assert "Invalid value for '--json'" in text
            assert "is not a regular file: choose another name" in text

    def test_output_in_no_folder(self, tmp_path: Path) -> None:
        assert "does not exist" in unboxed(invoke("photos", "--html", tmp_path / "gone" / "x.html"))

    def test_output_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
        assert "cannot be written by this user" in unboxed(invoke("photos", "--plot", tmp_path / "x.png"))

    def test_one_output_given_twice(self, tmp_path: Path) -> None:
        assert "is given twice" in unboxed(invoke("photos", "--html", tmp_path / "x", "--json", tmp_path / "x"))

    def test_a_picture_in_no_known_format(self, tmp_path: Path) -> None:
        result = invoke("photos", "--plot", tmp_path / "x.gif")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"arraystore: {tmp_path / 'x.gif'} cannot be drawn: its suffix must be one of")

    def test_a_picture_without_matplotlib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        for option in ("--plot", "--html"):
            result = invoke("photos", option, tmp_path / "x.png")
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == "arraystore: matplotlib is not installed; pip install 'arraystore[plot]'\n"

    def test_a_size(self) -> None:
        assert invoke("photos", "--size", "big").exit_code == 2


# --- the real command ------------------------------------------------------------------------------------------------


def test_help_and_list() -> None:
    assert "profile" in run("--help").stdout
    result = run("profile", "--help", extra={"COLUMNS": "200"})
    assert result.returncode == 0
    assert "[default: 10000]" in result.stdout
    listed = run("profile", "--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [strategy.key for strategy in STRATEGIES]


def test_an_error_is_one_line(tmp_path: Path) -> None:
    assert one_line(run("profile", tmp_path, "--strategy", "vstak"), 2) == (
        "arraystore: there is no strategy 'vstak': choose from vstack, stack, append, ram, npy, hdf5, h5py\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--limit", "much"], 2, "arraystore: a size in bytes must be a number, or a text such as '8 GB'"),
        (["--scratch", "/nowhere"], 2, "arraystore: scratch must be an existing folder, and '/nowhere' is not one"),
        (["--count", "1"], 1, "arraystore: {folder}: there are no images in this folder"),
    ],
)
def test_what_the_library_refuses(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = invoke(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(message.format(folder=tmp_path))
    assert result.stderr.count("\n") == 1


def test_a_time_limit_that_is_none(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--timeout", "-1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--timeout': -1" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_end_by_force_leaves_nothing(number: signal.Signals, photos: Path, tmp_path: Path) -> None:
    options = ["--size", "256", "--count", "20000", "--strategy", "h5py", "--scratch", str(tmp_path)]
    process = subprocess.Popen(
        [*COMMAND, "profile", str(photos), *options],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: any(written(path) > 2e6 for path in tmp_path.rglob("chunked.h5")), "it is being written")
        # A terminal sends Ctrl-C to all of them, `kill` a signal to the command alone.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        out, err = process.communicate(timeout=400)
        assert process.returncode == 130
        assert out == ""
        assert err == "arraystore: interrupted; temporary files are removed\n"
        assert list(tmp_path.iterdir()) == []
        wait_until(lambda: not alive(process.pid), "every process of the command has ended")
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def written(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def test_a_real_run(photos: Path, tmp_path: Path) -> None:
    options = ("--size", 32, "--count", 40, "--strategy", "vstack", "--json", tmp_path / "x.json")
    result = run("profile", photos, *options, "--scratch", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "list + np.vstack" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    report = MemoryReport.from_json((tmp_path / "x.json").read_text("utf-8"))
    assert report.title == "Memory to load 19 images, repeated to 40, at 32 × 32 pixels"
    assert report.command == f"arraystore profile {photos} --size 32 --count 40 --strategy vstack"
    assert report.array_bytes == 40 * 3 * 32 * 32
    assert report["list + np.vstack"].outcome == "finished"
