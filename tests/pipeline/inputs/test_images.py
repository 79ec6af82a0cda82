from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from pipeline.inputs.images import Rejected, read_image


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def code_of(data: bytes, **caps) -> str:
    with pytest.raises(Rejected) as caught:
        read_image(data, **caps)
    return caught.value.error.code


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "JPEG"])
def test_formats_give_the_pixels_that_pillow_gives(format):
    pixels = np.kron(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.ones((8, 8, 1), np.uint8))
    data = saved(Image.fromarray(pixels), format, **({"lossless": True} if format == "WEBP" else {}))
    array, facts = read_image(data)
    assert array.shape == (32, 32, 3)
    assert array.dtype == np.uint8
    assert np.array_equal(array, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert facts.source_bytes == len(data)
    assert facts.format == ("JPEG2000" if format == "JPEG2000" else format)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(orientation, format):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What a camera held that way stores: the inverse turn of what readers must apply.
    inverse = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(inverse[orientation]))
    array, facts = read_image(saved(stored, format, exif=exif.tobytes()))
    assert array.shape[:2] == (16, 24)
    assert array[2, 2, 0] > 200
    assert array[12, 20, 0] < 50
    assert facts.orientation == orientation
    assert (facts.source_width, facts.source_height) == stored.size


def test_16_bit_grey_is_scaled_and_not_clipped():
    deep = np.array([[0, 20000, 65535]], np.uint16)
    array, facts = read_image(saved(Image.fromarray(deep)))
    assert array[0, :, 0].tolist() == [0, 78, 255]
    assert array.shape[2] == 1
    assert facts.bit_depth == 16


def test_floats_are_scaled():
    array, _ = read_image(saved(Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)), "TIFF"))
    assert array[0, :, 0].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_stays_grey(mode):
    array, _ = read_image(saved(Image.new("L", (5, 4), 255).convert(mode)))
    assert array.shape == (4, 5, 1)


def test_alpha_is_composited_over_white():
    array, facts = read_image(saved(Image.new("RGBA", (2, 2), (200, 0, 0, 0))))
    assert (array == 255).all()
    assert facts.alpha
    half, _ = read_image(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128))))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    array, facts = read_image(saved(image, transparency=1))
    assert array[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert facts.mode == "P"


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    array, facts = read_image(data)
    assert array[0, 0].tolist() == [255, 0, 0]
    assert facts.frames == 2


def test_cmyk_and_lab_become_rgb():
    array, _ = read_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert array[0, 0, 0] > 200
    assert array[0, 0, 2] < 60
    white, _ = read_image(saved(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF"))
    assert white.min() > 245


def test_icc_profiles_are_applied_kept_apart_and_ignored_when_broken():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    wrong_space, facts = read_image(saved(Image.new("RGB", (4, 4), (9, 8, 7)), icc_profile=lab))
    assert wrong_space[0, 0].tolist() == [9, 8, 7]
    assert facts.icc == "ignored"
    assert len(facts.icc_sha256) == 64
    _, facts = read_image(saved(Image.new("RGB", (4, 4)), icc_profile=b"no profile"))
    assert facts.icc == "ignored"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same, facts = read_image(saved(Image.new("RGB", (4, 4), (9, 8, 7)), icc_profile=srgb))
    assert facts.icc == "applied"
    assert same[0, 0].tolist() == [9, 8, 7]


def test_a_profile_with_swapped_primaries_swaps_colours():
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Exchange the names of the red and blue colorants in the tag table, and the description that says sRGB.
    raw = raw.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    raw = raw.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    array, facts = read_image(saved(Image.new("RGB", (4, 4), (255, 0, 0)), icc_profile=bytes(raw)))
    assert facts.icc == "applied"
    assert array[0, 0, 2] > 200
    assert array[0, 0, 0] < 60


@pytest.mark.parametrize(("size", "shape"), [(10, (5, 10)), (20, (10, 20)), (400, (10, 20)), (1, (1, 1))])
def test_size_reduces_and_never_enlarges(size, shape):
    array, facts = read_image(saved(Image.new("RGB", (20, 10), "red")), size=size)
    assert array.shape == (*shape, 3)
    assert facts.source_width == 20


def test_bombs_are_refused_by_their_header():
    assert code_of(png_header(20_000, 20_000)) == "too_many_pixels"
    assert code_of(png_header(12_000, 12_000)) == "too_many_pixels"
    assert code_of(png_header(3_000, 3_000), max_pixels=1000) == "too_many_pixels"
    assert code_of(saved(Image.new("L", (9, 9))), max_bytes=10) == "too_many_bytes"


def test_a_higher_cap_takes_what_the_default_refuses():
    """Twelve kilobytes of one bit a pixel are little to ask, and the error says how."""
    large = saved(Image.new("1", (10_001, 10_000)))
    with pytest.raises(Rejected) as caught:
        read_image(large, size=64)
    assert "10001x10000" in str(caught.value)
    assert "--max-pixels" in str(caught.value)
    array, facts = read_image(large, size=64, max_pixels=10_001 * 10_000)
    assert (array.shape, facts.source_width) == ((64, 64, 1), 10_001)


def test_a_higher_cap_is_pillow_s_too(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    photo = saved(Image.new("L", (100, 100)))
    with pytest.raises(Rejected, match="the cap is 1500; compress with a higher --max-pixels"):
        read_image(photo, max_pixels=1500)
    assert read_image(photo, max_pixels=10_000)[0].shape == (100, 100, 1)


def test_text_bombs_are_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 2_000_000, zip=True)
    assert code_of(saved(Image.new("L", (2, 2)), pnginfo=info)) == "broken_image"


def test_typed_errors():
    photo = saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    assert code_of(b"") == "empty_file"
    assert code_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "unknown_format"
    assert code_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "unknown_format"
    assert code_of(photo[: len(photo) // 2]) == "truncated_image"
    assert code_of(photo[:4] + b"\0" * 60) == "broken_image"


def test_a_rejected_image_keeps_its_facts():
    photo = saved(Image.new("L", (64, 48), 50), "JPEG")
    with pytest.raises(Rejected) as caught:
        read_image(photo[:-20])
    facts = caught.value.facts
    assert (facts.format, facts.source_width, facts.source_height) == ("JPEG", 64, 48)
    assert len(facts.sha256) == 64


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0, 1),
)
def test_damaged_files_are_read_or_rejected(format, places, keep):
    data = bytearray(saved(Image.linear_gradient("L").resize((32, 24)).convert("RGB"), format))
    for place, value in places:
        data[int(place * len(data))] = value
    data = bytes(data[: int(keep * len(data)) + 1])
    try:
        array, _ = read_image(data, max_pixels=10_000_000)
        code = "ok"
    except Rejected as rejected:
        array, code = np.zeros((1, 1, 1), np.uint8), rejected.error.code
    assert code in {"ok", "broken_image", "truncated_image", "unknown_format", "too_many_pixels"}
    assert array.dtype == np.uint8
    assert array.shape[2] in (1, 3)
