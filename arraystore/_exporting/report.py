"""What a call of `arraystore.export` has written."""

from dataclasses import dataclass
from pathlib import Path

from arraystore._common.options import public
from arraystore._exporting.options import Form
from arraystore.errors import BadImage


@public
@dataclass(frozen=True, slots=True)
class ExportReport:
    """What a call of `export` has written.

    Attributes:
        target: the file or the folder, absolute.
        form: of it.
        images: how many were written.
        copied: how many of them were copied as JPEGs, byte for byte; the others were encoded.
        files: how many files there are.
        bytes: what these hold together.
        bad: the slots that have no image, with the reasons; they were left out.
        notes: what a reader of the files should know, a sentence each.
        seconds: that the call took.
    """

    target: Path
    form: Form
    images: int
    copied: int
    files: int
    bytes: int
    bad: tuple[BadImage, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
