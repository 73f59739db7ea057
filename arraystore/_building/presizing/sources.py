"""What is to be made smaller: the manifest of files, the masks beside them, and the folders of the trees."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arraystore._building.presizing.names import Names, is_inside
from arraystore._building.presizing.recipe import Recipe
from arraystore._building.sources import manifest_for
from arraystore._common.checks import expanded
from arraystore._sources.kinds.coco.instances import COCO_SUFFIX
from arraystore._sources.kinds.folders import from_folder, metadata_in
from arraystore._sources.manifest import Manifest
from arraystore._sources.options import SourceOptions, for_source
from arraystore._sources.tables import TABLE_SUFFIXES
from arraystore._sources.targets.masks import Masks
from arraystore.errors import Kind, SpecError, StoreError

_PLACE = "{size}"
_MASKS = "masks"  # the one target of a manifest that is presized


def annotated_by(source: Any) -> str | None:
    """Return the path of the table or the COCO file that lists the images of a source; None if there is none."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = str(expanded(source))
    if Path(path).is_dir():
        return metadata_in(path)
    return path if path.lower().endswith((*TABLE_SUFFIXES, COCO_SUFFIX)) and Path(path).is_file() else None


def manifest_of(source: Any, options: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a source, without targets.

    Folders of any names are taken, and images at any depth: a tree needs no classes.

    Raises:
        ManifestError: see `Manifest.of`, and the masks do not fit.
        SpecError: the masks are no files.
    """
    if annotated_by(source) is not None:
        manifest = manifest_for(source, None, [], options)
    elif isinstance(source, str | os.PathLike) and expanded(source).is_dir():
        for_source("a folder", {name: options[name] for name in SourceOptions.__annotations__})
        found = from_folder(source, labels=(), allow_empty=True, decoders=options["decoders"])
        manifest = Manifest(found.sources, found.root, left_out=found.left_out)
    else:
        manifest = manifest_for(source, None, None, options)
    masks = options["masks"]
    if masks is None:
        masks = next(iter(manifest.masks.values()), None)
    elif not isinstance(masks, Masks):
        masks = Masks(masks)
    own = {} if masks is None else {_MASKS: masks}
    bare: dict[str, Any] = {"targets": {}, "classes": {}, "texts": {}, "source_pixels": {}, "source_sides": None}
    manifest = replace(manifest, **bare, masks=own, origin=None, source_options={})
    if not all(each.are_files for each in manifest.masks.values()):
        raise SpecError("masks must be files: pass a folder of them, or Masks of their paths")
    return manifest


def target_paths(target: str | os.PathLike[str], recipe: Recipe) -> list[Path]:
    """Return the folder of each size.

    Raises:
        SpecError: there are several sizes, and nothing in the target says which is which.
    """
    text = os.fspath(target)
    if len(recipe.names) > 1 and _PLACE not in text:
        raise SpecError(
            f"there are {len(recipe.names)} sizes, and the target {text!r} has no {_PLACE}, so they would be one tree: "
            f"pass {text}-{_PLACE}"
        )
    return [expanded(text.replace(_PLACE, name)).absolute() for name in recipe.names]


def check_apart(targets: Sequence[Path], manifest: Manifest, names: Names) -> None:
    """Check that no target lies among the sources: they would be sources of the next call, or be written over.

    Raises:
        StoreError: one does.
    """
    for target in targets:
        real = os.path.realpath(target)
        folders = {names.base, os.path.realpath(names.base)}
        among = any(real == folder or is_inside(real, folder) for folder in folders)
        inside = next((source for source in names.sources if source.startswith(f"{real}/")), None)
        if (among and manifest.root is not None) or inside is not None:
            where = f"among the images, in {names.base}" if inside is None else f"around the image {inside}"
            raise StoreError(
                f"the target {target} lies {where}: its images would be sources of the next call; choose a target "
                "beside them",
                source=str(target),
                kind=Kind.INVALID,
            )
