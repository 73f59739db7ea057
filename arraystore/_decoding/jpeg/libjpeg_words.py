"""What libjpeg says while OpenCV decodes: it writes to the file of errors of the whole process, and nowhere else.

OpenCV decodes damaged JPEGs and returns their pixels without a word to its caller. To hear of the damage, the process's
file descriptor 2 is another file while one image is decoded. Few images need this: see the module of layouts.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from arraystore._common.forks import lock_across_forks

_STDERR = 2
_LIBJPEG = re.compile(
    rb"(?:Corrupt JPEG|Premature end of JPEG|Invalid SOS|Inconsistent progression|Warning: unknown JFIF"
    rb"|Unknown Adobe|Application transferred)[^\n]*"
)
_lock = lock_across_forks()  # so that no child is forked with the other file as its standard error


@contextmanager
def words_heard() -> Iterator[list[str]]:
    """Collect what libjpeg says; the list is filled when the block ends. One thread at a time may be inside.

    What others write to the standard error meanwhile is passed on when the block ends.
    """
    words: list[str] = []
    with _lock, os.fdopen(os.memfd_create("libjpeg"), "w+b", buffering=0) as heard:
        try:
            before = os.dup(_STDERR)
        except OSError:  # it is closed, as in some services
            before = None
        os.dup2(heard.fileno(), _STDERR)
        try:
            yield words
        finally:
            if before is None:
                os.close(_STDERR)
            else:
                os.dup2(before, _STDERR)
            heard.seek(0)
            said = heard.read()
            words += [line.decode("ascii", "replace") for line in _LIBJPEG.findall(said)]
            if before is not None:
                others = _LIBJPEG.sub(b"", said).strip(b"\n")
                if others:
                    os.write(before, others + b"\n")
                os.close(before)
