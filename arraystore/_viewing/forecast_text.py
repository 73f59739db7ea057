"""The forecast of a build as a table for people."""

from collections.abc import Iterator

from arraystore._building.forecast import Forecast
from arraystore._common.wording import bad_lines, flat, many, readable, shape_text
from arraystore._stores.media import MEDIA
from arraystore._viewing.tables import class_rows

_LABELS = {"ram": "RAM"} | {medium.name: medium.label for medium in MEDIA}


def forecast_rows(forecast: Forecast) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: a name and a text each."""
    spec = forecast.spec
    shape = shape_text(spec.slot_shape)
    yield "images", f"{forecast.count:,} of {shape} uint8 ({spec.layout}, {spec.color})"
    yield "bytes", f"{readable(forecast.pixel_bytes)} of pixels, {readable(forecast.store_bytes)} in all"
    for name, room in forecast.media.items():
        place = "" if name == "ram" else f" on the volume of {flat(forecast.volume)}"
        yield _LABELS[name], f"{room} free{place}"
    yield "advice", forecast.advice
    if forecast.seconds is not None and forecast.seconds_range is not None:
        low, high = map(_duration, forecast.seconds_range)
        text = f"{_duration(forecast.seconds)} ({low} to {high}), {forecast.images_per_s:,.0f} img/s"
        yield (
            "time",
            f"{text} with {many(forecast.workers, 'worker')}; estimated from {many(forecast.sampled, 'image')}",
        )
        yield "not included", "the time to list the sources, and waiting for a disk or memory that is slower"
    if forecast.pixels_or_jpegs:
        yield "JPEGs", forecast.pixels_or_jpegs
    if forecast.source_bytes is not None:
        text = f"{readable(forecast.source_bytes)} each"
        if forecast.median_px is not None and forecast.largest_px is not None:
            text += f"; median {_sides(forecast.median_px)} px, largest seen {_sides(forecast.largest_px)} px (H x W)"
        yield "sources", text
    if forecast.bad_share is not None:
        yield "bad", "\n".join(_bad_lines(forecast))
    yield from class_rows(forecast.classes)
    for note in forecast.notes:
        yield "note", flat(note)


def _bad_lines(forecast: Forecast) -> Iterator[str]:
    found, share = len(forecast.bad), forecast.bad_share or 0.0
    if not found:
        yield f"none of the {forecast.sampled:,} sampled"
        return
    whole = "" if forecast.sampled == forecast.count else f", about {share * forecast.count:,.0f} in all"
    yield f"{found:,} of the {forecast.sampled:,} sampled ({share:.1%}{whole})"
    yield from bad_lines(forecast.bad)


def _sides(sides: tuple[int, int]) -> str:
    return " x ".join(f"{side:,}" for side in sides)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, length_s, limit in (("min", 60, 120), ("h", 3600, 48)):
        if seconds / length_s < limit:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"
