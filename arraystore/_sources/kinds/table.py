"""The table of the kinds of sources: how each is recognized, who lists it, and what that function takes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arraystore._sources.kinds.archives.listing import ARCHIVE_SUFFIXES, from_archives
from arraystore._sources.kinds.coco.instances import COCO_SUFFIX, from_coco
from arraystore._sources.kinds.folders import from_folder, metadata_in
from arraystore._sources.kinds.found import Found
from arraystore._sources.kinds.lines import LINES_SUFFIX, from_lines
from arraystore._sources.kinds.lists import are_paths, from_memory, from_paths
from arraystore._sources.kinds.pairs import from_image_folder, from_pairs, gives_pairs, is_image_folder
from arraystore._sources.kinds.patterns import from_pattern, is_pattern, paths_like
from arraystore._sources.kinds.rows.files import from_metadata, from_table
from arraystore._sources.kinds.rows.frames import from_frame, is_frame, is_series
from arraystore._sources.kinds.rows.hugging_face import from_hugging_face, is_hugging_face
from arraystore._sources.kinds.rows.parquet import from_parquet, has_images
from arraystore._sources.kinds.sequences import from_lazy, is_lazy
from arraystore._sources.kinds.slots import from_slots, has_slots
from arraystore._sources.options import for_source
from arraystore._sources.tables import TABLE_SUFFIXES
from arraystore._sources.targets.given import check_sized, given_targets
from arraystore._sources.targets.masks import Masks
from arraystore.errors import Kind, ManifestError, Option


class SourceKind(NamedTuple):
    """One kind of source.

    Attributes:
        name: as in `arraystore._sources.options`, which lists the options that it has.
        is_of: tells whether a source is of this kind; the first kind that says so counts.
        find: lists the sources and their targets.
        takes: what ``find`` takes beside the source and the options of the kind: ``labels``, which replace its own,
            ``targets`` (the columns that become targets, or None), ``classes``, which it need not check then,
            ``decoders``, and ``masks`` (of the caller, in a folder that may be one of the source).
    """

    name: str
    is_of: Callable[[Any], bool]
    find: Callable[..., Found]
    takes: tuple[str, ...] = ()


class PathList(list[str]):
    """The files that a pattern means."""


def _is_file(*suffixes: str) -> Callable[[Any], bool]:
    return lambda source: isinstance(source, str) and source.lower().endswith(suffixes) and not Path(source).is_dir()


def _are_files(*suffixes: str) -> Callable[[Any], bool]:
    return lambda source: all(map(_is_file(*suffixes), source if isinstance(source, PathList) else [source]))


def _is_parquet_of_images(source: Any) -> bool:
    if isinstance(source, PathList):
        return _are_files(".parquet")(source)
    return _is_file(".parquet")(source) and Path(source).is_file() and has_images(source)


def _is_folder_with_table(source: Any) -> bool:
    return isinstance(source, str) and Path(source).is_dir() and metadata_in(source) is not None


SOURCE_KINDS = (
    SourceKind("slots of a store", has_slots, from_slots, ("labels",)),
    SourceKind("a lazy sequence", is_lazy, from_lazy),
    SourceKind("a data set of Hugging Face", is_hugging_face, from_hugging_face, ("targets",)),
    SourceKind("a table in memory", is_frame, from_frame, ("targets",)),
    SourceKind(
        "an archive",
        _are_files(*ARCHIVE_SUFFIXES),
        from_archives,
        ("labels", "targets", "classes", "masks", "decoders"),
    ),
    SourceKind("Parquet of images", _is_parquet_of_images, from_parquet, ("targets",)),
    SourceKind("a COCO file", _is_file(COCO_SUFFIX), from_coco, ("targets",)),
    SourceKind("a list of paths in a file", _is_file(LINES_SUFFIX), from_lines, ("labels", "decoders")),
    SourceKind("a pattern of paths", lambda source: isinstance(source, PathList), from_pattern, ("decoders",)),
    SourceKind("a table", _is_folder_with_table, from_metadata, ("targets",)),
    SourceKind("a table", _is_file(*TABLE_SUFFIXES), from_table, ("targets",)),
    SourceKind("a folder", lambda source: isinstance(source, str), from_folder, ("labels", "classes", "decoders")),
    SourceKind("an ImageFolder", is_image_folder, from_image_folder, ("labels",)),
    SourceKind("a data set of pairs", gives_pairs, from_pairs, ("labels",)),
    SourceKind("a list of paths", are_paths, from_paths),
    SourceKind("images in memory", lambda _: True, from_memory),
)


def kind_of(source: Any) -> tuple[SourceKind, Any]:
    """Return the kind of a source, and the source in the form that its kind lists.

    Raises:
        ManifestError: it has no length, or a pattern means no file.
    """
    if isinstance(source, str):
        source = PathList(paths_like(source)) if is_pattern(source) else source
    elif not is_hugging_face(source):
        check_sized("the source", source)
    if is_series(source):
        source = source.to_pylist() if hasattr(source, "to_pylist") else source.to_list()
    elif getattr(source, "ndim", None) == 1 and hasattr(source, "tolist"):
        source = source.tolist()  # a column of pandas, or an array of texts
    return next(kind for kind in SOURCE_KINDS if kind.is_of(source)), source


def found_in(
    source: Any,
    labels: Any,
    targets: Any,
    options: Mapping[str, Any],
    decoders: Any = None,
    masks: Mapping[str, Masks] | None = None,
) -> Found:
    """Return what a source of any kind holds.

    Args:
        source: as the caller passes it, a path as a text.
        labels: of the caller, or None.
        targets: the columns that become targets, or None.
        options: all of `SourceOptions`.
        decoders: suffixes or first bytes of further files that are images.
        masks: the targets that are masks in a folder, which may lie inside the source.

    Raises:
        ManifestError: the source is of no kind or cannot be listed, or an option has no meaning for its kind.
    """
    kind, source = kind_of(source)
    own = for_source(kind.name, options)
    if "classes" not in kind.takes:
        del own["classes"]  # the manifest applies them
    if targets is not None and "targets" not in kind.takes:
        given_targets(labels, targets)
        raise ManifestError(
            f"targets has the names of columns, which {kind.name} has not",
            kind=Kind.INVALID,
            advice="pass arrays of your own as {0}",
            options=[Option("targets", {"name": "…"})],
        )
    given = {"labels": labels, "targets": targets, "decoders": decoders, "masks": masks}
    return kind.find(source, **own, **{name: given[name] for name in kind.takes if name in given})


def masks_in_folders(labels: Any, arrays: Mapping[str, Any] | None) -> dict[str, Masks]:
    """Return those targets of the caller that are masks in a folder which may lie inside the source."""
    given = {"labels": labels} | dict(arrays or {})
    return {name: each for name, each in given.items() if isinstance(each, Masks) and each.inner_folder is not None}


def chosen_columns(targets: Any) -> tuple[Any, Any]:
    """Return the two meanings of the option ``targets``.

    Returns:
        the columns of a source that become targets, None for all; and the arrays that are given beside it, or None.
    """
    if not isinstance(targets, Mapping):
        return targets, None
    kinds = {name: kind for name, kind in targets.items() if isinstance(kind, str)}
    arrays = {name: values for name, values in targets.items() if name not in kinds}
    return kinds or None, arrays or None
