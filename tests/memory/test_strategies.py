"""The ways to load that are compared: that all make the same array, and what the comparison runs, skips and says."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import images

import arraystore
from arraystore.errors import ManifestError, SpecError
from arraystore.memory import MemoryReport, machine
from arraystore.memory import profile as module
from arraystore.memory.measurement import Measurement
from arraystore.memory.profile import profile
from arraystore.memory.stages import Stage, reporting
from arraystore.memory.strategies import STRATEGIES, Strategy, strategies_of

ROOT = Path(__file__).resolve().parents[2]
BY_HAND = ("vstack", "stack", "append", "h5py")
BY_KEY = {strategy.key: strategy for strategy in STRATEGIES}
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def sources(photos: Path) -> list[str]:
    return sorted(str(path) for path in photos.rglob("*.*"))


def loaded(strategy: Strategy, sources: list[str], size: tuple[int, int]) -> Pixels:
    """What a strategy makes, read by plain NumPy or h5py."""
    with TemporaryDirectory() as folder:
        made = strategy.function(sources, size, Path(folder))
        assert isinstance(made, Path) == strategy.writes
        if isinstance(made, tuple):
            made, image_list = made
            assert len(image_list) == len(sources), "the list is gone, and its memory with it"
        if isinstance(made, np.ndarray):
            assert not any(Path(folder).iterdir())
            return made
        if made.is_dir():
            return np.array(np.load(made / "images.npy"))
        with h5py.File(made) as file:
            return np.array(file["images"])


def by_opencv(source: str, size: tuple[int, int]) -> Pixels:
    pixels = cv2.resize(cv2.imread(source), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(pixels.transpose(2, 0, 1), np.uint8)


class TestStrategies:
    @pytest.mark.parametrize("key", BY_KEY)
    def test_each_makes_the_array(self, key: str, sources: list[str]) -> None:
        made = loaded(BY_KEY[key], sources, (24, 40))
        assert made.shape == (len(sources), 3, 24, 40)
        assert made.dtype == np.uint8
        if key in BY_HAND:
            assert np.array_equal(made, [by_opencv(source, (24, 40)) for source in sources])
        else:
            assert np.array_equal(made, arraystore.build(sources, size=(24, 40), progress=False).images)

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=st.lists(st.integers(0, 18), min_size=1, max_size=5), size=st.tuples(*[st.integers(1, 70)] * 2))
    def test_those_by_hand_make_the_same(self, sources: list[str], rows: list[int], size: tuple[int, int]) -> None:
        own = [sources[row] for row in rows]
        first, *others = (loaded(BY_KEY[key], own, size) for key in BY_HAND)
        assert all(np.array_equal(first, other) for other in others)

    @pytest.mark.parametrize("key", BY_KEY)
    def test_an_image_that_cannot_be_decoded_is_zeros(self, key: str, sources: list[str], tmp_path: Path) -> None:
        data = images.png(images.photo(64, 64))
        (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
        made = loaded(BY_KEY[key], [sources[0], str(tmp_path / "cut.png"), sources[1]], (16, 16))
        assert [bool(image.any()) for image in made] == [True, False, True]

    @pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.key)
    def test_each_can_be_sent_to_another_process(self, strategy: Strategy) -> None:
        call = partial(strategy.function, ["a.jpg"], (3, 4), Path("x"))
        again = pickle.loads(pickle.dumps(call))
        assert (again.func, again.args) == (call.func, call.args)

    def test_keys_and_names_are_unique(self) -> None:
        words = [word for strategy in STRATEGIES for word in {strategy.key, strategy.name}]
        assert len(set(words)) == len(words)
        assert all(strategy.note and "\n" not in strategy.note for strategy in STRATEGIES)

    def test_they_are_chosen_by_key_or_name_once_each(self) -> None:
        assert strategies_of(None) == STRATEGIES
        chosen = strategies_of(["ram", "list + np.vstack", "vstack"])
        assert [strategy.key for strategy in chosen] == ["ram", "vstack"]

    def test_an_unknown_one(self) -> None:
        with pytest.raises(SpecError) as caught:
            strategies_of(["vstak"])
        assert str(caught.value) == (
            "there is no strategy 'vstak': choose from vstack, stack, append, ram, npy, hdf5, h5py"
        )
        with pytest.raises(SpecError, match="no strategies were chosen: give at least one, or None for all"):
            strategies_of([])

    def test_each_loads_only_what_it_needs(self, sources: list[str], tmp_path: Path) -> None:
        """In a fork for each, of a new interpreter that has loaded the strategies and nothing else."""
        code = (
            "import os, sys; from pathlib import Path; from arraystore.memory.strategies import STRATEGIES\n"
            "heavy = {'cv2', 'h5py', 'numba', 'simplejpeg', 'pyarrow', 'rich', 'matplotlib'}\n"
            "print('before', *sorted(heavy & {*sys.modules}), flush=True)\n"
            f"for strategy in [each for each in STRATEGIES if each.key in {BY_HAND!r}]:\n"
            "  if not os.fork():\n"
            f"    strategy.function([{sources[0]!r}], (8, 8), Path({str(tmp_path)!r}))\n"
            "    print(strategy.key, *sorted(heavy & {*sys.modules}), flush=True)\n"
            "    os._exit(0)\n"
            "  assert os.wait()[1] == 0\n"  # one prints at a time
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=400
        )
        loaded = {key: modules for key, *modules in map(str.split, done.stdout.splitlines())}
        assert loaded == {"before": [], **{key: ["cv2"] for key in BY_HAND}, "h5py": ["cv2", "h5py"]}


# --- the comparison, with calls that are only recorded ---------------------------------------------------------------


class Recorder:
    """In place of profile_memory: calls the functions here, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.error: BaseException | None = None

    def __call__(self, functions: Mapping[str, Callable[[], object]], **options: Any) -> MemoryReport:
        ((name, function),) = functions.items()
        made = function()
        if self.error is not None:
            raise self.error
        self.calls.append((name, function, options))
        assert made is not None
        return MemoryReport("", (Measurement(name, "finished", wall_s=1.5),))

    @property
    def measured(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Name, number of images and options of each call that was no rehearsal."""
        rehearsals, calls = self.calls[::2], self.calls[1::2]
        assert all(len(function.args[0]) == 1 for _, function, _ in rehearsals)
        return [(name, len(function.args[0]), options) for name, function, options in calls]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "profile_memory", recorder)
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 10**12)
    monkeypatch.setattr(module, "free_disk_bytes", lambda _folder: 10**12)
    return recorder


@pytest.fixture
def quick(recorder: Recorder, tmp_path: Path) -> Callable[..., MemoryReport]:
    """`profile` in silence, with a scratch folder that is looked at afterwards."""
    assert recorder.calls == []
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(source: Any, **options: Any) -> MemoryReport:
        options = {"size": 16, "count": 5, "scratch": scratch, "progress": False} | options
        try:
            return profile(source, **options)
        finally:
            assert list(scratch.iterdir()) == []

    return run


class TestProfile:
    def test_every_strategy_is_measured(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, photos: Path
    ) -> None:
        report = quick(photos, size=(16, 24), interval_s=0.5, timeout_s=7)
        assert [measurement.name for measurement in report.measurements] == [each.name for each in STRATEGIES]
        assert [measurement.note for measurement in report.measurements] == [each.note for each in STRATEGIES]
        assert report.array_bytes == 5 * 3 * 16 * 24
        asked = {"limit_bytes": None, "interval_s": 0.5, "timeout_s": 7}
        assert recorder.measured == [(each.name, 5, asked) for each in STRATEGIES]
        assert report.title == "Memory to load 5 of 19 images, at 16 × 24 pixels"
        assert report.command == f"arraystore.profile({str(photos)!r}, size=(16, 24), count=5)"
        assert {"cores", "cpu", "memory", "kernel", "python", "arraystore", "numpy", "h5py"} <= set(report.machine)
        assert report.machine["scratch"]

    def test_many_images_are_thinned_out_evenly(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, sources: list[str]
    ) -> None:
        report = quick(sources, count=4, strategies=["stack"])
        assert recorder.calls[1][1].args[0] == [sources[row] for row in (0, 4, 9, 14)]
        assert report.title == "Memory to load 4 of 19 images, at 16 × 16 pixels"
        assert report.command == "arraystore.profile(images, size=16, count=4, strategies=['stack'])"
        assert "scratch" not in report.machine

    def test_few_images_are_repeated(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, sources: list[str]
    ) -> None:
        report = quick(sources[:3], count=7, strategies=["ram"])
        assert recorder.calls[1][1].args[0] == [sources[row] for row in (0, 1, 2, 0, 1, 2, 0)]
        assert report.title == "Memory to load 3 images, repeated to 7, at 16 × 16 pixels"
        assert quick(sources[:1], count=1, strategies=["ram"]).title == "Memory to load 1 image, at 16 × 16 pixels"

    def test_what_cannot_be_decoded_is_left_out(
        self,
        quick: Callable[..., MemoryReport],
        recorder: Recorder,
        sources: list[str],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        os.mkfifo(tmp_path / "fifo.jpg")
        (tmp_path / "bomb.jpg").write_bytes(images.bomb())
        (tmp_path / "text.jpg").write_text("no image")
        odd = tmp_path / "caf\udce9.jpg"
        odd.write_bytes(Path(sources[0]).read_bytes())
        bad = [str(tmp_path / name) for name in ("fifo.jpg", "bomb.jpg", "text.jpg", "gone.jpg")] + [str(odd)]
        with caplog.at_level(logging.INFO, "arraystore"):
            report = quick([bad[0], sources[0], *bad[1:], sources[1]], count=7, strategies=["vstack"])
        assert report.title == (
            "Memory to load 2 of 7 images (5 cannot be decoded and are left out), repeated to 7, at 16 × 16 pixels"
        )
        assert recorder.calls[1][1].args[0] == [sources[row] for row in (0, 1, 0, 1, 0, 1, 0)]
        told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
        assert told[0] == f"slot 0 ← {bad[0]} is left out: not a regular file"
        assert told[1].startswith(f"slot 2 ← {bad[1]} is left out: its header says 60000 x 60000 pixels")
        assert told[4].endswith("is left out: its name is not UTF-8")

    def test_where_none_can_be_decoded(self, quick: Callable[..., MemoryReport], tmp_path: Path) -> None:
        (tmp_path / "text.jpg").write_text("")
        with pytest.raises(ManifestError) as caught:
            quick([tmp_path / "text.jpg"])
        assert str(caught.value) == (
            f"none of 1 source can be decoded, the first of them slot 0 ← {tmp_path}/text.jpg: the file is empty; "
            "is this the right source?"
        )
        assert (caught.value.slot, caught.value.reason) == (0, "the file is empty")

    def test_images_that_are_no_files(self, quick: Callable[..., MemoryReport]) -> None:
        with pytest.raises(ManifestError, match="the images must be files: pass a folder, a table or a list of paths"):
            quick([b"abc"])

    def test_np_append_gets_fewer_and_says_so(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, sources: list[str]
    ) -> None:
        report = quick(sources, size=1, count=501, strategies=["append", "stack"])
        few, all_ = report.measurements
        assert (few.name, few.array_bytes) == ("np.append, 500 images", 1500)
        assert (all_.name, all_.array_bytes) == ("list + np.stack", None)
        assert [count for _, count, _ in recorder.measured] == [500, 501]
        assert quick(sources, size=1, count=500, strategies=["append"]).measurements[0].name == "np.append"

    def test_what_does_not_fit_in_memory_is_skipped(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        array_bytes = 2000 * 3 * 100 * 100
        monkeypatch.setattr(module, "available_memory_bytes", lambda: array_bytes * 2 + (200 << 20) - 1)
        monkeypatch.setattr(arraystore.Manifest, "load", lambda *_: str(next(photos.rglob("*.jpg"))))
        report = quick(photos, size=100, count=2000, strategies=["vstack", "ram"])
        vstack, ram = report.measurements
        assert (vstack.name, vstack.outcome, ram.outcome) == ("list + np.vstack", "skipped", "finished")
        assert vstack.reason == (
            "needs about 330 MB of memory, 330 MB are available: choose a smaller count, or a limit to see where it "
            "ends"
        )
        assert [name for name, *_ in recorder.measured] == ["arraystore, RAM"]

    def test_under_a_limit_it_is_run(
        self, quick: Callable[..., MemoryReport], recorder: Recorder, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "available_memory_bytes", lambda: 150 * 10**6)
        (skipped,) = quick(photos, strategies=["vstack"]).measurements
        assert skipped.outcome == "skipped"
        (run,) = quick(photos, strategies=["vstack"], limit="150 MB").measurements
        assert run.outcome == "finished"
        assert recorder.measured[0][2]["limit_bytes"] == 150 * 10**6
        (beyond,) = quick(photos, strategies=["vstack"], limit="151 MB").measurements
        assert beyond.reason == (
            "needs about 210 MB of memory, 150 MB are available: choose a smaller count, or a limit below what is "
            "available"
        )

    def test_where_the_system_does_not_say_what_is_available(
        self, quick: Callable[..., MemoryReport], photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "available_memory_bytes", lambda: None)
        assert quick(photos, strategies=["vstack"]).measurements[0].outcome == "finished"

    def test_what_does_not_fit_on_the_disk_is_skipped(
        self, quick: Callable[..., MemoryReport], photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "free_disk_bytes", lambda _folder: 9000)
        report = quick(photos)
        outcomes = {each.key: report[each.name].outcome for each in STRATEGIES}
        assert {key for key, outcome in outcomes.items() if outcome == "skipped"} == {"npy", "hdf5", "h5py"}
        assert report["h5py, chunked"].reason == (
            "needs about 16.7 kB on disk, 9 kB are free: choose a smaller count, or a scratch folder on a larger volume"
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"limit": "2 bananas"}, "a size in bytes must be a number, or a text such as '8 GB'"),
            ({"limit": -1}, "a size in bytes must be a number"),
            ({"limit": 0}, "a limit must be at least 1 byte, not 0"),
            ({"count": 0}, "count must be a whole number of 1 or more, not 0"),
            ({"count": 2.5}, "count must be a whole number of 1 or more, not 2.5"),
            ({"size": 0}, "size must be 1 to 65535 pixels"),
            ({"interval_s": 0}, "interval_s must lie between 0.001 and 3600 seconds, not 0"),
            ({"timeout_s": float("inf")}, "timeout_s must be a number of seconds greater than 0, not inf"),
            ({"strategies": ["x"]}, "there is no strategy 'x'"),
            ({"scratch": "/nowhere"}, "scratch must be an existing folder, and '/nowhere' is not one"),
        ],
    )
    def test_options_that_cannot_be(
        self, quick: Callable[..., MemoryReport], photos: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(SpecError, match=message):
            quick(photos, **options)

    def test_stages_are_told(self, quick: Callable[..., MemoryReport], photos: Path) -> None:
        stages: list[Stage] = []
        report = quick(photos, strategies=["npy", "ram"], progress=stages.append)
        assert [(stage.total, stage.name) for stage in stages] == [
            (2, "arraystore, .npy"),
            (2, "arraystore, RAM"),
            (2, ""),
        ]
        assert [len(stage.report.measurements) for stage in stages] == [0, 1, 2]
        assert stages[-1].report == report

    def test_ctrl_c_leaves_nothing(self, quick: Callable[..., MemoryReport], recorder: Recorder, photos: Path) -> None:
        recorder.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            quick(photos, strategies=["npy"])


def test_a_file_system_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / "größe 日本" / "deep"
    deep.mkdir(parents=True)
    top = str(deep.parent).replace(" ", r"\040")
    mounts = f"/dev/a / ext4 rw 0 0\nb {top} xfs rw 0 0\nc {top} tmpfs rw 0 0\nd {tmp_path}/other nfs rw 0 0\n"
    monkeypatch.setattr(machine, "_read", lambda _path: mounts)
    assert machine.file_system(deep) == "tmpfs"
    assert machine.file_system(tmp_path) == "ext4"
    assert module._scratch_kind(deep).startswith("tmpfs, which lies in memory, so stores count")
    monkeypatch.setattr(machine, "_read", lambda _path: "")
    assert machine.file_system(deep) == ""
    assert module._scratch_kind(deep) == "unknown file system"


def test_without_a_terminal_nothing_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage("mine", 2, MemoryReport("", ()))
    for progress in (True, False):
        with reporting(progress) as report:
            report(stage)
            report(replace(stage, name=""))
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_it_shows_what_runs(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which says to rich that there is one
    with reporting(True) as report:
        report(Stage("list + [mine]", 2, MemoryReport("", (Measurement("first", "finished"),))))
    shown = capfd.readouterr()
    assert "2 of 2: list + [mine]" in shown.err
    assert shown.out == ""


# --- the comparison itself -------------------------------------------------------------------------------------------


def test_memory_of_fresh_processes(photos: Path, tmp_path: Path) -> None:
    report = profile(
        photos, count=250, strategies=["vstack", "ram", "npy"], scratch=tmp_path, timeout_s=400, progress=False
    )
    assert [measurement.outcome for measurement in report.measurements] == ["finished"] * 3
    array_bytes = 250 * 3 * 256 * 256
    assert report.array_bytes == array_bytes
    assert report["list + np.vstack"].peak() > 1.95 * array_bytes
    assert array_bytes < report["arraystore, RAM"].peak() < 1.03 * array_bytes + 200e6
    assert report["arraystore, .npy"].peak() < 300e6
    assert array_bytes <= (report["arraystore, .npy"].disk_bytes or 0) < 1.05 * array_bytes
    assert [mark.label for mark in report["list + np.vstack"].marks] == ["decoding", "np.vstack"]
    assert list(tmp_path.iterdir()) == []


def test_a_limit_kills(photos: Path, tmp_path: Path) -> None:
    report = profile(
        photos, count=800, strategies=["stack"], limit="120 MB", scratch=tmp_path, timeout_s=400, progress=False
    )
    (killed,) = report.measurements
    assert killed.outcome == "killed"
    assert killed.reason
    assert 120e6 < killed.peak() < 310e6
