"""The options that say how sources are listed, once; `arraystore.build` documents each."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from arraystore._common.options import Default
from arraystore.errors import ManifestError, Option

KINDS = ("number", "category", "text", "mask", "mask16")


class SourceOptions(TypedDict, total=False):
    """How a folder, a table or a list becomes a manifest."""

    root: Annotated[str | os.PathLike[str] | None, Default(None)]
    path_column: Annotated[str | None, Default(None)]
    suffix: Annotated[str, Default("")]
    separator: Annotated[str | None, Default(None)]
    where: Annotated[str | Mapping[str, Any] | None, Default(None)]
    allow_empty: Annotated[bool, Default(False)]
    classes: Annotated[Any, Default(None)]


_USED_FOR = {
    "a folder": ("allow_empty", "classes"),
    "a table": ("root", "path_column", "suffix", "separator", "where", "classes"),
    "a list of paths": ("root", "suffix", "classes"),
    "images in memory": ("classes",),
    "a Manifest": ("classes",),
    "slots of a store": ("classes",),
    "a data set of Hugging Face": ("root", "path_column", "suffix", "where", "classes"),
    "a table in memory": ("root", "path_column", "suffix", "where", "classes"),
    "an archive": ("classes",),
    "Parquet of images": ("path_column", "where", "classes"),
    "a COCO file": ("root", "classes"),
    "a list of paths in a file": ("root", "suffix", "classes"),
    "a pattern of paths": ("classes",),
    "an ImageFolder": ("classes",),
    "a data set of pairs": ("classes",),
}


def for_source(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that a source of a kind has.

    Raises:
        ManifestError: another one was given.
    """
    for name, hint in SourceOptions.__annotations__.items():
        value, default = options[name], hint.__metadata__[-1].value
        given = value is not default and not (isinstance(value, str) and value == default)
        if name not in _USED_FOR[kind] and given:
            raise ManifestError(
                f"{name} has no meaning for {kind}", advice="leave out {0}", options=[Option(name, None)]
            )
    return {name: options[name] for name in _USED_FOR[kind]}


def fixed_classes(classes: Any) -> dict[str, tuple[str, ...]]:
    """Return the classes that fix the codes, name of a target → its names: those of a list, a mapping, or a store.

    Raises:
        ManifestError: it is none of these, or a name comes twice.
    """
    if classes is None:
        return {}
    classes = getattr(classes, "categories", classes)
    if not isinstance(classes, Mapping):
        classes = {"labels": classes}
    fixed = {}
    for target, names in classes.items():
        if (
            isinstance(names, str)
            or not isinstance(names, Sequence)
            or not all(isinstance(each, str) for each in names)
        ):
            raise ManifestError(f"classes must be a list of names or a store, not a {type(names).__name__}")
        repeated = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
        if repeated:
            raise ManifestError(f"classes has {repeated[0]!r} twice: leave one out")
        fixed[target] = tuple(names)
    return fixed
