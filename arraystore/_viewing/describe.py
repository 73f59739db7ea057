"""The contents of a store, as ``arraystore info`` prints them: as plain values, and as a table for people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arraystore._common.arrow import numbers_in
from arraystore._common.limits import disk_bytes
from arraystore._common.ragged import Ragged, Target
from arraystore._common.wording import flat, left_out_text, readable, shape_text
from arraystore._format.specification import FAILED, FORMAT_VERSION, STORED
from arraystore._reading.store import Store
from arraystore._sources.targets.given import count_classes
from arraystore._viewing.tables import class_rows


def describe(store: Store, path: Path) -> dict[str, Any]:
    """Return the facts about a store as plain values."""
    spec = store.spec
    status = np.bincount(store.status, minlength=3)
    stored = store.status == STORED
    facts: dict[str, Any] = {
        "path": str(path),
        "medium": store.medium,
        "shape": list(store.images.shape),
        "layout": spec.layout,
        "color": spec.color,
        "fit": spec.fit,
        "filter": spec.filter,
        "background": list(spec.background),
        "exact": spec.exact,
        **({} if spec.encode is None else {"encode": spec.to_dict()["encode"]}),
        "image_bytes": int(store.images.nbytes),
        "disk_bytes": disk_bytes(path),
        "stored": int(status[STORED]),
        "failed": int(status[FAILED]),
        "noted": len(store.noted()),
        "classes": {} if store.labels is None else count_classes(store.labels[stored], store.classes),
        "targets": {name: _form(target) for name, target in store.targets.items()},
        **({"masks": dict(store.description.masks)} if store.description.masks else {}),
        "left_out": dict(store.description.left_out),
        "mean": [float(value) for value in store.mean],
        "std": [float(value) for value in store.std],
    }
    if not spec.one_shape:
        own = store.sides[stored]
        for side, values in zip(("height", "width"), own.T, strict=True):
            facts[f"slot_{side}_px"] = [int(values.min()), int(values.max())] if len(own) else None
    for side in ("height", "width"):
        sides = numbers_in(store.samples[side])[stored]
        facts[f"source_{side}_px"] = [int(sides.min()), int(sides.max())] if len(sides) else None
    return facts | {"format_version": FORMAT_VERSION, "writer": store.description.writer}


def _form(target: Target) -> dict[str, Any]:
    if not isinstance(target, Ragged):
        return {"dtype": str(target.dtype), "shape": list(target.shape)}
    lengths = target.lengths
    spread = [int(lengths.min()), int(lengths.max())] if len(lengths) else [0, 0]
    shape = [len(target), None, *target.item_shape]
    return {"dtype": str(target.dtype), "shape": shape, "items": len(target.values), "items_per_slot": spread}


def _form_text(form: dict[str, Any]) -> str:
    low, high = form.get("items_per_slot", (0, 0))
    sides = [f"{low:,} to {high:,}" if side is None else str(side) for side in form["shape"]]
    total = f", {form['items']:,} items in all" if "items" in form else ""
    return f"{form['dtype']} ({', '.join(sides)}){total}"


def fact_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that `describe` returned as the rows of a table: a name and a text each."""
    count, *slot = facts["shape"]
    yield "store", flat(facts["path"])
    yield "medium", facts["medium"]
    yield "images", f"{count:,} of {shape_text(slot)} uint8 ({facts['layout']}, {facts['color']})"
    if facts.get("slot_height_px"):
        (low, high), (narrow, wide) = facts["slot_height_px"], facts["slot_width_px"]
        yield "slots", f"{low:,} to {high:,} px high, {narrow:,} to {wide:,} px wide"
    kept = "JPEGs" if facts["medium"].startswith("encoded") else "pixels"
    yield "size", f"{readable(facts['image_bytes'])} of {kept}, {readable(facts['disk_bytes'])} on disk"
    noted = f" ({facts['noted']:,} with a note of the decoder)" if facts["noted"] else ""
    yield "status", f"{facts['stored']:,} stored{noted}, {facts['failed']:,} failed"
    if "encode" in facts:
        how = {name: value for name, value in facts["encode"].items() if name != "source"}
        ways = ["sources as they are, others as JPEG"] if "source" in facts["encode"] else ["JPEG"]
        yield "encoded", ", ".join([*ways, *(f"{name} {value}" for name, value in how.items())])
    exact = ", exact" if facts["exact"] else ""
    if "source" not in facts.get("encode", {}):
        yield "resized by", f"fit {facts['fit']}, filter {facts['filter']}{exact}"
    if facts["fit"] == "pad":
        yield "background", ", ".join(map(str, facts["background"]))
    height, width = facts["source_height_px"], facts["source_width_px"]
    if height and width:
        yield "sources", f"{height[0]:,} to {height[1]:,} px high, {width[0]:,} to {width[1]:,} px wide"
    if facts["left_out"]:
        yield "left out", left_out_text(facts["left_out"])
    yield "mean", ", ".join(f"{value:.2f}" for value in facts["mean"])
    yield "std", ", ".join(f"{value:.2f}" for value in facts["std"])
    for name, target in facts["targets"].items():
        masks = ", masks" if name in facts.get("masks", {}) else ""
        yield f"target {flat(name)}", _form_text(target) + masks
    yield from class_rows(facts["classes"])
    yield "format", f"version {facts['format_version']}, written by {flat(facts['writer'])}"
