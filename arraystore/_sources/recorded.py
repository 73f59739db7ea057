"""The options by which sources were listed, in the form in which a store records them, so that updates list them alike.

Without them, an update would take rows that the build left out, or leave out rows that it took, without a word.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from arraystore._common.checks import expanded
from arraystore._sources.tables import conditions_of

_AS_THEY_ARE = ("path_column", "suffix", "separator", "allow_empty")
_BYTES = "0x"


def recorded_options(
    options: Mapping[str, Any], columns: Any, decoders: Iterable[str | bytes] | None
) -> dict[str, Any]:
    """Return the options as values of JSON, without those that have their defaults.

    Args:
        options: some or all of `SourceOptions`, valid ones.
        columns: that become targets: names, or a mapping of names to kinds; None for all.
        decoders: suffixes or first bytes of files that functions of the caller decode; these cannot be recorded
            themselves.
    """
    made = {name: options[name] for name in _AS_THEY_ARE if options.get(name)}
    if options.get("root") is not None:
        made["root"] = str(expanded(options["root"]).absolute())
    if conditions := conditions_of(options.get("where")):
        made["where"] = conditions
    if columns is not None:
        made["targets"] = dict(columns) if isinstance(columns, Mapping) else list(columns)
    if decoders:
        made["decoders"] = sorted(map(_as_text, decoders))
    return made


def _as_text(key: str | bytes) -> str:
    """Return a key of decoders as a text: a suffix with its dot, or first bytes in hexadecimal digits behind 0x."""
    return _BYTES + key.hex() if isinstance(key, bytes) else "." + key.lower().lstrip(".")


def recorded_decoders(recorded: Mapping[str, Any]) -> list[str | bytes]:
    """Return the keys of the decoders that recorded options name."""
    keys = recorded.get("decoders", ())
    return [bytes.fromhex(key.removeprefix(_BYTES)) if key.startswith(_BYTES) else key for key in keys]


def decoders_needed(recorded: Mapping[str, Any], names: Iterable[str]) -> list[str | bytes]:
    """Return the keys of recorded decoders without which some of these sources may not be decoded as they were.

    A suffix is in the name of a source. Which sources began with certain bytes is not known, so these always count.
    """
    keys = recorded_decoders(recorded)
    ends = [key for key in keys if isinstance(key, str)]
    found = {end for name in map(str.lower, names) for end in ends if name.endswith(end)}
    return [key for key in keys if isinstance(key, bytes) or key in found]
