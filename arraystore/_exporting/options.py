"""The options of `arraystore.export`, listed once; it documents each."""

from collections.abc import Callable
from typing import Annotated, Literal, TypedDict

from arraystore._common.options import Default
from arraystore._common.progress import Progress
from arraystore.spec import Subsampling

Form = Literal["folder", "parquet", "arrow", "tar"]
Format = Literal["jpeg", "png"]


class ExportOptions(TypedDict, total=False):
    """All of them."""

    format: Annotated[Format, Default("jpeg")]
    quality: Annotated[int, Default(90, low=1, high=100)]
    subsampling: Annotated[Subsampling, Default("420")]
    max_bytes: Annotated[int | str | None, Default(None)]
    bad: Annotated[Literal["raise", "drop"], Default("drop")]
    overwrite: Annotated[bool, Default(False)]
    workers: Annotated[int | None, Default(None, low=1)]
    progress: Annotated[bool | Callable[[Progress], None], Default(True)]
