"""The real command, run as a user runs it: what it prints, what it leaves, and its exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.command import COMMAND, alive, environment, one_line, run, usage_error, wait_until

import arraystore
from arraystore._sources.demo_photos import write_sample

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "photos"
    write_sample(folder, count=21)
    return folder


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "flawed"
    write_sample(folder, count=14)
    for number in range(12):
        (folder / "rocket" / f"zz{number:02d}.jpg").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "train.store"
    arraystore.build(photos, path, size=(48, 64), progress=False).close()
    return path


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"arraystore {arraystore.__version__}\n", "")


def test_the_console_entry_is_main() -> None:
    code = "import sys; sys.argv = ['x', '--version']; from arraystore.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout == f"arraystore {arraystore.__version__}\n"


@pytest.mark.parametrize(
    "command", ["plan", "build", "info", "preview", "sample", "verify", "repair", "update", "export"]
)
def test_help(command: str) -> None:
    assert command in run("--help").stdout
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"Usage: arraystore {command}" in result.stdout
    assert "--debug" in result.stdout


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    heavy = ["cv2", "numba", "h5py", "pyarrow", "tqdm", "PIL", "skimage", "torch", "jax", "keras", "pandas"]
    code = f"import arraystore.cli, sys; print([name for name in {[*heavy, 'rich', 'typer']} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout == "['typer']\n"


class TestBuild:
    def test_an_npy_store_and_its_summary(self, photos: Path, tmp_path: Path) -> None:
        result = run("build", photos, "train.store", "--size", "48", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stderr == "", "a bar was drawn where there is no terminal"
        summary, opened, classes = result.stdout.splitlines()
        size = sum(file.stat().st_size for file in (tmp_path / "train.store").rglob("*") if file.is_file())
        assert re.fullmatch(
            rf"train\.store: 21 images of 3 x 48 x 48 \(NCHW\), {size / 1000:.3g} kB on disk; [\d.]+ s, [\d,]+ img/s",
            summary,
        )
        assert opened == 'open it with  np.load("train.store/images.npy", mmap_mode="r")'
        assert classes.startswith("labels: 7 classes: astronaut, ")
        images = np.load(tmp_path / "train.store" / "images.npy", mmap_mode="r")
        assert np.array_equal(images, arraystore.build(photos, size=48, progress=False).images)

    def test_every_option_reaches_the_build(self, photos: Path, tmp_path: Path) -> None:
        options = (
            "--size 40x64 --fit pad --filter lanczos --color gray --layout NHWC --background #ff8000 --exact "
            "--max-pixels 5000000 --workers 1"
        )
        result = run("build", photos, tmp_path / "a.store", *options.split())
        assert result.returncode == 0, result.stderr
        with arraystore.open(tmp_path / "a.store") as made:
            assert made.spec == arraystore.ImageSpec(
                size=(40, 64),
                fit="pad",
                filter="lanczos",
                color="gray",
                layout="NHWC",
                background=(255, 128, 0),
                exact=True,
                max_pixels=5_000_000,
            )
            assert made.images.shape == (21, 40, 64, 1)

    def test_defaults_are_those_of_the_library(self, photos: Path, tmp_path: Path) -> None:
        assert run("build", photos, tmp_path / "a.store", "--size", "16").returncode == 0
        with arraystore.open(tmp_path / "a.store") as made:
            assert made.spec == arraystore.ImageSpec(size=16)

    @pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
    def test_hdf5_by_suffix(self, photos: Path, tmp_path: Path, suffix: str) -> None:
        target = tmp_path / f"train{suffix}"
        result = run("build", photos, target, "--size", "32")
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[1] == f'open it with  arraystore.open("{target}").images'
        assert target.is_file()
        with arraystore.open(target) as made:
            assert made.medium == "hdf5"
            assert len(made) == 21

    def test_processes_make_the_same_store(self, photos: Path, store: Path, tmp_path: Path) -> None:
        target = tmp_path / "a.store"
        result = run("build", photos, target, "--size", "48x64", "--processes", "--workers", "2")
        assert (result.returncode, result.stderr) == (0, "")
        assert (target / "images.npy").read_bytes() == (store / "images.npy").read_bytes()
        assert (target / "checksums.npy").read_bytes() == (store / "checksums.npy").read_bytes()

    def test_an_image_that_takes_too_long_for_a_process(self, photos: Path, tmp_path: Path) -> None:
        slow = tmp_path / "slow"
        slow.mkdir()
        (slow / "sitecustomize.py").write_text(
            "import time, arraystore._decoding.decode as module\n"
            "def decode_into(data, slot, spec, original=module.decode_into, **limits):\n"
            "    time.sleep(100 if len(data) == SIZE else 0)\n"
            "    return original(data, slot, spec, **limits)\n"
            "module.decode_into = decode_into\n".replace("SIZE", str(sorted(photos.rglob("*.jpg"))[4].stat().st_size))
        )
        result = run(
            *("build", photos, tmp_path / "a.store", "--size", "16", "--workers", "1", "--bad", "keep"),
            *("--processes", "--timeout", "3"),
            workers_path=f"{slow}:{ROOT}",
        )
        assert result.returncode == 0, result.stderr
        assert "1 bad image stored as zeros with status 2:\n  slot 4" in result.stderr
        assert "longer than 3 s (timeout_s), twice" in result.stderr

    def test_a_limit_that_is_no_time(self, photos: Path, tmp_path: Path) -> None:
        result = run("build", photos, tmp_path / "a.store", "--size", "16", "--processes", "--timeout", "0")
        assert "Invalid value for '--timeout': 0 is not a time limit" in usage_error(result)

    def test_quiet(self, photos: Path, tmp_path: Path) -> None:
        result = run("build", photos, tmp_path / "a.store", "--size", "16", "--quiet")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def test_an_existing_target_is_kept_unless_told(self, photos: Path, tmp_path: Path) -> None:
        target = tmp_path / "a.store"
        run("build", photos, target, "--size", "16")
        message = one_line(run("build", photos, target, "--size", "24"))
        assert str(target) in message
        assert "--overwrite" in message
        assert "overwrite=True" not in message
        with arraystore.open(target) as kept:
            assert kept.spec.size == (16, 16)
        assert run("build", photos, target, "--size", "24", "--overwrite").returncode == 0
        with arraystore.open(target) as replaced:
            assert replaced.spec.size == (24, 24)

    def test_bad_images_end_it_with_the_first_ten(self, flawed: Path, tmp_path: Path) -> None:
        result = run("build", flawed, tmp_path / "a.store", "--size", "16")
        assert result.returncode == 1
        first, *listed, more = result.stderr.splitlines()
        assert first.startswith("arraystore: 12 of 26 images could not be stored: ")
        assert "--bad keep" in first
        assert "--bad drop" in first
        assert len(listed) == 10
        assert [re.match(r"  slot (\d+)  .*rocket/zz(\d\d)\.jpg: \S", line) is not None for line in listed] == [
            True
        ] * 10
        assert more == "  and 2 more"
        assert not (tmp_path / "a.store").exists()

    def test_bad_images_kept_are_told(self, flawed: Path, tmp_path: Path) -> None:
        result = run("build", flawed, tmp_path / "a.store", "--size", "16", "--bad", "keep")
        assert result.returncode == 0
        assert "26 images" in result.stdout
        first, *listed, more = result.stderr.splitlines()
        assert first == "12 bad images stored as zeros with status 2:"
        assert len(listed) == 10
        assert all("rocket/zz" in line for line in listed)
        assert more == "  and 2 more"
        with arraystore.open(tmp_path / "a.store") as made:
            assert len(made.bad()) == 12

    def test_bad_images_dropped_are_told(self, flawed: Path, tmp_path: Path) -> None:
        result = run("build", flawed, tmp_path / "a.store", "--size", "16", "--bad", "drop")
        assert result.returncode == 0
        assert "14 images" in result.stdout
        first, *listed, more = result.stderr.splitlines()
        assert first == "12 bad images left out:"
        assert len(listed) == 10
        assert all("rocket/zz" in line for line in listed)
        assert more == "  and 2 more"
        with arraystore.open(tmp_path / "a.store") as made:
            assert len(made) == 14
            assert len(made.dropped()) == 12

    def test_nothing_but_bad_images(self, tmp_path: Path) -> None:
        (tmp_path / "photos" / "a").mkdir(parents=True)
        (tmp_path / "photos" / "a" / "line\nbreak.jpg").write_text("x")
        result = run("build", tmp_path / "photos", tmp_path / "a.store", "--size", "16", "--bad", "drop")
        assert result.returncode == 1
        first, listed = result.stderr.splitlines()
        assert first == "arraystore: 1 of 1 image could not be stored: is this the right source?"
        assert r"line\nbreak.jpg: " in listed

    def test_a_source_that_is_not_there(self, tmp_path: Path) -> None:
        message = one_line(run("build", tmp_path / "nowhere", tmp_path / "a.store", "--size", "16"))
        assert str(tmp_path / "nowhere") in message

    def test_a_name_that_is_not_text(self, photos: Path, tmp_path: Path) -> None:
        target = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.store")
        result = run("build", photos, target, "--size", "16")
        assert (result.returncode, result.stderr) == (0, "")
        assert r"caf\udce9.store: 21 images" in result.stdout

    @pytest.mark.parametrize("size", ["0", "-3", "12x", "x12", "1x2x3", "big", "12.5", "", "16x0"])
    def test_impossible_sizes(self, tmp_path: Path, size: str) -> None:
        message = usage_error(run("build", tmp_path, tmp_path / "a.store", f"--size={size}"))
        assert "Invalid value for '--size'" in message
        assert "height x width as 224x320" in message

    def test_a_size_that_only_the_spec_refuses(self, tmp_path: Path) -> None:
        message = one_line(run("build", tmp_path, tmp_path / "a.store", "--size", "70000"), code=2)
        assert "65535" in message

    @pytest.mark.parametrize("background", ["256,0,0", "1,2", "#12345", "#gggggg", "mauve", "", "-1,0,0"])
    def test_impossible_backgrounds(self, tmp_path: Path, background: str) -> None:
        result = run("build", tmp_path, tmp_path / "a.store", "--size=16", f"--background={background}")
        assert "Invalid value for '--background'" in usage_error(result)

    @pytest.mark.parametrize(
        ("background", "expected"),
        [("Black", (0, 0, 0)), ("gray", (128, 128, 128)), ("1, 2,3", (1, 2, 3)), ("#0A0b0c", (10, 11, 12))],
    )
    def test_backgrounds(self, photos: Path, tmp_path: Path, background: str, expected: tuple[int, int, int]) -> None:
        assert run("build", photos, tmp_path / "a.store", "--size=8", "--background", background).returncode == 0
        with arraystore.open(tmp_path / "a.store") as made:
            assert made.spec.background == expected

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (["--nonsense"], "--nonsense"),
            (["--fit", "squash"], "--fit"),
            (["--bad", "ignore"], "--bad"),
            (["--workers", "0"], "--workers"),
        ],
    )
    def test_wrong_options(self, tmp_path: Path, arguments: list[str], part: str) -> None:
        assert part in usage_error(run("build", tmp_path, tmp_path / "a.store", "--size", "16", *arguments))

    def test_a_missing_size(self, tmp_path: Path) -> None:
        assert "--size" in usage_error(run("build", tmp_path, tmp_path / "a.store"))


class TestInterrupted:
    """Ctrl-C goes to every process of the terminal, so these signal the whole group."""

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        """A folder that takes far longer than a test may: names of one large image."""
        noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
        (tmp_path / "many" / "a").mkdir(parents=True)
        first = tmp_path / "many" / "a" / "0.jpg"
        cv2.imwrite(str(first), noise)
        for number in range(1, 5000):
            (first.parent / f"{number}.jpg").hardlink_to(first)
        return tmp_path / "many"

    def start(self, many: Path, target: Path, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, "build", str(many), str(target), "--size", "32", "--exact", "--workers", "2", *options],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @pytest.fixture(params=[(), ("--processes",)], ids=["threads", "processes"])
    def building(self, request: pytest.FixtureRequest, many: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
        process = self.start(many, tmp_path / "a.store", *request.param)
        try:
            wait_until(lambda: stored(tmp_path / "a.store.partial") > 0, "the first run is stored")
            yield process
        finally:
            if alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def test_ctrl_c_ends_it_with_one_line(self, building: subprocess.Popen[str], tmp_path: Path) -> None:
        start_s = time.monotonic()
        os.killpg(building.pid, signal.SIGINT)
        out, err = building.communicate(timeout=400)
        assert building.returncode == 130
        assert out == ""
        assert err == "arraystore: interrupted: run the same command again to go on from here\n"
        assert time.monotonic() - start_s < 30, "the stop was not prompt"
        assert not alive(building.pid), "a process of the command has not ended"
        assert not (tmp_path / "a.store").exists()
        assert stored(tmp_path / "a.store.partial") > 0, "what was done is lost"

    def test_ctrl_c_while_workers_start_ends_it_with_one_line(self, many: Path, tmp_path: Path) -> None:
        process = self.start(many, tmp_path / "a.store", "--processes")
        try:
            # The command, and two workers that have begun to import.
            wait_until(lambda: len(alive(process.pid)) >= 3, "two workers have started")
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=400)
        finally:
            if alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert (process.returncode, out) == (130, "")
        assert err == "arraystore: interrupted: run the same command again to go on from here\n"

    def test_no_worker_outlives_a_command_that_is_killed(self, building: subprocess.Popen[str]) -> None:
        building.kill()
        building.wait()
        wait_until(lambda: not alive(building.pid), "every process of the command has ended")


def stored(partial: Path) -> int:
    try:
        return int(np.count_nonzero(np.load(partial / "ledger.npy", mmap_mode="r")["status"]))
    except (OSError, ValueError):
        return 0


class TestInfo:
    def test_the_table(self, store: Path) -> None:
        result = run("info", store)
        assert (result.returncode, result.stderr) == (0, "")
        rows = {line[:14].strip(): line[14:].strip() for line in result.stdout.splitlines() if line[0] != " "}
        assert rows["store"] == str(store), "a long path was wrapped or cut"
        assert rows["medium"] == "npy"
        assert rows["images"] == "21 of 3 x 48 x 64 uint8 (NCHW, rgb)"
        assert rows["size"].startswith("194 kB of pixels, ")
        assert rows["status"] == "21 stored, 0 failed"
        assert rows["resized by"] == "fit stretch, filter bilinear"
        assert rows["target labels"] == "int64 (21)"
        assert rows["classes (7)"] == "3  astronaut"
        assert rows["format"] == f"version 1, written by arraystore {arraystore.__version__}"
        assert "3  rocket" in result.stdout

    def test_json(self, store: Path, photos: Path) -> None:
        result = run("info", store, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        facts = json.loads(result.stdout)
        images = np.load(store / "images.npy")
        heights = [cv2.imread(str(path)).shape[0] for path in photos.rglob("*.jpg")]  # type: ignore[union-attr]
        assert facts["shape"] == [21, 3, 48, 64]
        assert facts["image_bytes"] == images.nbytes
        assert facts["disk_bytes"] == sum(file.stat().st_size for file in store.iterdir())
        assert facts["stored"] == 21
        assert facts["failed"] == 0
        assert facts["classes"] == dict.fromkeys(sorted(facts["classes"]), 3)
        assert len(facts["classes"]) == 7
        assert facts["targets"] == {"labels": {"dtype": "int64", "shape": [21]}}
        assert facts["mean"] == pytest.approx(images.mean(axis=(0, 2, 3)))
        assert facts["std"] == pytest.approx(images.std(axis=(0, 2, 3)))
        assert facts["source_height_px"] == [min(heights), max(heights)]
        assert facts["format_version"] == 1

    def test_classes_beyond_twenty_are_counted(self, tmp_path: Path) -> None:
        images = np.zeros((1, 8, 8, 3), np.uint8)
        names = [f"class {number:02d} [red]" for number in range(25)]
        arraystore.build(images.repeat(25, axis=0), tmp_path / "a.store", size=8, labels=names, progress=False).close()
        lines = [line.strip() for line in run("info", tmp_path / "a.store").stdout.splitlines()]
        assert "1  class 19 [red]" in lines
        assert "1  class 20 [red]" not in lines
        assert "and 5 more" in lines
        assert len(json.loads(run("info", tmp_path / "a.store", "--json").stdout)["classes"]) == 25

    def test_failed_slots_and_hdf5(self, flawed: Path, tmp_path: Path) -> None:
        arraystore.build(flawed, tmp_path / "a.h5", size=16, bad="keep", progress=False).close()
        facts = json.loads(run("info", tmp_path / "a.h5", "--json").stdout)
        assert facts["medium"] == "hdf5"
        assert (facts["stored"], facts["failed"]) == (14, 12)
        assert facts["classes"]["rocket"] == 2, "failed slots are counted as images of their class"
        assert facts["source_height_px"][0] > 0
        assert facts["disk_bytes"] == (tmp_path / "a.h5").stat().st_size

    def test_no_store(self, tmp_path: Path) -> None:
        assert str(tmp_path / "nowhere") in one_line(run("info", tmp_path / "nowhere"))
        (tmp_path / "text.h5").write_text("hello")
        assert "text.h5" in one_line(run("info", tmp_path / "text.h5"))

    @pytest.mark.parametrize("extra", [{}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color"}])
    def test_no_color_in_a_pipe(self, store: Path, extra: dict[str, str]) -> None:
        assert "\x1b" not in run("info", store, extra=extra).stdout
        assert "\x1b" not in run("info", "--nonsense", extra=extra).stderr

    def test_a_reader_that_leaves(self, store: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [*COMMAND, "info", str(store)], env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False
        )
        os.close(writer)
        assert process.returncode == 1
        assert process.stderr == b""


class TestPreview:
    def test_chosen_slots(self, store: Path, tmp_path: Path) -> None:
        result = run("preview", store, "out.png", "--slots", "0, 5,10-12,20", cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (0, "wrote out.png\n", "")
        drawn = (tmp_path / "out.png").read_bytes()
        run("preview", store, "same.png", "--slots", "0,5,10,11,12,20", cwd=tmp_path)
        run("preview", store, "other.png", "--slots", "0,5,10,11,12,19", cwd=tmp_path)
        assert drawn == (tmp_path / "same.png").read_bytes()
        assert drawn != (tmp_path / "other.png").read_bytes()

    def test_random_slots(self, store: Path, tmp_path: Path) -> None:
        for name, options in [("a", []), ("b", ["--count", "3"]), ("c", ["--count", "3", "--seed", "1"])]:
            assert run("preview", store, tmp_path / f"{name}.png", *options).returncode == 0
        a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
        assert cv2.imread(str(tmp_path / "a.png")).shape[0] > cv2.imread(str(tmp_path / "b.png")).shape[0]  # type: ignore[union-attr]
        assert len({a, b, c}) == 3

    @pytest.mark.parametrize(
        ("slots", "named"), [("21", 21), ("3,400", 400), ("0-99999999999999", 21), ("99999999999-99999999999999", None)]
    )
    def test_slots_that_are_not_there(self, store: Path, tmp_path: Path, slots: str, named: int | None) -> None:
        message = one_line(run("preview", store, tmp_path / "out.png", "--slots", slots), code=2)
        assert "valid slots are 0 to 20" in message
        assert f"slot {named or 99999999999} is not" in message
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("slots", ["", "a", "1,,2", "-1", "5-", "9-3", "1.5"])
    def test_slots_that_are_no_numbers(self, store: Path, tmp_path: Path, slots: str) -> None:
        message = usage_error(run("preview", store, tmp_path / "out.png", f"--slots={slots}"))
        assert "Invalid value for '--slots'" in message
        assert "0,5,10-20" in message

    def test_not_a_png(self, store: Path, tmp_path: Path) -> None:
        assert ".png" in one_line(run("preview", store, tmp_path / "out.jpg"), code=2)

    def test_a_folder_that_is_not_there(self, store: Path, tmp_path: Path) -> None:
        assert "nowhere does not exist" in one_line(run("preview", store, tmp_path / "nowhere" / "out.png"))


class TestSample:
    def test_it_is_the_sample(self, tmp_path: Path) -> None:
        result = run("sample", tmp_path / "a", "--count", "9", "--seed", "2")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"wrote 9 images to {tmp_path / 'a'}\n"
        write_sample(tmp_path / "b", count=9, seed=2)
        made, expected = (
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.jpg")}
            for name in "ab"
        )
        assert made == expected

    def test_a_folder_that_is_not_empty(self, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        assert "is not an empty folder" in one_line(run("sample", tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_wrong_counts(self, tmp_path: Path) -> None:
        assert "--count" in usage_error(run("sample", tmp_path / "a", "--count", "0"))
        assert "--seed" in usage_error(run("sample", tmp_path / "a", "--seed", "-1"))


class TestErrors:
    def test_an_error_of_the_system_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        message = one_line(run("sample", tmp_path / "file" / "photos"))
        assert message == f"arraystore: {tmp_path / 'file' / 'photos' / 'astronaut'}: Not a directory\n"

    @pytest.mark.parametrize(("options", "extra"), [(["--debug"], {}), ([], {"ARRAYSTORE_DEBUG": "1"})])
    def test_debug_puts_the_traceback_first(self, tmp_path: Path, options: list[str], extra: dict[str, str]) -> None:
        result = run("info", tmp_path / "nowhere", *options, extra=extra)
        assert result.returncode == 1
        assert result.stderr.startswith("Traceback (most recent call last)")
        assert "FormatError" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("arraystore: there is no store")

    def test_debug_can_be_switched_off(self, tmp_path: Path) -> None:
        one_line(run("info", tmp_path / "nowhere", extra={"ARRAYSTORE_DEBUG": "0"}))

    def test_an_unknown_command(self) -> None:
        assert "No such command 'nonsense'" in usage_error(run("nonsense"))

    def test_a_missing_argument(self) -> None:
        assert "STORE" in usage_error(run("info"))
