"""The manifest of a call of `arraystore.build`, `plan` or `compare`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arraystore._common.options import picked
from arraystore._sources.manifest import Manifest
from arraystore._sources.options import SourceOptions
from arraystore._stores.opening import open_store


def manifest_for(source: Any, labels: Any, targets: Any, options: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a source, as `Manifest.of` does; ``classes`` may also be the path of a store.

    Raises:
        ManifestError: see `Manifest.of`.
        FormatError: there is no store at the path of ``classes``.
    """
    chosen = picked(SourceOptions, options)
    classes = chosen.get("classes")
    if isinstance(classes, str | os.PathLike):
        chosen["classes"] = open_store(Path(classes).expanduser()).description.classes
    return Manifest.of(source, labels=labels, targets=targets, **chosen)
