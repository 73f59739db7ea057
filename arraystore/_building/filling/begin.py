"""Begin to fill a store that is read meanwhile, or join the process that does it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from arraystore._building.build import build_key, is_up_to_date
from arraystore._building.filling.filling import Filling
from arraystore._building.filling.following import FilledAlone, Following
from arraystore._building.filling.place import Place
from arraystore._building.options import RunOptions
from arraystore._format.description import Description
from arraystore._format.files import read_json
from arraystore._format.slot_file import cannot_map
from arraystore._format.target_forms import forms_of
from arraystore._sources.manifest import Manifest
from arraystore._stores.media import medium_of
from arraystore._stores.medium import Draft, Opened
from arraystore._stores.opening import draft_in, finish_earlier, hold
from arraystore._stores.publishing import FOLLOWERS, PLAN, partial_of, real_target
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.filling import Filler, FillingImages
from arraystore.errors import FormatError, Kind, ManifestError, Option, SpecError, StoreError, StoreExistsError
from arraystore.spec import ImageSpec

_JOIN_LIMIT_S = 60.0  # the process that holds the build has begun by then, however many slots it has to look at
_RETRY_S = 0.05


def check_can_fill(bad: str) -> None:
    """Check that a store with this option can be read while it is filled.

    Raises:
        SpecError: it cannot.
    """
    if bad == "drop":
        raise SpecError(
            "dropping moves slots, which other processes may be reading",
            advice="pass {0}: no loader of this store hands out a bad slot; or build with {1}",
            options=[Option("bad", "keep"), Option("wait")],
        )


def begin_filling(
    manifest: Manifest,
    target: Path | None,
    spec: ImageSpec,
    options: RunOptions,
    *,
    bad: str,
    max_bad: float | None,
    overwrite: bool,
) -> Opened:
    """Return a store whose images are `FillingImages`, for `arraystore.build`; see there for what else is raised.

    Raises:
        ManifestError: the sources have masks, or can only be read in order.
    """
    if manifest.masks or manifest.mask_fills:
        raise ManifestError(
            "masks cannot be read while they are filled",
            kind=Kind.UNSUPPORTED,
            advice="build the store with {0}",
            options=[Option("wait")],
        )
    if manifest.is_read_once:
        raise ManifestError(
            "these sources can only be read once and in order, and a loader asks for them in another",
            kind=Kind.UNSUPPORTED,
            advice="pass a list, or build the store with {0}",
            options=[Option("wait")],
        )
    key = build_key(manifest, spec)
    place = Place(
        None if target is None else real_target(target), key, manifest, options["decoders"], options["max_memory"], bad
    )
    filler = _filler(place, options, max_bad, overwrite=overwrite)
    finished: Opened | None = filler.finished
    images = FillingImages((key.count, *spec.slot_shape), filler, is_encoded=spec.encode is not None)
    return Opened(
        "ram" if target is None else medium_of(target, spec).name,
        place.target,
        SlotArray(images, targets=dict(manifest.targets)),
        _described(manifest, key.count, spec) if finished is None else finished.description,
        _Tables(images) if finished is None else finished.load_table,
    )


class _Tables:
    """Loads a table of a store that is being filled: of the finished one, once it is.

    Choices of slots that were made before then have them too. In another process it is always too early.
    """

    def __init__(self, images: FillingImages | None) -> None:
        self._images = images

    def __call__(self, name: str) -> Any:
        finished = None if self._images is None else self._images.filler.finished
        if finished is None:
            raise StoreError(f"a store that is being filled has no {name} yet: call finish() first")
        return finished.load_table(name)

    def __reduce__(self) -> tuple[type[_Tables], tuple[None]]:
        return _Tables, (None,)


def _described(manifest: Manifest, count: int, spec: ImageSpec) -> Description:
    return Description(
        count=count,
        shape=spec.slot_shape,
        spec=spec,
        targets=forms_of(dict(manifest.targets)),
        classes=dict(manifest.classes),
        manifest_digest=manifest.digest,
        root=manifest.root,
        source_pixels=dict(manifest.source_pixels),
    )


def _filler(place: Place, options: RunOptions, max_bad: float | None, *, overwrite: bool) -> Filler:
    if place.target is None:
        return _filling(place, options, max_bad, in_folder=False, overwrite=False)
    place.target.parent.mkdir(parents=True, exist_ok=True)
    until_s = time.monotonic() + _JOIN_LIMIT_S
    while True:
        finish_earlier(place.target)
        finished = _finished(place)
        if finished is not None:
            return finished
        try:
            return _filling(place, options, max_bad, in_folder=True, overwrite=overwrite)
        except StoreExistsError:
            if (finished := _finished(place)) is None:
                raise
            return finished
        except StoreError as error:
            if error.kind is not Kind.BUSY or time.monotonic() > until_s:
                raise
            following = Following(place)
            if following.is_attached:
                return following
            following.close()
            _refuse_another(place)
        time.sleep(_RETRY_S)


def _finished(place: Place) -> Following | None:
    """Return what reads the finished store, if that is the target and its sources are what they were."""
    if place.target is None or not place.target.exists():
        return None
    following = Following(place)
    opened = following.finished
    manifest = place.manifest
    is_same = opened is not None and opened.description.root == manifest.root
    if opened is not None and is_same and (manifest.is_fixed or is_up_to_date(opened, manifest)):
        return following
    following.close()
    return None


def _filling(place: Place, options: RunOptions, max_bad: float | None, *, in_folder: bool, overwrite: bool) -> Filling:
    folder = hold(place.target, place.key, overwrite=overwrite) if in_folder and place.target is not None else None
    draft = draft_in(folder, place.key, fresh=options["fresh"], manifest=place.manifest)
    try:
        _check_shared(draft, place)
        return Filling(
            draft,
            folder,
            place.key,
            place.manifest,
            options,
            bad=place.bad,
            max_bad=max_bad,
            follow=partial(Following, place),
            copy_of=partial(FilledAlone, place),
        )
    except BaseException as error:
        if folder is not None:
            folder.release()
        if isinstance(error, OSError) and cannot_map(error):
            raise _shares_nothing(place.target) from error
        raise


def _check_shared(draft: Draft, place: Place) -> None:
    if draft.file is not None and not draft.slots.flags.writeable:
        raise _shares_nothing(place.target)


def _shares_nothing(target: Path | None) -> StoreError:
    return StoreError(
        f"the volume of {target} shares no files that are mapped, so nobody can read what others write",
        kind=Kind.UNSUPPORTED,
        advice="build with {0}, or on another volume",
        options=[Option("wait")],
    )


def _refuse_another(place: Place) -> None:
    """Refuse to wait for a process that fills something else.

    Raises:
        StoreError: it does, and how that differs.
    """
    folder = partial_of(place.target) if place.target is not None else Path()
    try:
        plan = read_json(folder / PLAN) if (folder / FOLLOWERS).exists() else None
    except (FormatError, OSError):
        return
    if plan is not None and not place.key.fits(plan):
        differing = place.key.differences(plan, place.manifest)
        raise StoreError(
            f"another process fills {place.target} with something else: {'; '.join(differing)}",
            source=str(place.target),
            advice="wait for it, choose another target, or make the call that it has made",
        )
