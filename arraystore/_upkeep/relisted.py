"""The sources of a store, listed again by the options that the store records, where the caller gives no others."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from arraystore._building.sources import manifest_for, source_kind
from arraystore._format.description import Description
from arraystore._sources.kinds.table import chosen_columns
from arraystore._sources.manifest import Manifest
from arraystore._sources.recorded import decoders_needed, recorded_decoders
from arraystore.errors import Kind, ManifestError, Option, StoreError


def listed_again(
    description: Description,
    source: Any,
    labels: Any,
    targets: Any,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Manifest:
    """Return the manifest of a source, as `manifest_for` does for a build.

    Args:
        description: of the store.
        source: of the caller, or as recorded.
        labels: of the caller.
        targets: of the caller.
        options: all options, with their defaults.
        given: those that the caller has given; the others are as recorded.

    Raises:
        ManifestError: see `manifest_for`; or the store has targets that were given beside the sources, and these are
            not given now, though the source has others of the same name.
    """
    recorded = description.source_options
    kind = source_kind(source)
    own = {name: recorded[name] for name in kind.options if name in recorded and name not in given}
    if "classes" in own:
        own["classes"] = {name: description.classes[name] for name in own["classes"] if name in description.classes}
    columns, arrays = chosen_columns(targets)
    if columns is None and "targets" in recorded and kind.has_columns:
        chosen = recorded["targets"]
        whole = chosen if isinstance(chosen, dict) else dict.fromkeys(chosen, "auto")
        targets = {**whole, **arrays} if arrays else chosen
    if options["decoders"] is None:  # so that new files are found which only these decode
        own["decoders"] = recorded_decoders(recorded)
    new = manifest_for(source, labels, targets, {**options, **own})
    beside = {*(arrays or ()), *(() if labels is None else ("labels",))}
    for name in recorded.get("given", ()):
        if name in {*new.targets, *new.texts, *new.masks} - beside and not isinstance(source, Manifest):
            option = Option("labels", ["…"]) if name == "labels" else Option("targets", {name: "…"})
            raise ManifestError(
                f"{name!r} of the store was given beside its sources, and the source has other values of that name",
                kind=Kind.INVALID,
                advice="pass {0}, a value for each source",
                options=[option],
            )
    return new


def check_decoders_given(description: Description, names: Iterable[str], decoders: Any, path: os.PathLike[str]) -> None:
    """Check that the decoders without which these sources cannot be decoded are given; an empty mapping is an answer.

    Raises:
        StoreError: they are not.
    """
    if decoders is not None or not description.source_options.get("decoders"):
        return
    needed = decoders_needed(description.source_options, names)
    if needed:
        shown = ", ".join(map(repr, needed))
        raise StoreError(
            f"{path} was built with decoders for {shown}, and has sources that only these decode",
            source=str(path),
            kind=Kind.INVALID,
            advice="pass them as {0}; an empty mapping lists the sources without them",
            options=[Option("decoders", {needed[0]: "…"})],
        )
