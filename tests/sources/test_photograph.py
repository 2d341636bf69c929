"""Whatever kind of file a photograph is, it is decoded to upright RGB."""

import io
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin, TiffTags

from flowers.sources import photograph
from flowers.sources.photograph import PhotographError, decode, open_rgb


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_is_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (60, 40), "blue")
    upright.paste("red", (0, 0, 20, 20))  # a corner that says where up and left are
    # What a camera stores is the inverse of what a viewer does.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    (upright if stored is None else upright.transpose(stored)).save(path, exif=exif)
    assert np.array_equal(np.asarray(open_rgb(path)), np.asarray(upright))
    assert decode(path, None)[1] == (60, 40)


def test_modes_become_rgb(tmp_path: Path) -> None:
    def opened(image: Image.Image, name: str, **options: Any) -> list[int]:
        image.save(tmp_path / name, **options)
        result = open_rgb(tmp_path / name)
        assert result.mode == "RGB"
        return np.asarray(result)[0, 0].tolist()

    def near(found: list[int], wanted: list[int]) -> bool:
        return bool(np.abs(np.subtract(found, wanted)).max() <= 3)

    size = (8, 8)
    assert opened(Image.new("RGBA", size, (200, 0, 0, 0)), "clear.png") == [255, 255, 255]
    assert near(opened(Image.new("RGBA", size, (200, 0, 0, 128)), "half.png"), [227, 127, 127])
    assert opened(Image.new("LA", size, (0, 0)), "grey_clear.png") == [255, 255, 255]
    assert near(opened(Image.new("CMYK", size, (0, 255, 255, 0)), "cmyk.jpg"), [255, 0, 0])
    assert opened(Image.new("L", size, 77), "grey.png") == [77, 77, 77]
    assert opened(Image.new("1", size, 1), "bits.png") == [255, 255, 255]
    sixteen = Image.fromarray(np.full(size, 0x4D00, np.uint16))
    assert opened(sixteen, "grey16.png") == [77, 77, 77]
    assert opened(sixteen, "grey16.tiff") == [77, 77, 77]
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert opened(palette, "palette.png") == [10, 20, 30]
    assert opened(palette, "palette.gif") == [10, 20, 30]
    assert opened(palette, "palette_clear.png", transparency=b"\x00\x00") == [255, 255, 255]


def sixteen_bit_png(path: Path, colour_type: int, samples: list[int]) -> None:
    """Write 2 x 2 equal pixels, as Pillow itself cannot."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" + struct.pack(f">{2 * len(samples)}H", *samples * 2)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b""))


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    for colour_type, samples, wanted in (
        (0, [0x4D00], [77, 77, 77]),
        (2, [0x4D00, 0x2A00, 0xFFFF], [77, 42, 255]),
        (4, [0x4D00, 0x0000], [255, 255, 255]),
        (6, [0x4D00, 0x2A00, 0xFFFF, 0xFFFF], [77, 42, 255]),
    ):
        sixteen_bit_png(path, colour_type, samples)
        assert np.asarray(open_rgb(path))[0, 0].tolist() == wanted


RED_THEN_BLUE: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (8, 6), "blue")]}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.bmp", {}),
        ("a.webp", {}),
        ("a.avif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.tiff", {"compression": "jpeg"}),
        ("animated.gif", RED_THEN_BLUE),
        ("animated.png", RED_THEN_BLUE),
        ("animated.webp", RED_THEN_BLUE),
        ("pages.tiff", RED_THEN_BLUE),
        ("two_lenses.mpo", RED_THEN_BLUE),  # such a JPEG is what some cameras and telephones write
    ],
)
def test_each_format_gives_its_first_picture(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / name, **options)
    found = open_rgb(tmp_path / name)
    assert found.size == (8, 6)
    assert np.abs(np.asarray(found).reshape(-1, 3).astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("name", ["cmyk.tiff", "lab.tiff", "ycbcr.tiff"])
def test_modes_of_print(tmp_path: Path, name: str) -> None:
    image = Image.new("RGB", (8, 6), "red")
    mode = {"cmyk": "CMYK", "lab": "LAB", "ycbcr": "YCbCr"}[name.partition(".")[0]]
    if mode == "LAB":
        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.applyTransform(image, ImageCms.buildTransform(rgb, lab, "RGB", "LAB"))
        assert stored is not None
    else:
        stored = image.convert(mode)
    stored.save(tmp_path / name)
    assert np.abs(np.asarray(open_rgb(tmp_path / name))[0, 0].astype(int) - (255, 0, 0)).max() <= 6


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_rgb, [tmp_path / "a.jpg"] * 100))
    assert list(warnings.filters) == before


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def smooth(width_px: int = 160, height_px: int = 120) -> Image.Image:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (height_px // 8, width_px // 8, 3), dtype=np.uint8))
    return rough.resize((width_px, height_px), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 65535])
def test_every_orientation_in_every_format(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = smooth()
    found, size, _ = decode(io.BytesIO(encoded(image, kind, exif=exif)), None)
    plain = open_rgb(io.BytesIO(encoded(image, kind)))
    wanted = plain if orientation not in photograph._TURNS else plain.transpose(photograph._TURNS[orientation])
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
    assert size == wanted.size


@pytest.mark.parametrize("shorter_px", [None, 40])
def test_an_orientation_beside_broken_entries(shorter_px: int | None) -> None:
    # Orientation 6, then an entry of a type that does not exist, then one that lies outside the file.
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x0132, 99, 5, 1)
    entries += struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFF)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + entries + bytes(4)
    found, size, _ = decode(io.BytesIO(encoded(smooth(), "JPEG", exif=exif)), shorter_px)
    assert size == (120, 160)
    assert found.height > found.width


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *((mode, options) for mode in ("RGB", "L", "CMYK") for options in ({}, {"restart_marker_rows": 1})),
        ("CMYK", {"restart_marker_blocks": 3}),
        ("RGB", {"progressive": True}),
        ("L", {"progressive": True}),
    ],
)
def test_a_jpeg_may_lack_its_last_bytes_but_no_part_of_the_picture(mode: str, options: dict[str, Any]) -> None:
    whole = encoded(smooth(320, 240).convert(mode), "JPEG", **options)
    wanted = np.asarray(open_rgb(io.BytesIO(whole)), dtype=int)
    for lost in (1, 2, 3, 12):
        found = np.asarray(open_rgb(io.BytesIO(whole[:-lost])), dtype=int)
        assert (np.abs(found - wanted).max(axis=2) > 2).mean() <= photograph.MOST_MISSING
    third, little = len(whole) // 3, len(whole) // 20
    ends = [(third, b""), (third, bytes(third))]
    if "progressive" not in options:  # of which little looks as if it was meant so
        ends += [(third, b"\xff\xd9"), (little, b""), (little, bytes(little))]
    for lost, rest in ends:
        for shorter_px in (None, 64):
            with pytest.raises(PhotographError, match=r"^truncated: .* of the .*picture .* missing$"):
                open_rgb(io.BytesIO(whole[:-lost] + rest), shorter_px)


def scans(content: bytes) -> list[int]:
    """Find where the scans of a JPEG begin."""
    return [match.start() for match in re.finditer(rb"\xff\xda", content)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("shorter_px", [None, 64])
def test_a_progressive_jpeg_that_was_closed_before_its_last_scans_is_refused(mode: str, shorter_px: int | None) -> None:
    whole = encoded(smooth(320, 240).convert(mode), "JPEG", progressive=True)
    assert open_rgb(io.BytesIO(whole), shorter_px).mode == "RGB"
    *starts, last = scans(whole)
    for cut in (*starts[1:], last, (starts[2] + starts[3]) // 2):
        with pytest.raises(PhotographError, match=r"^truncated: details of the whole picture are missing$"):
            open_rgb(io.BytesIO(whole[:cut] + b"\xff\xd9"), shorter_px)


def test_what_stands_before_and_behind_a_progressive_jpeg_does_not_matter() -> None:
    image = smooth(320, 240)
    whole, cut = encoded(image, "JPEG", progressive=True), encoded(image, "JPEG", progressive=True)
    closed = cut[: scans(cut)[4]] + b"\xff\xd9"
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(50_000)
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded(smooth(40, 30), "JPEG", progressive=True)
    second = encoded(smooth(), "JPEG", progressive=True)
    with_thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    two_lenses = encoded(image, "MPO", progressive=True, save_all=True, append_images=[smooth()])
    wanted = np.asarray(open_rgb(io.BytesIO(whole)))
    for content in (whole + film, whole + second, whole + closed, whole + b"\0" * 900, with_thumbnail, two_lenses):
        assert np.array_equal(np.asarray(open_rgb(io.BytesIO(content))), wanted)
    for content in (closed + film, closed + second, closed + whole):
        with pytest.raises(PhotographError, match="details of the whole picture are missing"):
            open_rgb(io.BytesIO(content))


def test_a_grey_picture_is_not_taken_for_a_damaged_one() -> None:
    image = smooth()
    image.paste((128, 128, 128), (0, 60, 160, 120))
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        found = open_rgb(io.BytesIO(encoded(image, "JPEG", **options)))
        assert found.getpixel((80, 110)) == (128, 128, 128)


def test_large_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    pillows_limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(photograph, "LARGEST_PX", 1_000_000)
    monkeypatch.setattr(photograph, "LARGEST_JPEG_PX", 4_000_000)
    grey = Image.linear_gradient("L").resize((2000, 1500))
    assert decode(io.BytesIO(encoded(grey, "JPEG")), 64)[1] == (2000, 1500)
    for kind, image, shorter_px, limit in (
        ("JPEG", grey, None, 1),
        ("JPEG", grey.resize((3000, 1500)), 64, 4),
        ("JPEG", grey.resize((3000, 3000)), 64, 4),
        ("PNG", grey, 64, 1),
        ("PNG", grey.resize((3000, 3000)), 64, 4),
    ):
        with pytest.raises(PhotographError, match=f"larger than {limit} megapixels"):
            decode(io.BytesIO(encoded(image, kind)), shorter_px)
    with pytest.raises(PhotographError, match="larger than 1 megapixels"):
        decode(io.BytesIO(encoded(grey, "JPEG", progressive=True)), 64)
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_text_in_a_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 3 * 2**20)
    for size, fits in ((2_000_000, True), (4_000_000, False)):
        text = PngImagePlugin.PngInfo()
        text.add_text("workflow", "x" * size, zip=True)
        content = io.BytesIO(encoded(smooth(), "PNG", pnginfo=text))
        if fits:
            assert open_rgb(content).size == (160, 120)
        else:
            with pytest.raises(PhotographError, match="too large"):
                open_rgb(content)
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20


def test_the_largest_page_of_a_tiff(tmp_path: Path) -> None:
    pages = [smooth(40, 30), smooth(160, 120), smooth(80, 60)]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    content = (tmp_path / "pages.tiff").read_bytes()
    for source in (tmp_path / "pages.tiff", io.BytesIO(content)):
        found, size, _ = decode(source, 16)
        assert np.array_equal(np.asarray(found), np.asarray(pages[1]))
        assert size == (160, 120)


TIFF = encoded(smooth(40, 30), "TIFF")
NOT_PHOTOGRAPHS = {
    "a web page": b"\xef\xbb\xbf\n<!DOCTYPE html><title>404</title>",
    "a web page, perhaps": b"<html><body>Forbidden</body></html>",
    "a drawing in SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "a property list": b"bplist00\xd3\1\2\3",
    "what macOS kept": b"\0\5\x16\7\0\2\0\0Mac OS X        ",
    "a Photoshop document": b"8BPS\0\1\0\0\0\0\0\0\0\3",
    "a document in PDF": b"%PDF-1.7\n",
    "an archive": b"PK\3\4\x14\0\0\0",
    "a film": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "an icon": b"\0\0\1\0\1\0\x10\x10",
    "TGA": encoded(smooth(), "TGA"),
    "nothing but zeros": bytes(5000),
    "JPEG XL": b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a",
    "camera raw": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "such as camera raw": TIFF[:9],
    "or cut off in its header": b"This is no photograph.",
}


@pytest.mark.parametrize("words", NOT_PHOTOGRAPHS)
def test_what_is_no_photograph_is_called_by_its_name(words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(NOT_PHOTOGRAPHS[words])
    for source in (tmp_path / "a.jpg", io.BytesIO(NOT_PHOTOGRAPHS[words])):
        with pytest.raises(PhotographError, match=f"^not an image in a known format,.* {words}"):
            open_rgb(source)
    with pytest.raises(PhotographError, match=r"^zero bytes$"):
        open_rgb(io.BytesIO())


@pytest.mark.parametrize(
    "tags",
    [{50706: b"\1\4\0\0"}, {254: 1, 330: 8}],  # DNGVersion, as in DNG; a thumbnail beside sub-images, as in NEF and ARW
)
def test_camera_raw_is_not_taken_for_its_thumbnail(tags: dict[int, Any]) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory.tagtype[tag] = TiffTags.BYTE if isinstance(value, bytes) else TiffTags.LONG
        directory[tag] = value
    content = encoded(smooth(40, 30), "TIFF", tiffinfo=directory)
    with pytest.raises(PhotographError, match="camera raw"):
        open_rgb(io.BytesIO(content))
    assert open_rgb(io.BytesIO(TIFF)).size == (40, 30)


def test_only_the_header_makes_a_tiff_camera_raw_of_canon() -> None:
    values = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 130, 277: 1, 278: 8, 279: 64}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    rest = struct.pack("<H", len(values)) + directory + bytes(4) + bytes(range(64))
    with pytest.raises(PhotographError, match="camera raw"):
        open_rgb(io.BytesIO(b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + rest))
    assert open_rgb(io.BytesIO(b"II*\0\x10\0\0\0CR\3\0\0\0\0\0" + rest)).getpixel((7, 7)) == (63, 63, 63)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 7)])
def test_small_photographs(kind: str, size: tuple[int, int]) -> None:
    content = encoded(Image.new("RGB", size), kind)
    assert decode(io.BytesIO(content), 64)[1] == size
    with pytest.raises(PhotographError, match=rf"{size[0]} x {size[1]} pixels, .* data\.min_side_px=8"):
        decode(io.BytesIO(content), 64, 8)


@pytest.mark.parametrize(
    ("samples", "tags"),
    [
        (np.full((20, 20), 3_000_000_000, np.uint32), {}),
        (np.full((20, 20), 300, np.uint16), {262: 0}),  # white is 0
        (np.full((20, 20), 300, np.uint16), {339: 2}),  # signed
    ],
)
def test_samples_that_would_be_taken_for_others_are_refused(samples: Any, tags: dict[int, int], tmp_path: Path) -> None:
    image = Image.fromarray(samples.astype(np.int32) if samples.dtype == np.uint32 else samples)
    image.save(tmp_path / "a.tif", tiffinfo=tags)
    with pytest.raises(PhotographError, match="export it with 8 bits"):
        open_rgb(tmp_path / "a.tif")
