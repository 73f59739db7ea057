"""Decoders of the caller, for formats that this package does not decode."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from arraystore._decoding.header import Data
from arraystore.errors import DecodeError, Kind, SpecError

_logger = logging.getLogger(__name__)

Decoder = Callable[[bytes], Any]
Decoders = Mapping[str | bytes, Decoder]


def check_decoders(decoders: object) -> None:
    """Check that the option ``decoders`` maps suffixes or first bytes to functions.

    Raises:
        SpecError: it does not.
    """
    if decoders is None:
        return
    if not isinstance(decoders, Mapping):
        raise SpecError(f"decoders must be a mapping such as {{'.dcm': function}}, not a {type(decoders).__name__}")
    for key, function in decoders.items():
        if not (isinstance(key, bytes) and key) and not (isinstance(key, str) and key.strip(".")):
            raise SpecError(f"a key of decoders is a suffix such as '.dcm', or a file's first bytes, not {key!r}")
        if not callable(function):
            raise SpecError(f"decoders[{key!r}] must be a function of a file's bytes, not a {type(function).__name__}")


def decode_by(decoders: Decoders, name: str, data: Data) -> Any:
    """Return the pixels that the first fitting decoder gives, or None where none fits.

    Args:
        decoders: see `arraystore.build`.
        name: of the file; empty where it has none.
        data: of the file.

    Raises:
        DecodeError: the decoder failed.
    """
    for key, function in decoders.items():
        if isinstance(key, bytes):
            fits = data[: len(key)] == key
        else:
            fits = name.lower().endswith("." + key.lower().lstrip("."))
        if not fits:
            continue
        try:
            return np.asarray(function(bytes(data)))
        except MemoryError:
            raise
        except Exception as error:
            _logger.info("the decoder of %r failed", key, exc_info=error)
            reason = f"the decoder of {key!r} failed: {type(error).__name__}: {error}"
            raise DecodeError(reason, kind=Kind.DAMAGED) from error
    return None
