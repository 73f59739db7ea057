"""A tree of images made smaller: pixels and names, what passes through, what is done again, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from support import images
from support.faults import contents

import arraystore
from arraystore import (
    BadImagesError,
    Manifest,
    ManifestError,
    PresizeReport,
    Progress,
    SpaceError,
    SpecError,
    StoreError,
    StoreExistsError,
)
from arraystore._building.presizing import job as job_module

SIZES = {"cat/a.jpg": (120, 90), "cat/b.JPEG": (64, 200), "dog/deep/c.png": (81, 57), "d.bmp": (50, 50)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A tree of images of several formats, some beside folders, and a file that is no image."""
    folder = tmp_path / "photos"
    for seed, (name, size) in enumerate(SIZES.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.photo(*size, seed=seed)).save(path, quality=95)
    (folder / "cat" / "notes.txt").write_text("mine")
    return folder


def presize(source: Any, target: Any, **options: Any) -> PresizeReport:
    return arraystore.presize(source, target, **{"progress": False, "workers": 2} | options)


def names_in(tree: Path) -> list[str]:
    return sorted(
        str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file() and ".presize" not in path.parts
    )


def files_in(tree: Path) -> dict[str, bytes]:
    return {name: (tree / name).read_bytes() for name in names_in(tree)}


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def upright(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)


# --- sizes and pixels -------------------------------------------------------------------------------------------------


def test_the_same_tree_with_the_same_stems(photos: Path, tmp_path: Path) -> None:
    report = presize(photos, tmp_path / "small", shorter=40)
    assert names_in(tmp_path / "small") == ["cat/a.jpg", "cat/b.JPEG", "d.jpg", "dog/deep/c.jpg"]
    assert (report.count, report.written, report.unchanged, report.passed, report.bad) == (4, 4, 0, 0, ())
    assert report.trees == (tmp_path / "small",)
    assert report.bytes == (sum(map(len, files_in(tmp_path / "small").values())),)
    assert dict(report.left_out) == {".txt": 1}
    with Image.open(tmp_path / "small" / "cat" / "b.JPEG") as image:
        assert (image.format, image.size) == ("JPEG", (125, 40))


@pytest.mark.parametrize("filter", ["bilinear", "lanczos", "box", "nearest"])
def test_pixels_are_those_of_pillow(photos: Path, tmp_path: Path, filter: Any) -> None:
    presize(photos, tmp_path / "s", shorter=40, format="png", exact=True, filter=filter)
    for name, (height, width) in SIZES.items():
        side = min(height, width)
        size = (int(width * 40 / side + 0.5), int(height * 40 / side + 0.5))
        wanted = upright(photos / name).resize(size, Image.Resampling[filter.upper()])
        np.testing.assert_array_equal(pixels((tmp_path / "s" / name).with_suffix(".png")), np.asarray(wanted))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "p").mkdir()
    picture = images.photo(90, 60, seed=3)
    (tmp_path / "p" / "x.jpg").write_bytes(images.jpeg(picture, orientation=orientation))
    presize(tmp_path / "p", tmp_path / "s", longer=30, format="png", exact=True)
    wanted = upright(tmp_path / "p" / "x.jpg")
    wanted = wanted.resize((20, 30) if orientation < 5 else (30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels(tmp_path / "s" / "x.png"), np.asarray(wanted))
    presize(tmp_path / "p", tmp_path / "j", longer=30)
    with Image.open(tmp_path / "j" / "x.jpg") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert images.furthest(np.asarray(image), np.asarray(wanted)) < 45


def test_large_jpegs_are_shrunk_while_decoded_and_stay_near(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "x.jpg").write_bytes(images.jpeg(images.photo(800, 1200, seed=1), quality=95))
    presize(tmp_path / "p", tmp_path / "s", shorter=64, format="png")
    wanted = np.asarray(upright(tmp_path / "p" / "x.jpg").resize((96, 64), Image.Resampling.BILINEAR))
    found = pixels(tmp_path / "s" / "x.png")
    assert images.furthest(found, wanted) < 12
    presize(tmp_path / "p", tmp_path / "e", shorter=64, format="png", exact=True)
    np.testing.assert_array_equal(pixels(tmp_path / "e" / "x.png"), wanted)


def test_several_sizes_are_made_of_one_decode(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arraystore._building.presizing import making

    decodes = []
    original = making.decode_upright
    monkeypatch.setattr(making, "decode_upright", lambda *args: decodes.append(1) or original(*args))
    report = presize(photos, str(tmp_path / "s-{size}"), longer=(20, 40), format="png", exact=True)
    assert len(decodes) == report.written == 4
    assert report.trees == (tmp_path / "s-20", tmp_path / "s-40")
    for side in (20, 40):
        for name, (height, width) in SIZES.items():
            scale = side / max(height, width)
            size = (int(width * scale + 0.5), int(height * scale + 0.5))
            wanted = upright(photos / name).resize(size, Image.Resampling.BILINEAR)
            found = pixels((tmp_path / f"s-{side}" / name).with_suffix(".png"))
            np.testing.assert_array_equal(found, np.asarray(wanted))


@pytest.mark.parametrize(("fit", "small"), [("crop", (20, 25)), ("stretch", (20, 25))])
def test_both_sides(tmp_path: Path, fit: Any, small: tuple[int, int]) -> None:
    (tmp_path / "p").mkdir()
    Image.fromarray(images.photo(90, 200)).save(tmp_path / "p" / "large.png")
    Image.fromarray(images.photo(*((20, 80)), seed=1)).save(tmp_path / "p" / "small.png")
    presize(tmp_path / "p", tmp_path / "s-{size}", size=(40, 50), fit=fit, format="png")
    for name, (height, width) in {"large.png": (40, 50), "small.png": small}.items():
        image = upright(tmp_path / "p" / name)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        wanted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR) if fit == "crop" else resized
        np.testing.assert_array_equal(pixels(tmp_path / "s-40x50" / name), np.asarray(wanted))


def test_jpegs_have_the_quality_and_the_sampling_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    picture = Image.fromarray(images.photo(64, 64))
    picture.save(tmp_path / "p" / "x.png")
    Image.fromarray(images.photo(64, 64)[..., 0]).save(tmp_path / "p" / "gray.png")
    small = picture.resize((32, 32), Image.Resampling.BILINEAR)
    for quality, name, sampling in ((98, "420", 2), (97, "422", 1), (37, "444", 0)):
        target = tmp_path / f"s{quality}"
        presize(tmp_path / "p", target, shorter=32, quality=quality, subsampling=name)
        with io.BytesIO() as file:
            small.save(file, "JPEG", quality=quality, subsampling=sampling)
            with Image.open(file) as wanted, Image.open(target / "x.jpg") as found:
                assert found.quantization == wanted.quantization  # type: ignore[attr-defined]
                assert found.layer == wanted.layer  # type: ignore[attr-defined]
                # Below 96, the encoder has a faster transform, whose coefficients differ by one here and there.
                assert images.furthest(np.asarray(found), np.asarray(wanted)) <= (0 if quality > 95 else 30)
        with Image.open(target / "gray.jpg") as found:
            assert found.mode == "L"


@pytest.mark.parametrize("options", [{"processes": True}, {"workers": 1}, {"executor": "pool"}])
def test_any_workers_give_the_same_bytes(photos: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    presize(photos, tmp_path / "a", shorter=40)
    if "executor" in options:
        with ProcessPoolExecutor(2) as pool:
            presize(photos, tmp_path / "b", shorter=40, executor=pool)
    else:
        presize(photos, tmp_path / "b", shorter=40, **options)
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")


def test_progress_is_told(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def note(now: Progress) -> None:
        seen.append((now.done, now.total, now.bad))

    presize(photos, tmp_path / "s", shorter=40, progress=note)
    assert (seen[0], seen[-1]) == ((0, 4, 0), (4, 4, 0))
    seen.clear()
    presize(photos, tmp_path / "s", shorter=40, progress=note)
    assert seen == [(4, 4, 0)]


# --- passing through --------------------------------------------------------------------------------------------------


def test_an_upright_jpeg_that_is_not_larger_is_passed_through(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    files = {
        "same.jpg": images.jpeg(images.photo(40, 60)),
        "gray.jpg": images.jpeg(images.photo(30, 31)[..., 0]),
        "progressive.jpg": images.progressive(images.photo(12, 90)),
        "cmyk.jpg": images.encode(Image.fromarray(images.photo(20, 20)).convert("CMYK"), "JPEG"),
        "one.jpg": images.turned(images.jpeg(images.photo(40, 60)), 1),
    }
    for name, data in files.items():
        (tmp_path / "p" / name).write_bytes(data)
    report = presize(tmp_path / "p", tmp_path / "s", shorter=40)
    assert files_in(tmp_path / "s") == files
    assert report.passed == len(files)


def test_what_is_small_and_no_upright_jpeg_is_written_anew_and_never_enlarged(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "turned.jpg").write_bytes(images.jpeg(images.photo(40, 60), orientation=6))
    (tmp_path / "p" / "wrong.png").write_bytes(images.jpeg(images.photo(42, 63)))  # larger, with another's suffix
    (tmp_path / "p" / "a.png").write_bytes(images.png(images.photo(4, 6)))
    report = presize(tmp_path / "p", tmp_path / "s", shorter=40)
    assert report.passed == 0
    sizes = {}
    for name in names_in(tmp_path / "s"):
        with Image.open(tmp_path / "s" / name) as image:
            sizes[name] = image.size
    assert sizes == {"turned.jpg": (40, 60), "wrong.jpg": (60, 40), "a.jpg": (6, 4)}


def test_a_small_jpeg_that_is_damaged_is_bad_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    data = images.jpeg(images.photo(40, 60))
    (tmp_path / "p" / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "p" / "whole.jpg").write_bytes(data)
    (tmp_path / "p" / "endless.jpg").write_bytes(data[:-2])
    report = presize(tmp_path / "p", tmp_path / "s", shorter=40, bad="keep")
    assert [(bad.source, bad.slot) for bad in report.bad] == [("cut.jpg", 0)]
    assert [noted.source for noted in report.noted] == ["endless.jpg"]  # so it is not passed through
    assert names_in(tmp_path / "s") == ["endless.jpg", "whole.jpg"]
    assert (tmp_path / "s" / "endless.jpg").read_bytes().endswith(b"\xff\xd9")
    cut = presize(tmp_path / "p", tmp_path / "t", shorter=40, truncated="keep")
    assert [noted.source for noted in cut.noted] == ["cut.jpg", "endless.jpg"]
    with Image.open(tmp_path / "t" / "cut.jpg") as image:
        assert image.load() is not None


# --- again ------------------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    before = contents(tree)
    monkeypatch.setattr(job_module.PresizeJob, "_made", None)  # nothing is decoded
    report = presize(photos, tree, shorter=40)
    assert (report.written, report.unchanged) == (0, 4)
    assert {name: data for name, data in contents(tree).items() if "lock" not in name} == {
        name: data for name, data in before.items() if "lock" not in name
    }


def test_what_has_changed_is_done_again(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    whole = files_in(tree)
    (photos / "cat" / "a.jpg").write_bytes(images.jpeg(images.photo(100, 100, seed=9)))
    (photos / "new.jpg").write_bytes(images.jpeg(images.photo(100, 100, seed=10)))
    report = presize(photos, tree, shorter=40)
    assert (report.written, report.unchanged) == (2, 3)
    now = files_in(tree)
    assert {name for name in now if now[name] != whole.get(name)} == {"cat/a.jpg", "new.jpg"}
    fresh = tmp_path / "fresh"
    presize(photos, fresh, shorter=40)
    assert files_in(fresh) == now


@pytest.mark.parametrize("harm", ["delete", "edit", "cut", "link"])
def test_a_file_of_the_tree_that_is_not_as_it_was_written_is_made_again(
    photos: Path, tmp_path: Path, harm: str
) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    whole = files_in(tree)
    victim = tree / "cat" / "a.jpg"
    data = victim.read_bytes()
    victim.unlink()
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"mine")
    if harm == "edit":
        victim.write_bytes(data[:-1] + b"x")
    elif harm == "cut":
        victim.write_bytes(data[:-1])
    elif harm == "link":
        victim.symlink_to(outside)
    report = presize(photos, tree, shorter=40)
    assert (report.written, report.unchanged) == (1, 3)
    assert files_in(tree) == whole
    assert outside.read_bytes() == b"mine"


def test_sources_that_are_gone_are_told_and_pruned(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    (photos / "d.bmp").unlink()
    (tree / "mine.txt").write_text("mine")
    report = presize(photos, tree, shorter=40)
    assert (report.stale, report.pruned) == ((tree / "d.jpg",), 0)
    report = presize(photos, tree, shorter=40, prune=True)
    assert (report.stale, report.pruned) == ((), 1)
    assert names_in(tree) == ["cat/a.jpg", "cat/b.JPEG", "dog/deep/c.jpg", "mine.txt"]
    assert presize(photos, tree, shorter=40, prune=True).pruned == 0


def test_pruning_leaves_what_others_have_changed(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    (photos / "d.bmp").unlink()
    (tree / "d.jpg").write_bytes(b"edited")
    assert presize(photos, tree, shorter=40, prune=True).pruned == 0
    assert (tree / "d.jpg").read_bytes() == b"edited"


def test_a_source_that_became_bad_leaves_no_older_image(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    (photos / "cat" / "a.jpg").write_bytes(b"\xff\xd8\xff no")
    report = presize(photos, tree, shorter=40, bad="keep")
    assert [bad.source for bad in report.bad] == ["cat/a.jpg"]
    assert names_in(tree) == ["cat/b.JPEG", "d.jpg", "dog/deep/c.jpg"]
    (photos / "cat" / "a.jpg").write_bytes(images.jpeg(images.photo(120, 90)))
    assert presize(photos, tree, shorter=40).written == 1


def test_a_source_that_became_transparent_changes_its_suffix(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    Image.fromarray(images.noise(60, 60, 4)).save(photos / "dog" / "deep" / "c.png")
    presize(photos, tree, shorter=40)
    assert names_in(tree) == ["cat/a.jpg", "cat/b.JPEG", "d.jpg", "dog/deep/c.png"]


def test_another_recipe_is_refused_or_made_afresh(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    before = files_in(tree)
    message = r"were made in another way: shorter \[40\], now None, quality 90, now 91, longer None, now \[41\]; choose"
    with pytest.raises(StoreError, match=message):
        presize(photos, tree, longer=41, quality=91)
    assert files_in(tree) == before
    assert presize(photos, tree, shorter=40).unchanged == 4
    assert presize(photos, tree, longer=41, quality=91, fresh=True).written == 4
    presize(photos, tmp_path / "t", longer=41, quality=91)
    assert files_in(tree) == files_in(tmp_path / "t")


@pytest.mark.parametrize("damage", [b"", b"[1, 2\n", b'{"a": 1}\n[[]]\nnull\n["a", [1, 2], 0, 1, 1, {"../x": [1]}]\n'])
def test_a_ledger_that_cannot_be_read_means_that_all_is_made_again(photos: Path, tmp_path: Path, damage: bytes) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    whole = files_in(tree)
    ledger = tree / ".presize" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0] + damage + lines[1] + lines[2][:-20])
    (tree / "d.jpg").unlink()  # else these would be somebody else's, as far as the ledger knows
    for name in [*whole]:
        if name.encode() not in lines[0] + lines[1]:
            (tree / name).unlink(missing_ok=True)
    presize(photos, tree, shorter=40)
    assert files_in(tree) == whole
    assert presize(photos, tree, shorter=40).unchanged == 4


def test_a_hostile_ledger_deletes_nothing_outside(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"mine")
    info = victim.stat()
    (tree / "link").symlink_to(tmp_path)
    entry = [
        "/gone.jpg",
        [1, 1],
        0,
        1,
        1,
        {"../victim.jpg": [4, info.st_mtime_ns], "link/victim.jpg": [4, info.st_mtime_ns]},
    ]
    with (tree / ".presize" / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    presize(photos, tree, shorter=40, prune=True)
    assert victim.read_bytes() == b"mine"


def test_the_ledger_does_not_grow_for_ever(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    for seed in range(12):
        (photos / "cat" / "a.jpg").write_bytes(images.jpeg(images.photo(100, 100 + seed, seed=seed)))
        presize(photos, tree, shorter=40)
    assert len((tree / ".presize" / "ledger.jsonl").read_text().splitlines()) < 14
    assert presize(photos, tree, shorter=40).unchanged == 4


# --- bad images -------------------------------------------------------------------------------------------------------


def test_bad_images_are_raised_after_all_others_are_done(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "bad.jpg").write_bytes(b"no")
    with pytest.raises(BadImagesError) as caught:
        presize(photos, tmp_path / "s", shorter=40)
    assert str(caught.value).startswith(
        "1 of 5 images could not be made smaller: bad='keep' leaves them out; or mend the files and run it again. The "
        "others are done\n  slot 2  cat/bad.jpg: not an image in a known format"
    )
    assert len(names_in(tmp_path / "s")) == 4
    for bad in ("keep", "drop"):
        report = presize(photos, tmp_path / "s", shorter=40, bad=bad)
        assert (report.unchanged, report.written, [each.slot for each in report.bad]) == (4, 0, [2])


def test_only_bad_images_and_too_many_are_errors(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for i in range(30):
        (tmp_path / "p" / f"{i}.jpg").write_bytes(b"no")
    with pytest.raises(BadImagesError, match=r"^30 of 30 images could not be made smaller: is this the right source\?"):
        presize(tmp_path / "p", tmp_path / "s", shorter=40, bad="keep")
    with pytest.raises(BadImagesError, match=r"that is more than max_bad allows") as caught:
        presize(tmp_path / "p", tmp_path / "s", shorter=40, bad="keep", max_bad=2)
    assert caught.value.tried is not None


def test_an_image_that_needs_much_memory_is_done_alone_or_bad(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "large.png").write_bytes(images.png(np.zeros((4000, 4000, 3), np.uint8)))
    (tmp_path / "p" / "small.png").write_bytes(images.png(images.photo(60, 60)))
    report = presize(tmp_path / "p", tmp_path / "s", shorter=40, max_memory="200MB")  # a worker's share is too little
    assert report.written == 2
    report = presize(tmp_path / "p", tmp_path / "t", shorter=40, max_memory="100MB", bad="keep")
    assert [bad.source for bad in report.bad] == ["large.png"]
    assert "max_memory" in report.bad[0].reason


def test_a_full_volume_is_an_error_and_no_bad_image(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(job_module, "write_file", full)
        with pytest.raises(SpaceError, match="What is done is kept in"):
            presize(photos, tmp_path / "s", shorter=40, bad="keep")
    assert names_in(tmp_path / "s") == []
    assert presize(photos, tmp_path / "s", shorter=40).written == 4


# --- refused before anything is written -------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["cat/a.png", "cat/a.JPG", "cat/a.jpeg"])
def test_two_sources_of_one_name_are_refused(photos: Path, tmp_path: Path, other: str) -> None:
    shutil.copy(photos / "cat" / "a.jpg", photos / other)
    with pytest.raises(ManifestError, match=r"would get one name, 'cat/a': rename one of them, or leave one out"):
        presize(photos, tmp_path / "s", shorter=40)
    assert not (tmp_path / "s").exists()


def test_names_without_a_known_suffix_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("n1.0", "n1.1", "n1"):
        (tmp_path / "p" / name).write_bytes(images.jpeg(images.photo(60, 60)))
    presize(tmp_path / "p", tmp_path / "s", shorter=40)
    assert names_in(tmp_path / "s") == ["n1.0.jpg", "n1.1.jpg", "n1.jpg"]


def test_lists_keep_the_folders_below_what_they_share(photos: Path, tmp_path: Path) -> None:
    paths = [photos / "cat" / "a.jpg", photos / "dog" / "deep" / "c.png"]
    presize(paths, tmp_path / "s", shorter=40)
    assert names_in(tmp_path / "s") == ["cat/a.jpg", "dog/deep/c.jpg"]
    presize(Manifest.from_paths(["cat/a.jpg", "d.bmp"], root=photos), tmp_path / "t", shorter=40)
    assert names_in(tmp_path / "t") == ["cat/a.jpg", "d.jpg"]
    (tmp_path / "in").mkdir()
    presize([photos / "cat" / "a.jpg", tmp_path / "in" / ".." / "photos" / "d.bmp"], tmp_path / "u", shorter=40)
    assert names_in(tmp_path / "u") == ["cat/a.jpg", "d.jpg"]
    with pytest.raises(ManifestError, match="comes twice, in rows 0 and 1: rename"):
        presize([paths[0], paths[0]], tmp_path / "v", shorter=40)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("source", ["arrays", "bytes", "url"])
def test_what_is_no_file_is_refused(tmp_path: Path, source: str) -> None:
    sources: dict[str, Any] = {
        "arrays": [images.photo(50, 50)],
        "bytes": [images.jpeg(images.photo(50, 50))],
        "url": ["https://example.org/x.jpg"],
    }
    with pytest.raises(ManifestError, match=r"presize (makes files of files|reads files, not addresses)"):
        presize(sources[source], tmp_path / "s", shorter=40)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("place", ["photos", "photos/small", "photos/cat", "."])
def test_a_target_among_the_sources_is_refused(photos: Path, tmp_path: Path, place: str) -> None:
    before = contents(photos)
    with pytest.raises((StoreError, StoreExistsError)):
        presize(photos, tmp_path / place, shorter=40)
    with pytest.raises((StoreError, StoreExistsError)):
        presize([photos / "cat" / "a.jpg", photos / "d.bmp"], tmp_path / "photos" / "cat", shorter=40)
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(StoreError, match="lies among the images"):
        presize(photos, tmp_path / "link" / "small", shorter=40)
    assert contents(photos) == before


def test_a_target_with_other_files_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(StoreExistsError, match="was not made by presize"):
        presize(photos, tmp_path / "s", shorter=40, fresh=True)
    assert names_in(tmp_path / "s") == ["mine.jpg"]
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StoreExistsError, match="is no folder"):
        presize(photos, tmp_path / "file", shorter=40)


def test_a_file_of_somebody_else_in_the_tree_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    tree = tmp_path / "s"
    presize(photos, tree, shorter=40)
    (tree / "new.png").write_bytes(b"mine")
    (photos / "new.jpg").write_bytes(images.jpeg(images.photo(60, 60)))
    with pytest.raises(StoreExistsError, match=r"new\.png is there already, and .*photos/new\.jpg would get its name"):
        presize(photos, tree, shorter=40)
    assert (tree / "new.png").read_bytes() == b"mine"
    assert not (tree / "new.jpg").exists()


def test_a_second_source_does_not_replace_the_first(photos: Path, tmp_path: Path) -> None:
    tree, other = tmp_path / "s", tmp_path / "other"
    presize(photos, tree, shorter=40)
    before = files_in(tree)
    shutil.copytree(photos, other)
    with pytest.raises(StoreExistsError, match=r"a\.jpg was made of .*photos/cat/a\.jpg, and .* fresh=True"):
        presize(other, tree, shorter=40)
    assert files_in(tree) == before
    report = presize(other, tree, shorter=40, fresh=True)
    assert (report.written, report.stale) == (4, ())
    assert files_in(tree) == before  # of the same bytes


def test_no_folder_of_the_tree_is_entered_through_a_link(photos: Path, tmp_path: Path) -> None:
    tree, outside = tmp_path / "s", tmp_path / "outside"
    presize([photos / "d.bmp"], tree, shorter=40)
    outside.mkdir()
    (tree / "cat").symlink_to(outside)
    with pytest.raises(StoreError, match="cat is in the way: it should be a folder, and not a link to one"):
        presize([photos / "d.bmp", photos / "cat" / "a.jpg"], tree, shorter=40)
    assert [*outside.iterdir()] == []


def test_a_call_while_another_one_works_is_refused(photos: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(_now: Progress) -> None:
        if not refused:
            with pytest.raises(StoreError) as caught:
                presize(photos, tmp_path / "s", shorter=40)
            refused.append(str(caught.value))

    presize(photos, tmp_path / "s", shorter=40, progress=second)
    assert f"process {os.getpid()}" in refused[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "none of shorter, longer and size: it takes exactly one; pass shorter=256"),
        ({"shorter": 5, "longer": 6}, "presize was given shorter and longer: it takes exactly one"),
        ({"shorter": 0}, "shorter must be a whole number from 1 to 65,535, not 0"),
        ({"shorter": "x"}, "shorter must be a whole number"),
        ({"shorter": ()}, "shorter is empty"),
        ({"shorter": (5, 5)}, "shorter has the same size twice"),
        ({"size": (0, 4)}, "size must be 1 to 65535 pixels on each side"),
        ({"shorter": (5, 6)}, r"there are 2 sizes, and the target .* has no \{size\}"),
        ({"shorter": 5, "fit": "crop"}, "fit='crop' needs both sides, and shorter says one"),
        ({"size": 5, "fit": "pad"}, "fit must be one of 'stretch', 'crop', not 'pad'"),
        ({"size": 5, "icc": "ignore"}, "icc must be one of 'keep', 'srgb', not 'ignore'"),
        ({"size": 5, "quality": 101}, "quality must be a whole number from 1 to 100"),
        ({"size": 5, "subsampling": "421"}, "subsampling must be one of"),
        ({"size": 5, "format": "webp"}, "format must be one of 'jpeg', 'png', not 'webp'"),
        ({"size": 5, "bad": "skip"}, "bad must be"),
    ],
)
def test_wrong_options(photos: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        presize(photos, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_names_that_differ_in_case_need_a_volume_that_tells_them_apart(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(photos / "cat" / "a.jpg", photos / "cat" / "A.jpg")
    assert presize(photos, tmp_path / "s", shorter=40).written == 5
    exists = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda path: exists(path) or (path.name == "case" and exists(path.parent / "Case"))
    )
    with pytest.raises(ManifestError, match=r"would get one name on the volume of .*, which does not tell cases apart"):
        presize(photos, tmp_path / "t", shorter=40)
    assert names_in(tmp_path / "t") == []
