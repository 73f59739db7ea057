"""The stores of one build: their targets, which of them an earlier call has finished, and whether there is room."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from arraystore._building.build import build_key, is_up_to_date
from arraystore._building.sources import spec_for, with_resized_masks
from arraystore._common.checks import size_of
from arraystore._common.limits import check_space
from arraystore._common.wording import many
from arraystore._format.files import read_json
from arraystore._sources.manifest import Manifest
from arraystore._stores.media import medium_of, target_path
from arraystore._stores.medium import Opened
from arraystore._stores.opening import finish_earlier, open_store
from arraystore._stores.publishing import BESIDE, PLAN, aside_of, partial_of, real_target
from arraystore._stores.unfinished.build_key import BuildKey
from arraystore.errors import FormatError, SpecError
from arraystore.spec import ImageOptions, ImageSpec


@dataclass(frozen=True, slots=True)
class Wanted:
    """One store of a build.

    Attributes:
        name: the target as the caller gave it, for messages.
        label: what the reasons of bad images call it, which stores keep: the name of its file, if no other has it.
        path: of the target, absolute.
        place: the same without links on the way and at its end, which no other target has.
        manifest: the rows, whose masks have the size of its slots.
        key: see `BuildKey`.
    """

    name: str
    label: str
    path: Path
    place: Path
    manifest: Manifest
    key: BuildKey

    @property
    def folder(self) -> Path:
        """The folder in which the store lies; for a link that leads nowhere, that of the link."""
        return self.place.parent if self.place.parent.is_dir() else self.path.parent

    @property
    def needed_bytes(self) -> int:
        """What the store takes on disk, as far as that is known before."""
        return self.key.needed_bytes(medium_of(self.place, self.key.spec))


def target_paths(targets: Mapping[Any, Any], options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the path of each target of a build, by the target as the caller gave it.

    Raises:
        SpecError: there are none, one is no path or asks for another format, two are one text, or an option says a size
            too.
    """
    also = next((name for name in ("size", "spec") if options.get(name) is not None), None)
    if also is not None:
        raise SpecError(f"the targets say the size of each store: leave out {also}")
    paths: dict[str, Path] = {}
    for target in targets:
        if not isinstance(target, str | os.PathLike):
            raise SpecError(f"a target of several must be a path, not {target!r}: one call builds into RAM alone")
        name = os.fspath(target)
        if name in paths:
            raise SpecError(f"the target {name} comes twice: give each size a target of its own")
        paths[name] = target_path(target).absolute()
    if not paths:
        raise SpecError("there is no target: pass a path and a size for each store")
    return paths


def specs_for(
    source: Any, targets: Mapping[Any, Any], options: ImageOptions, given: Mapping[str, Any]
) -> list[ImageSpec]:
    """Return the spec of each store of a build: its own, or the one that its size and the options make.

    Args:
        source: of the build.
        targets: to a size or a spec each.
        options: see `spec_for`.
        given: see `spec_for`.

    Raises:
        SpecError: a value is neither.
    """
    specs = []
    for target, value in targets.items():
        if isinstance(value, ImageSpec):
            specs.append(value)
            continue
        size_of(value, f"the size of {os.fspath(target)}")  # here, so that an error names the store
        sized: dict[str, Any] = {"size": value}
        specs.append(spec_for(source, cast("ImageOptions", {**options, **sized}), {**given, **sized}))
    return specs


def wanted_stores(targets: Mapping[str, Path], specs: Sequence[ImageSpec], manifest: Manifest) -> list[Wanted]:
    """Return the stores of a build: name and path of each target, and the spec of each.

    Raises:
        SpecError: two targets are one path, or one lies in the other or in what is made beside it.
    """
    stores: list[Wanted] = []
    are_unlike = len({path.name for path in targets.values()}) == len(targets)
    for (name, path), spec in zip(targets.items(), specs, strict=True):
        own = with_resized_masks(manifest, spec)
        stores.append(Wanted(name, path.name if are_unlike else name, path, _place_of(path), own, build_key(own, spec)))
    for i, store in enumerate(stores):
        for other in stores[:i]:
            _check_apart(store, other)
    return stores


def _place_of(path: Path) -> Path:
    target = real_target(path)
    return Path(os.path.realpath(target.parent)) / target.name


def _check_apart(store: Wanted, other: Wanted) -> None:
    if store.place == other.place:
        raise SpecError(f"the targets {other.name} and {store.name} are one path: give each size a target of its own")
    for one, two in ((store, other), (other, store)):
        taken = (two.place, partial_of(two.place), aside_of(two.place))
        if any(one.place == place or place in one.place.parents for place in taken):
            raise SpecError(f"the target {one.name} lies where {two.name} is made: give it a path outside of that")


def finished_already(stores: Sequence[Wanted], *, overwrite: bool, fresh: bool) -> dict[int, Opened]:
    """Return the stores that a call like this one has finished before it was killed, by their numbers.

    Such a call gives its stores their names one after the other. The plan of each store then tells the identities of
    all of them (`BESIDE`), and lies there until that store is published, so it shows which stores the call has made.
    A store that was made in another way is none of them, even if it has the same sources and options.
    """
    plans = [plan for store in stores for plan in _plans_of(store)]
    if fresh:
        return {}
    known = {str(identity) for plan in plans for identity in plan.get(BESIDE, ()) if isinstance(identity, str)}
    done = {}
    for number, store in enumerate(stores):
        # Where work lies beside a store, the call was killed before it gave that work the name.
        if not known or not os.path.lexists(store.path) or (partial_of(store.place) / PLAN).exists():
            continue
        with suppress(FormatError):  # it is no store, or another one
            opened = open_store(store.path)
            is_ours = opened.identity in known and opened.description.spec == store.key.spec
            is_ours &= opened.description.root == store.manifest.root
            if is_ours and (not overwrite or is_up_to_date(opened, store.manifest)):
                done[number] = opened
    return done


def _plans_of(store: Wanted) -> Iterator[dict[str, Any]]:
    """Finish a publication in which an earlier call was killed, and yield the plans of this store's builds."""
    earlier = finish_earlier(store.path)
    if earlier is not None and store.key.fits(earlier):
        yield earlier
    with suppress(FormatError):
        plan = read_json(partial_of(store.place) / PLAN)
        if store.key.fits(plan):
            yield plan


def check_room(stores: Sequence[Wanted]) -> None:
    """Check that the volumes have room for all stores together. Those that have been begun have their room already.

    Raises:
        SpaceError: a volume has not.
    """
    on_volume: dict[int, list[Wanted]] = defaultdict(list)
    for store in stores:
        if not (partial_of(store.place) / PLAN).exists():
            on_volume[store.folder.stat().st_dev].append(store)
    for some in on_volume.values():
        names = ", ".join(store.name for store in some)
        what = f"the {many(len(some), 'store')} {names} need" if len(some) > 1 else f"the store {names} needs"
        check_space(some[0].folder, sum(store.needed_bytes for store in some), what)
