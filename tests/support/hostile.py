"""Files that want to break a build, each made here: bad images of every kind, and good ones that only look odd.

`BAD` and `GOOD` map a kind to a function that makes the file at a path; `bad_bytes` gives the kinds that are bytes.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support import images

Maker = Callable[[Path], None]


# --- parts of files --------------------------------------------------------------------------------------------------


def encode(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """A smooth picture in a format of Pillow's; ``size`` is width and height."""
    picture = Image.fromarray(images.photo(size[1], size[0])).convert(mode)
    return images.encode(picture, kind, **options)


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_zeros(count: int) -> bytes:
    """So many zeros in the form of zlib, in whole megabytes, of which one is packed and the others are its copies."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">I", count % 65_521 << 16 | 1)
    return b"\x78\xda" + megabyte * (count >> 20) + b"\x03\0" + checksum


def png(height: int, width: int, *, packed: bytes, before: Iterable[bytes] = ()) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *before, chunk(b"IDAT", packed), chunk(b"IEND", b"")])


def tiff(entries: dict[int, tuple[int, int, int]], body: bytes = b"") -> bytes:
    """A TIFF of one directory: tag → type, count, value; the body begins behind it."""
    table = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in entries.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + body


def _bits(codes: Iterable[tuple[int, int]]) -> bytes:
    """Bits of JPEG, from values and widths: filled up with ones, and each 0xFF followed by a zero."""
    value = width = 0
    for code, length in codes:
        value, width = value << length | code, width + length
    spare = -width % 8
    whole = (value << spare | (1 << spare) - 1).to_bytes((width + spare) // 8, "big")
    return whole.replace(b"\xff", b"\xff\0")


def scan_bomb(height: int, width: int, scans: int, *, components: int = 1, progressive: bool = True) -> bytes:
    """A valid JPEG of gray pixels in many scans. A progressive one says in a few bytes a scan that nothing changes."""
    blocks = -(-width // 8) * -(-height // 8)
    parts = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    frame = struct.pack(">BHHB", 8, height, width, components) + parts
    one_code = bytes([1]) + bytes(15)
    head = [b"\xff\xd8", segment(0xDB, b"\0" + bytes([1] * 64)), segment(0xC2 if progressive else 0xC0, frame)]
    head.append(segment(0xC4, b"\0" + one_code + b"\0"))  # the only code of DC: no change, in one bit
    if not progressive:
        head.append(segment(0xC4, b"\x10" + one_code + b"\0"))
        # One component a scan, so that the frame is not done after the first; two bits a block.
        body = _bits([(0, 2 * blocks)])
        tail = [segment(0xDA, bytes([1, i % components + 1, 0, 0, 63, 0])) + body for i in range(scans)]
        return b"".join([*head, *tail, b"\xff\xd9"])
    selectors = b"".join(bytes([i + 1, 0]) for i in range(components))
    head.append(segment(0xDA, bytes([components]) + selectors + bytes(3)) + _bits([(0, blocks * components)]))
    # Runs of blocks without change: of 2**14 + 14 bits of more, and for the rest of the next smaller power.
    whole, rest = divmod(blocks, 32_767)
    power = max(rest.bit_length() - 1, 0)
    symbols = bytes(sorted({14 << 4, power << 4} if rest else {14 << 4}, reverse=True))
    head.append(segment(0xC4, b"\x10" + bytes([0, len(symbols)]) + bytes(14) + symbols))
    runs = [(0, 2), (32_767 - (1 << 14), 14)] * whole
    if rest:
        runs += [(symbols.index(power << 4), 2), (rest - (1 << power), power)]
    body = _bits(runs)
    tail = [segment(0xDA, bytes([1, i % components + 1, 0, 1, 63, 0])) + body for i in range(scans - 1)]
    return b"".join([*head, *tail, b"\xff\xd9"])


def codestream(**changes: Any) -> bytearray:
    """A bare JPEG 2000 whose size segment, or precincts, may be changed."""
    data = bytearray(encode("JPEG2000", no_jp2=True))
    for at, value in changes.get("at", {}).items():
        struct.pack_into(">I", data, at, value)
    if "precinct" in changes:
        style = data.index(b"\xff\x52")
        (length,) = struct.unpack_from(">H", data, style + 2)
        levels = data[style + 9] + 1
        data[style + 4] |= 1
        struct.pack_into(">H", data, style + 2, length + levels)
        data[style + 2 + length : style + 2 + length] = bytes([changes["precinct"]]) * levels
    return data


# --- bad bytes -------------------------------------------------------------------------------------------------------


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _with_size(data: bytes, at: int, form: str, *size: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *size)
    return bytes(changed)


def _wrong_crc() -> bytes:
    data = bytearray(images.png(images.photo(30, 40)))
    data[data.index(b"IDAT") + 40] ^= 0xFF
    return bytes(data)


def _corrupt_huffman() -> bytes:
    data = images.jpeg(images.photo(30, 40))
    at = data.index(b"\xff\xc4") + 8
    return data[:at] + b"\xff" * 8 + data[at + 8 :]


def _bit_flipped_header() -> bytes:
    data = bytearray(images.jpeg(images.photo(30, 40)))
    data[1] ^= 0x10
    return bytes(data)


def _exif_bomb() -> bytes:
    """EXIF whose one entry points to itself, in the largest segment there is, cut before the pixels."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 65_535, 0x8769, 4, 1, 8)
    return b"\xff\xd8" + segment(0xE1, exif + bytes(65_533 - len(exif))) * 20


_TIFF_HEAD = {257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8), 279: (4, 1, 8)}
BYTES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    # kind: suffix, the bytes, and what the reason says
    "empty": (".jpg", lambda: b"", "the file is empty"),
    "one byte": (".jpg", lambda: b"\xff", "not an image"),
    "zeros": (".jpg", lambda: bytes(5000), "not an image"),
    "text": (".jpg", lambda: b"see the other folder\n", "not an image"),
    "html": (".jpg", lambda: b"<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
    "svg": (".png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "pdf": (".jpg", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not an image"),
    "psd": (".tif", lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30, 40, 8, 3), "not an image"),
    "zip": (".png", lambda: b"PK\3\4" + bytes(60), "not an image"),
    "video": (".jpg", lambda: b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(99), "not an image"),
    "matroska": (".webp", lambda: b"\x1aE\xdf\xa3" + bytes(99), "not an image"),
    "control characters": (".jpg", lambda: b"\x1b]0;x\x07\r\n\x1b[2J", "not an image"),
    "truncated jpeg": (".jpg", lambda: _half(images.jpeg(images.noise(30, 40))), "ends early"),
    "truncated progressive": (".jpg", lambda: _half(images.progressive(images.noise(30, 40))), "ends early"),
    "truncated png": (".png", lambda: _half(images.png(images.noise(30, 40))), "damaged or ends early"),
    "truncated webp": (".webp", lambda: _half(encode("WEBP")), "damaged or ends early"),
    "truncated tiff": (".tif", lambda: _half(encode("TIFF")), "ends early"),
    "truncated gif": (".gif", lambda: _half(encode("GIF", "P")), "damaged or ends early"),
    "truncated avif": (".avif", lambda: encode("AVIF")[:-20], "decode"),
    "truncated bmp": (".bmp", lambda: _half(encode("BMP")), "damaged or ends early"),
    "truncated ppm": (".ppm", lambda: _half(encode("PPM")), "damaged or ends early"),
    "missing SOI": (".jpg", lambda: images.jpeg(images.photo(30, 40))[2:], "not an image"),
    "header of a jpeg": (".jpg", lambda: images.jpeg(images.photo(30, 40))[:20], "ends inside its header"),
    "header of a png": (".png", lambda: images.png(images.photo(30, 40))[:33], "damaged or ends early"),
    "no IEND and no pixels": (".png", lambda: images.png(images.noise(30, 40))[:-400], "damaged or ends early"),
    "wrong CRC": (".png", _wrong_crc, "the checksum of its IDAT chunk is wrong"),
    "bit flipped header": (".jpg", _bit_flipped_header, "not an image"),
    "corrupt Huffman table": (".jpg", _corrupt_huffman, "the JPEG is damaged"),
    "broken CMYK": (".jpg", lambda: _half(encode("JPEG", "CMYK")), "ends early"),
    "no rows": (".jpg", lambda: images.bomb(0, 40), "0 by 40 pixels"),
    "no columns": (".png", lambda: png(30, 0, packed=b""), "30 by 0 pixels"),
    "jpeg bomb": (".jpg", images.bomb, "more than max_pixels"),
    "png bomb": (".png", lambda: png(60_000, 60_000, packed=packed_zeros(1 << 20)), "more than max_pixels"),
    "gif bomb": (".gif", lambda: _with_size(encode("GIF", "P"), 6, "<HH", 60_000, 60_000), "more than max_pixels"),
    "tiff bomb": (".tif", lambda: tiff({256: (4, 1, 60_000)} | _TIFF_HEAD | {257: (4, 1, 60_000)}), "max_pixels"),
    "webp bomb": (
        ".webp",
        lambda: _with_size(encode("WEBP", exif=bytes(8)), 24, "<II", 0xFFFFFF, 0xFFFF),
        "max_pixels",
    ),
    "bmp bomb": (".bmp", lambda: _with_size(encode("BMP"), 18, "<ii", 60_000, 60_000), "more than max_pixels"),
    "ppm bomb": (".ppm", lambda: b"P6 60000 60000 255\n" + bytes(99), "more than max_pixels"),
    "scan bomb": (".jpg", lambda: scan_bomb(64, 64, 4000), "a JPEG of 4,000 scans over 64 x 64 pixels"),
    "large scan bomb": (".jpg", lambda: scan_bomb(9000, 9000, 60), "a JPEG of 60 scans over 9000 x 9000 pixels"),
    "sequential scan bomb": (".jpg", lambda: scan_bomb(64, 64, 300, components=3, progressive=False), "300 scans"),
    "inflating png": (".png", lambda: png(8, 8, packed=packed_zeros(256 << 20)), "bytes of pixels, more than 8 x 8"),
    "endless chunks": (".png", lambda: png(8, 8, packed=b"", before=[chunk(b"tEXt", b"")] * 300_000), "chunks"),
    "endless extensions": (".gif", lambda: encode("GIF", "P")[:13] + b"!\xfe\0" * 99_999, "extensions|no image"),
    "endless boxes": (".avif", lambda: b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 40_000, "boxes in a row"),
    "endless segments": (".jpg", lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 99_999, "no frame header"),
    "self-referring EXIF": (".jpg", _exif_bomb, "ends inside its header"),
    "endless strips": (".tif", lambda: tiff({256: (4, 1, 8), 273: (3, 2_000_000, 8)}, bytes(4_000_000)), "strips"),
    "endless samples": (".tif", lambda: tiff({256: (4, 1, 8)} | _TIFF_HEAD | {277: (3, 1, 65_535)}), "65,535 samples"),
    "huge tile": (
        ".tif",
        lambda: tiff({256: (4, 1, 8)} | _TIFF_HEAD | {322: (4, 1, 65_536), 323: (4, 1, 65_536)}),
        "tiles of 65536 x 65536",
    ),
    "looping directory": (".tif", lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 8), "does not state its size"),
    "jp2 of tiny precincts": (".jp2", lambda: bytes(codestream(at={8: 8000, 12: 8000}, precinct=0x11)), "blocks"),
    "jp2 of tiny tiles": (".jp2", lambda: bytes(codestream(at={8: 250, 12: 250, 24: 1, 28: 1})), "62,500 tiles"),
    "heic": (".avif", lambda: encode("AVIF").replace(b"avif", b"heic"), "the heif data is damaged"),
}


def _bytes_maker(kind: str) -> Maker:
    def make(path: Path) -> None:
        path.write_bytes(BYTES[kind][1]())

    return make


# --- bad entries of a folder -----------------------------------------------------------------------------------------


def _vanishing(path: Path) -> None:
    path.symlink_to(path.parent / "no such file")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")  # an address holds 107 bytes at most
        os.close(folder)


def _unreadable(path: Path) -> None:
    path.write_bytes(b"nobody may read this, and root finds no image")
    path.chmod(0)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


ENTRIES: dict[str, tuple[str, Maker, str]] = {
    "dangling link": (".jpg", _vanishing, "cannot be read: No such file or directory"),
    "link to itself": (".jpg", _loop, "cannot be read: Too many levels of symbolic links"),
    "unreadable": (".jpg", _unreadable, "cannot be read: Permission denied|not an image"),
    "file of holes": (".jpg", _sparse, "a file of 1,099,511,627,776 bytes, more than an image of max_pixels can have"),
}
# What a scan of a folder passes over, and a list of paths does not.
SPECIAL: dict[str, tuple[str, Maker, str]] = {
    "fifo": (".jpg", os.mkfifo, "not a regular file"),
    "socket": (".jpg", _socket, "not a regular file"),
    "link to a device": (".jpg", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "folder": (".jpg", lambda path: path.mkdir(), "not a regular file"),
}

BAD: dict[str, tuple[str, Maker, str]] = {
    **{kind: (suffix, _bytes_maker(kind), reason) for kind, (suffix, _, reason) in BYTES.items()},
    **ENTRIES,
}


def bad_bytes(kind: str) -> bytes:
    return BYTES[kind][1]()


# --- good, whatever they look like -----------------------------------------------------------------------------------


def _animation(kind: str, count: int) -> bytes:
    frames = [Image.new("P" if kind == "GIF" else "RGB", (20, 10), (i + 40) % 256) for i in range(count)]
    for i, frame in enumerate(frames):
        if kind == "GIF":
            frame.putpalette([(i + k) % 256 for k in range(768)])
    with io.BytesIO() as file:
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        return file.getvalue()


def _with_texts() -> bytes:
    data = images.png(images.photo(30, 40))
    return data[:33] + chunk(b"zTXt", b"k\0\0" + packed_zeros(6 << 20)) * 100 + data[33:]


def _many_pages() -> bytes:
    """A TIFF of 20,000 directories, each of which describes the same pixels."""
    data = bytearray(encode("TIFF", "L"))
    (first,) = struct.unpack_from("<I", data, 4)
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    page = bytes(data[first:end])
    for _ in range(20_000):
        struct.pack_into("<I", data, end, len(data))
        end = len(data) + len(page)
        data += page + bytes(4)
    return bytes(data)


def _deep() -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(file, "PNG")
        return file.getvalue()


_JPEG = images.jpeg(images.photo(30, 40))
GOOD: dict[str, tuple[str, Callable[[], bytes]]] = {
    # kind: name of the file, the bytes
    "png called jpg": ("a png.jpg", lambda: images.png(images.photo(30, 40))),
    "one pixel": ("one.png", lambda: images.png(images.photo(1, 1))),
    "wide": ("wide.jpg", lambda: images.jpeg(images.photo(1, 65_500))),
    "high": ("high.jpg", lambda: images.jpeg(images.photo(65_500, 1))),
    "animated gif": ("animation.gif", lambda: _animation("GIF", 2000)),
    "animated png": ("animation.png", lambda: _animation("PNG", 300)),
    "animated webp": ("animation.webp", lambda: _animation("WEBP", 300)),
    "many pages": ("pages.tif", _many_pages),
    "sixteen bits": ("deep.png", _deep),
    "progressive": ("progressive.jpg", lambda: images.progressive(images.photo(30, 40))),
    "a hundred scans": ("scans.jpg", lambda: scan_bomb(30, 40, 100)),
    "cmyk": ("cmyk.jpg", lambda: encode("JPEG", "CMYK")),
    "thumbnail of many scans": ("exif.jpg", lambda: _JPEG[:2] + segment(0xE1, b"\xff\xda" * 9999) + _JPEG[2:]),
    "another jpeg behind its end": (
        "more.jpg",
        lambda: images.progressive(images.photo(30, 40)) + b"\0\2" + b"\xff\xda\0\2" * 999,
    ),
    "packed texts": ("texts.png", _with_texts),
    "stray bytes": ("stray.jpg", lambda: _JPEG[:20] + b"\xff" * 999_999 + _JPEG[20:]),
    "spaces": ("  a  b .jpg", lambda: _JPEG),
    "new lines": ("a\nb\r.jpg", lambda: _JPEG),
    "tabs": ("a\tb.jpg", lambda: _JPEG),
    "quotes": ("\"'`$(x).jpg", lambda: _JPEG),
    "dash": ("-rf.jpg", lambda: _JPEG),
    "not UTF-8": (os.fsdecode(b"\xff\xfe\x80.jpg"), lambda: _JPEG),
    "long": ("x" * 251 + ".jpg", lambda: _JPEG),
    "emoji": ("\N{CAT FACE WITH TEARS OF JOY}.jpg", lambda: _JPEG),
    "format": ("%s%n{0}.jpg", lambda: _JPEG),
    "markup": ("[red]%s[bold].jpg", lambda: _JPEG),
    "escape": ("\x1b[31ma\x07.jpg", lambda: _JPEG),
    "backslash": ("a\\b.jpg", lambda: _JPEG),
}
