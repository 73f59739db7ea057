"""The manifest of a call of `arraystore.build`, `plan` or `compare`, and the digests of its parts."""

import os
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from arraystore._common.options import picked
from arraystore._common.ragged import Ragged
from arraystore._sources.given import SOURCES, path_of
from arraystore._sources.kinds.slots import StoreSlots, has_slots, spec_in
from arraystore._sources.kinds.table import kind_of
from arraystore._sources.manifest import Manifest
from arraystore._sources.options import USED_FOR, SourceOptions
from arraystore._sources.targets.masks import Masks
from arraystore._stores.opening import open_store
from arraystore.errors import ArraystoreError, Kind, ManifestError
from arraystore.spec import ImageOptions, ImageSpec, Jpeg, spec_of


def manifest_for(source: Any, labels: Any, targets: Any, options: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a source, as `Manifest.of` does; ``classes`` may also be the path of a store.

    Raises:
        ManifestError: see `Manifest.of`.
        FormatError: there is no store at the path of ``classes``.
    """
    chosen = picked(SourceOptions, options)
    classes = chosen.get("classes")
    if isinstance(classes, str | os.PathLike):
        chosen["classes"] = SimpleNamespace(categories=open_store(classes).description.classes)
    try:
        return Manifest.of(source, labels=labels, targets=targets, decoders=options.get("decoders"), **chosen)
    except (ArraystoreError, OSError, MemoryError):
        raise
    except Exception as error:  # an object of the caller may raise anything
        raise ManifestError(
            f"the sources cannot be listed: {type(error).__name__}: {error}",
            kind=Kind.INVALID,
            advice=f"{SOURCES}; labels and targets are lists or arrays",
        ) from error


def with_resized_masks(manifest: Manifest, spec: ImageSpec) -> Manifest:
    """Return a manifest whose masks of slots of another store become masks of slots of ``spec``.

    Where these have another size, each mask is that of the image which its old slot is for the new one.
    """
    masks, targets, fills = dict(manifest.masks), dict(manifest.targets), dict(manifest.mask_fills)
    for name, fill in manifest.mask_fills.items():
        target: Any = targets[name]
        if isinstance(target, Ragged) or not spec.one_shape or np.shape(target)[1:] != spec.size:
            del targets[name], fills[name]
            if isinstance(target, Ragged) and isinstance(manifest.sources, StoreSlots):
                target = manifest.sources.masks_in(target)
            masks[name] = Masks(target, bits=fill.bit_length())
    if len(fills) == len(manifest.mask_fills):
        return manifest
    return replace(manifest, masks=masks, targets=targets, mask_fills=fills)


class ListedKind(NamedTuple):
    """The options that a source has, by its kind: names of `SourceOptions`, and whether it has columns to choose."""

    options: tuple[str, ...] = ()
    has_columns: bool = False


def source_kind(source: Any) -> ListedKind:
    """Return the options that a source has; none for a manifest, which was listed before, or for what is no source."""
    if isinstance(source, Manifest):
        return ListedKind()
    try:
        kind, _ = kind_of(path_of(source) if isinstance(source, str | os.PathLike) else source)
    except Exception:  # an object of the caller may raise anything; `manifest_for` says what is wrong
        return ListedKind()
    return ListedKind(USED_FOR[kind.name], "targets" in kind.takes)


def spec_for(source: Any, options: ImageOptions, given: Mapping[str, Any]) -> ImageSpec:
    """Return the spec of a build: that of `spec_of`, or where a store is the source, its own with what is changed.

    Args:
        source: of the build.
        options: all options of images, with their defaults.
        given: those that the caller has given, which change the spec of a store.

    Raises:
        SpecError: see `spec_of`.
        ManifestError: the source has slots that are no images.
    """
    if options.get("spec") is not None or not has_slots(source):
        return spec_of(options)
    changed = {name: value for name, value in picked(ImageOptions, given).items() if value is not None}
    own = spec_in(source).to_dict()
    encode = changed.get("encode")
    if encode == "source" or (isinstance(encode, Jpeg) and encode.source):  # which says the size of each slot
        own = {name: value for name, value in own.items() if name not in ("size", "fit")}
    return ImageSpec(**own | changed)
