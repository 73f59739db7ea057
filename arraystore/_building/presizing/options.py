"""The options of `arraystore.presize` beside those of sources and workers, listed once; it documents each."""

from collections.abc import Sequence
from typing import Annotated, Any

from arraystore._building.options import RunOptions
from arraystore._building.presizing.recipe import Fit, Form, Icc
from arraystore._common.options import Default
from arraystore._sources.options import SourceOptions
from arraystore.spec import DEFAULT_MAX_PIXELS, Filter, Subsampling, Truncated

OneSize = int | tuple[int, int]


class PresizeOptions(SourceOptions, RunOptions, total=False):
    """All of them."""

    shorter: Annotated[int | Sequence[int] | None, Default(None)]
    longer: Annotated[int | Sequence[int] | None, Default(None)]
    size: Annotated[OneSize | Sequence[OneSize] | None, Default(None)]
    fit: Annotated[Fit, Default("stretch")]
    filter: Annotated[Filter, Default("bilinear")]
    quality: Annotated[int, Default(90, low=1, high=100)]
    subsampling: Annotated[Subsampling, Default("420")]
    format: Annotated[Form, Default("jpeg")]
    background: Annotated[tuple[int, int, int] | None, Default(None)]
    icc: Annotated[Icc, Default("keep")]
    exact: Annotated[bool, Default(False)]
    max_pixels: Annotated[int, Default(DEFAULT_MAX_PIXELS, low=1)]
    levels: Annotated[int | None, Default(None, low=1, high=65_535)]
    truncated: Annotated[Truncated, Default("refuse")]
    masks: Annotated[Any, Default(None)]
    boxes: Annotated[Any, Default(None)]
    unscaled: Annotated[Sequence[str], Default(())]
    prune: Annotated[bool, Default(False)]
