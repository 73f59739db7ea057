"""What decoders notice in an image that can be stored nevertheless. Any step may notice something."""

import threading


class _Noticed(threading.local):
    def __init__(self) -> None:
        self.texts: list[str] = []


_noticed = _Noticed()


def notice(text: str) -> None:
    """Note something about the image that this thread decodes."""
    _noticed.texts.append(text)


def noticed() -> str | None:
    """Return what this thread has noticed since the last call, or None."""
    return "; ".join(dict.fromkeys(taken())) or None


def taken() -> list[str]:
    """Return each text that `noticed` would return in one, and forget them."""
    texts, _noticed.texts = _noticed.texts, []
    return texts
