"""Masks by the command: columns of paths, and what is printed of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from support import images, masks
from support.command import run

import arraystore
from arraystore import ImageSpec

COUNT = 9
SPEC = ImageSpec(size=32)


def test_masks_from_a_table(tmp_path: Path) -> None:
    table = masks.write(tmp_path / "own", COUNT)
    refused = run("build", table, "x.store", "--size", "32", cwd=tmp_path)
    assert "if they are masks, pass --targets mask=mask and the other columns" in refused.stderr
    options = ("--targets", "label,mask=mask")
    result = run("build", table, "x.store", "--size", "32", *options, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[2:] == ["labels: int64", "mask: masks of uint8, 32 x 32 a row"]
    with arraystore.open(tmp_path / "x.store") as store:
        np.testing.assert_array_equal(store.targets["mask"], masks.slots(table.parent, SPEC, COUNT))
    told = {line[:14].strip(): line[14:].strip() for line in run("info", tmp_path / "x.store").stdout.splitlines()}
    assert told["target mask"] == f"uint8 ({COUNT}, 32, 32), masks"
    assert json.loads(run("info", tmp_path / "x.store", "--json").stdout)["masks"] == {"mask": 255}
    new = masks.numbers(*images.SIZES[3], seed=50)
    Image.fromarray(new).save(table.parent / "m/03.png")
    result = run("update", "x.store", table, *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 changed" in result.stdout
    with arraystore.open(tmp_path / "x.store") as store:
        np.testing.assert_array_equal(store.targets["mask"][3], masks.by_pillow(new, SPEC))


def test_a_bad_mask_is_named(tmp_path: Path) -> None:
    table = masks.write(tmp_path / "own", COUNT)
    (table.parent / "m/05.png").write_bytes((table.parent / "i/05.png").read_bytes())
    result = run("build", table, "x.store", "--size", "32", "--targets", "mask=mask", cwd=tmp_path)
    assert result.returncode == 1
    assert "slot 5  i/05.png: mask " in result.stderr
    assert "m/05.png: its pixels are RGB, not numbers of classes" in result.stderr
