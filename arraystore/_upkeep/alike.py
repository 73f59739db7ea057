"""Whether a source has the targets of a store, in the same form, so that the store can be updated from it."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from arraystore._common.ragged import Ragged, Target, rows_of_one_length
from arraystore._sources.manifest import Manifest
from arraystore.errors import Kind, ManifestError, StoreError


def as_ragged(old: Manifest, new: Manifest) -> Manifest:
    """Return the new manifest, with those targets ragged that are so in the old one and have rows of one length now."""
    targets = dict(new.targets)
    for name, target in new.targets.items():
        was = old.targets.get(name)
        if not isinstance(was, Ragged) or isinstance(target, Ragged) or target.ndim < 2:
            continue
        rows = rows_of_one_length(target)
        # Empty lists alone do not tell the type of their items.
        targets[name] = rows if target.size else Ragged(was.values[:0], rows.offsets)
    return new.changed(targets=targets)


def check_alike(path: str | os.PathLike[str], old: Manifest, new: Manifest) -> None:
    """Check that a source has the targets of a store, in the same form.

    Args:
        path: of the store.
        old: its manifest.
        new: that of the source.

    Raises:
        ManifestError: it has not, or its sources are no files.
        StoreError: masks of the store came with the slots of another one.
    """
    if not new.is_paths:
        raise ManifestError("the sources are not files", advice="pass a folder, a table, or a list of paths")
    for name in old.mask_fills:
        if name not in new.targets:
            raise StoreError(
                f"the masks {name!r} of {path} came with the slots of another store, so it is not known what they were "
                "made of",
                source=os.fspath(path),
                kind=Kind.INVALID,
                advice="build it again from its images and their masks",
            )

    def form(manifest: Manifest) -> dict[str, Any]:
        arrays = {
            name: _form(values, has_classes=name in manifest.classes) for name, values in manifest.targets.items()
        }
        return arrays | dict.fromkeys(manifest.texts, "text")

    was, now = form(old) | _mask_forms(old), form(new) | _mask_forms(new)
    if was != now:
        raise ManifestError(
            f"the source does not have the targets of the store: {'; '.join(_differing(was, now))}",
            advice="pass the source that the store was built from, with the same labels and targets",
        )


def _mask_forms(manifest: Manifest) -> dict[str, str]:
    kinds = {name: " of classes" if name in manifest.classes else "" for name in manifest.masks}
    return {name: f"masks{kinds[name]} of {masks.bits} bits" for name, masks in manifest.masks.items()}


def _form(target: Target, *, has_classes: bool) -> Any:
    """Return what must be the same in both manifests: a text, or dtype and shape."""
    if isinstance(target, Ragged):
        return "ragged classes" if has_classes else f"ragged {target.dtype.str} {target.item_shape}"
    if has_classes:
        return "classes" if target.ndim == 1 else "multi-label"
    return target.dtype.str, target.shape[1:]


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a phrase for each target that the store and the source do not both have in the same form."""

    def told(form: Any) -> str:
        return form if isinstance(form, str) else f"{form[0]} {form[1]}"

    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            yield f"{name} ({told(was[name])}) is only in the store"
        elif name not in was:
            yield f"{name} ({told(now[name])}) is only in the source"
        elif was[name] != now[name]:
            yield f"{name} is {told(was[name])} in the store, and {told(now[name])} in the source"
