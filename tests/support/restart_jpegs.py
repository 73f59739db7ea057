"""JPEGs with restart markers, and what a cut of them must show, worked out slowly."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from support import images

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom

# How many pixels a sample of chroma covers, across and down.
SAMPLINGS = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "gray": (1, 1)}


def picture(height: int, width: int, sampling: str, *, seed: int = 0, noise: int = 0) -> Pixels:
    """Waves with noise of some levels, (H, W, 3), or (H, W) where the sampling is gray."""
    rng = np.random.default_rng(seed)
    pixels = images.photo(height, width, seed=seed % 8).astype(np.int16)
    pixels += rng.integers(-noise, noise + 1, pixels.shape, np.int16)
    levels = pixels.clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels[..., 0]) if sampling == "gray" else levels


def jpeg(pixels: Pixels, sampling: str, restart: int, *, quality: int = 90, options: tuple[int, ...] = ()) -> bytes:
    """A JPEG by OpenCV, with a restart marker after each ``restart`` units, or none where it is 0."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restart, *options]
    if sampling != "gray":
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")]
    done, data = cv2.imencode(".jpg", pixels, settings)
    assert done
    return data.tobytes()


def decoded(data: bytes | Pixels) -> Pixels:
    """All pixels, (H, W, 3), or (H, W, 1) of a gray JPEG. A warning of libjpeg is an error."""
    gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
    pixels: Pixels = simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB")
    return pixels


def units(height: int, width: int, sampling: str) -> tuple[int, int]:
    """How many units a scan has, across and down: the least blocks that hold each component's samples."""
    across, down = SAMPLINGS[sampling]
    return -(-width // (8 * across)), -(-height // (8 * down))


def box_of_cut(height: int, width: int, sampling: str, restart: int, window: Box, margin: int) -> Box | None:
    """What a cut must show: the intervals that touch the window and its margin. None if the file is not to be cut."""
    (columns, rows), (across, down) = units(height, width, sampling), SAMPLINGS[sampling]
    if not restart or (columns % restart and restart % columns):
        return None
    margin = 0 if (across, down) == (1, 1) else margin
    left, top, right, bottom = window
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    interval_of = (np.arange(rows * columns) // restart).reshape(rows, columns)
    ys, xs = np.arange(rows) * 8 * down, np.arange(columns) * 8 * across
    touches_y = (ys < bottom) & (ys + 8 * down > top)
    touches_x = (xs < right) & (xs + 8 * across > left)
    chosen = np.isin(interval_of, interval_of[np.ix_(touches_y, touches_x)])
    while True:
        chosen_y, chosen_x = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
        box = (
            int(chosen_x[0]) * 8 * across,
            int(chosen_y[0]) * 8 * down,
            min(int(chosen_x[-1] + 1) * 8 * across, width),
            min(int(chosen_y[-1] + 1) * 8 * down, height),
        )
        # libjpeg interpolates in another way where chroma has two columns or one.
        if -(-(box[2] - box[0]) // across) > 2 or box[0] == 0:
            return None if chosen.all() else box
        chosen |= np.isin(interval_of, interval_of[chosen_y, chosen_x[0] - 1])
