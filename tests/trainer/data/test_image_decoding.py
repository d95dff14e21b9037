"""Decoding of pictures and DICOM files: grey values, what is refused, and how an image is fitted into its square."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from trainer.data.images import ImageError, decode_image, fit_square, image_path, load_image, placement

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(folder: Path, image: Image.Image, name: str, **arguments: Any) -> Path:
    image.save(folder / name, **arguments)
    return folder / name


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(path)
    assert caught.value.detail.endswith(".")
    return caught.value


# Pictures


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "without-suffix"])
def test_eight_bits_stay_as_they_are(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, Image.fromarray(RAMP), name, format="PNG" if "." not in name else None)
    assert decode_image(path).dtype == np.uint8
    assert np.array_equal(decode_image(path), RAMP)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_stretched(tmp_path: Path, name: str) -> None:
    values = RAMP.astype(np.uint16) * 10 + 100  # as of a detector with 12 bits: hardly anything of 65,535
    path = saved(tmp_path, Image.fromarray(values), name)
    pixels = decode_image(path)
    assert pixels.dtype == np.uint16
    assert (pixels.min(), pixels.max()) == (0, 65535)
    expected = (values - values.min()) / (values.max() - values.min()) * 65535
    assert np.abs(pixels - expected).max() <= 0.5


def test_floats_and_what_is_no_number(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    pixels = decode_image(saved(tmp_path, Image.fromarray(values), "a.tif"))
    assert (pixels[0, 0], pixels[0, 1], pixels[-1, -1]) == (0, 0, 65535)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_of_one_value_is_no_error(tmp_path: Path, dtype: Any) -> None:
    pixels = decode_image(saved(tmp_path, Image.fromarray(np.full((4, 4), 7, dtype)), "a.png"))
    assert len(np.unique(pixels)) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_other_modes_become_grey(tmp_path: Path, mode: str) -> None:
    checks = np.kron([[0, 255], [255, 0]], np.ones((8, 8))).astype(np.uint8)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    pixels = decode_image(saved(tmp_path, Image.fromarray(checks).convert(mode), name))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - checks).max() <= 3


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (200, 255))
    image.putpixel((1, 0), (200, 0))
    assert decode_image(saved(tmp_path, image, "a.png")).tolist() == [[200, 0]]


def test_a_turned_jpeg_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.zeros((32, 64), np.uint8)
    wide[:, :8] = 255
    pixels = decode_image(saved(tmp_path, Image.fromarray(wide), "a.jpg", exif=exif.tobytes()))
    assert pixels.shape == (64, 32)
    assert pixels[:4].mean() > 200


def test_a_large_jpeg_is_decoded_smaller_where_that_is_enough(tmp_path: Path) -> None:
    y, x = np.mgrid[0:800, 0:640]
    image = ((np.sin(x / 60) + np.cos(y / 50)) * 60 + 128).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(image), "a.jpg", quality=95)
    assert decode_image(path).shape == (800, 640)
    assert decode_image(path, at_least=128).shape == (200, 160)
    exact = fit_square(decode_image(path), 64)
    assert np.abs(load_image(path, 64).astype(int) - exact).max() <= 4


# What is refused


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.png").reason == "missing"
    assert refused(tmp_path).reason == "missing"
    (tmp_path / "empty.png").write_bytes(b"")
    assert refused(tmp_path / "empty.png").reason == "corrupt"
    (tmp_path / "text.png").write_text("no image at all", encoding="utf-8")
    assert refused(tmp_path / "text.png").reason == "unknown_format"
    (tmp_path / "text.dcm").write_text("no image at all", encoding="utf-8")
    assert refused(tmp_path / "text.dcm").reason in ("corrupt", "no_pixels")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        assert refused(path).reason in ("truncated", "corrupt", "unknown_format")


def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (9_100, 60_000, 2_000_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        path = tmp_path / "bomb.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        )
        assert refused(path).reason == "too_large"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "DICOM"]), st.data())
def test_damaged_bytes_give_an_image_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    stream = io.BytesIO()
    if kind == "DICOM":
        dicom(RAMP.astype(np.uint16)).save_as(stream)
    else:
        Image.fromarray(np.kron(RAMP, np.ones((4, 4), np.uint8))).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        pixels = decode_image(path)
    except ImageError:
        return
    assert pixels.ndim == 2
    assert pixels.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize(
    "path", ["../a.png", "a/../../b.png", "/etc/passwd", "..", ".", "C:/a.png", "..\\a.png", "a\0b"]
)
def test_paths_stay_under_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(ImageError) as caught:
        image_path(tmp_path, path)
    assert caught.value.reason == "outside_root"


def test_paths_below_the_root(tmp_path: Path) -> None:
    assert image_path(tmp_path, "p10\\s1/./a.png") == tmp_path / "p10/s1/a.png"


# The square


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 64), st.sampled_from(["letterbox", "crop"]))
def test_any_image_becomes_a_square(height: int, width: int, size: int, fit: str) -> None:
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        square = fit_square(np.full((height, width), white, dtype), size, fit)
        assert square.shape == (size, size)
        assert square.dtype == np.uint8
        place = placement(height, width, size, fit)
        inside = np.zeros((size, size), bool)
        top, left = max(0, int(place.top)), max(0, int(place.left))
        shown_height, shown_width = max(1, round(height * place.scale)), max(1, round(width * place.scale))
        inside[top : top + shown_height, left : left + shown_width] = True
        assert (square[inside] == 255).all()
        assert (square[~inside] == 0).all()
        assert inside.all() or fit == "letterbox"


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
@pytest.mark.parametrize("shape", [(200, 120), (120, 200)])
def test_a_point_is_where_the_placement_says_and_nothing_is_distorted(fit: str, shape: tuple[int, int]) -> None:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    disc = (((y - 95) ** 2 + (x - 70) ** 2) < 15**2).astype(np.uint8) * 255
    square = fit_square(disc, 60, fit)
    place = placement(*shape, 60, fit)
    rows, columns = np.nonzero(square > 127)
    assert abs((columns.mean() + 0.5) - (70.5 * place.scale + place.left)) < 0.6
    assert abs((rows.mean() + 0.5) - (95.5 * place.scale + place.top)) < 0.6
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert abs(np.ptp(rows) + 1 - 30 * place.scale) <= 1.5


def test_reduction_is_antialiased() -> None:
    lines = np.zeros((256, 256), np.uint8)
    lines[::2] = 255
    assert np.abs(fit_square(lines, 32).astype(int) - 127).max() <= 6


def test_deep_images_are_reduced_before_they_are_rounded() -> None:
    gradient = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    square = fit_square(gradient, 64)
    assert np.abs(square - gradient / 257).max() <= 0.51


# DICOM


def dicom(pixels: NDArray[Any], **elements: Any) -> FileDataset:
    """A DICOM image with these pixels; elements that are None are removed."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape[-2:] if elements.get("SamplesPerPixel", 1) == 1 else pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    if "BitsStored" in elements:
        dataset.HighBit = dataset.BitsStored - 1
    return dataset


def decoded(folder: Path, dataset: FileDataset, notes: list[str] | None = None) -> NDArray[Any]:
    dataset.save_as(folder / "image.dcm")
    return decode_image(folder / "image.dcm", notes=notes)


def shares(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 65535


VALUES = (np.arange(48).reshape(6, 8) * 80).astype(np.uint16)


def test_dicom_of_eight_bits_stays_as_it_is(tmp_path: Path) -> None:
    assert np.array_equal(decoded(tmp_path, dicom(RAMP)), RAMP)


def test_dicom_is_found_by_its_content_not_its_name(tmp_path: Path) -> None:
    dicom(RAMP).save_as(tmp_path / "IM0001")
    assert np.array_equal(decode_image(tmp_path / "IM0001"), RAMP)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    assert np.array_equal(decoded(tmp_path, dicom(RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - RAMP)
    one, two = (decoded(tmp_path, dicom(VALUES, PhotometricInterpretation=f"MONOCHROME{kind}")) for kind in (1, 2))
    assert np.array_equal(one, 65535 - two)


def test_without_a_window_deep_pixels_are_stretched(tmp_path: Path) -> None:
    pixels = decoded(tmp_path, dicom(VALUES, BitsStored=12))
    assert np.abs(pixels - shares(VALUES, 0, VALUES.max())).max() <= 0.5


def test_the_first_of_several_windows(tmp_path: Path) -> None:
    pixels = decoded(tmp_path, dicom(VALUES, BitsStored=12, WindowCenter=[2000, 100], WindowWidth=[1000, 10]))
    assert np.abs(pixels - shares(VALUES, 2000 - 0.5 - 499.5, 2000 - 0.5 + 499.5)).max() <= 1


@pytest.mark.parametrize(("function", "middle"), [("LINEAR_EXACT", 0.5), ("SIGMOID", 0.5)])
def test_other_window_functions(tmp_path: Path, function: str, middle: float) -> None:
    dataset = dicom(VALUES, BitsStored=12, WindowCenter=1920, WindowWidth=1000, VOILUTFunction=function)
    pixels = decoded(tmp_path, dataset)
    assert pixels[VALUES == 1920][0] == pytest.approx(middle * 65535, abs=80)
    assert (np.diff(pixels.reshape(-1).astype(int)) >= 0).all()


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    dataset = dicom(
        VALUES, BitsStored=12, RescaleSlope=0.5, RescaleIntercept=-100, WindowCenter=900.5, WindowWidth=1001
    )
    pixels = decoded(tmp_path, dataset)
    assert np.abs(pixels - shares(VALUES * 0.5 - 100, 400, 1400)).max() <= 1


def test_signed_pixels(tmp_path: Path) -> None:
    values = VALUES.astype(np.int16) - 1500
    assert np.abs(decoded(tmp_path, dicom(values)) - shares(values, -1500, values.max())).max() <= 0.5
    windowed = decoded(tmp_path, dicom(values, WindowCenter=0.5, WindowWidth=2001))
    assert np.abs(windowed - shares(values, -1000, 1000)).max() <= 1


def look_up_table(entries: list[int], first: int, bits: int = 16) -> Dataset:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [len(entries), first, bits], entries
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return table


def test_a_window_as_a_table_goes_before_the_numbers(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3, 4, 5]], np.uint16)
    table = look_up_table([100, 100, 200, 500], first=1, bits=10)
    dataset = dicom(values, BitsStored=12, VOILUTSequence=[table], WindowCenter=2, WindowWidth=1)
    assert (
        np.abs(decoded(tmp_path, dataset) - shares(np.array([[100, 100, 100, 200, 500, 500]]), 100, 500)).max() <= 0.5
    )


def test_a_modality_table(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3]], np.uint16)
    table = look_up_table([1000, 3000, 3000, 5000], first=0)
    table.ModalityLUTType = "US"
    pixels = decoded(tmp_path, dicom(values, BitsStored=12, ModalityLUTSequence=[table]))
    assert pixels.tolist() == [[0, 32768, 32768, 65535]]


def test_padding_does_not_count_for_the_range(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[:2] = 60000
    pixels = decoded(tmp_path, dicom(values, PixelPaddingValue=60000))
    inner = values[2:]
    assert np.abs(pixels[2:] - shares(inner, inner.min(), inner.max())).max() <= 0.5


def test_the_first_of_several_frames_is_taken_and_said(tmp_path: Path) -> None:
    frames = np.stack([RAMP, 255 - RAMP, RAMP])
    notes: list[str] = []
    assert np.array_equal(decoded(tmp_path, dicom(frames, NumberOfFrames=3), notes), RAMP)
    assert notes == ["The first of 3 frames."]


def test_colours_become_grey(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP, RAMP], axis=-1)
    dataset = dicom(colours, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert np.abs(decoded(tmp_path, dataset).astype(int) - RAMP).max() <= 1


def test_run_length_encoding(tmp_path: Path) -> None:
    dataset = dicom(VALUES, BitsStored=12)
    plain = decoded(tmp_path, dataset)
    dataset.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(decoded(tmp_path, dataset), plain)


def without_pixels(dataset: FileDataset) -> None:
    del dataset.PixelData


def of_half_the_size(dataset: FileDataset) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


def of_another_encoding(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc3 no jpeg \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True


def of_huge_size(dataset: FileDataset) -> None:
    dataset.Rows = dataset.Columns = 40_000


def of_strange_colours(dataset: FileDataset) -> None:
    dataset.PhotometricInterpretation = "BLORB"


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (without_pixels, {"no_pixels"}),
        (of_half_the_size, {"corrupt"}),
        (of_another_encoding, {"no_decoder", "undecodable", "corrupt"}),
        (of_huge_size, {"too_large"}),
        (of_strange_colours, {"unsupported", "corrupt"}),
    ],
)
def test_dicom_files_that_cannot_be_shown(
    tmp_path: Path, damage: Callable[[FileDataset], None], reasons: set[str]
) -> None:
    dataset = dicom(VALUES, BitsStored=12)
    damage(dataset)
    dataset.save_as(tmp_path / "image.dcm")
    assert refused(tmp_path / "image.dcm").reason in reasons


def test_deflated_files_are_refused_unread(tmp_path: Path) -> None:
    dataset = dicom(VALUES, BitsStored=12)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "image.dcm")
    assert refused(tmp_path / "image.dcm").reason == "unsupported"


# Real files


REAL = Path(__file__).resolve().parents[4] / "shared" / "cxr" / "dicom"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real DICOM files are not here")


def real_file(name: str, folder: Path) -> Path:
    """A file of the set, unpacked."""
    path = REAL / name
    if path.suffix != ".zst":
        return path
    unpacked = folder / path.stem
    unpacked.write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()))
    return unpacked


def is_decodable(path: Path) -> bool:
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    return not syntax.is_encapsulated or get_decoder(syntax).is_available


@real
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RG3_J2KR", "RG3_RLE"),
        ("RG3_UNC.zst", "RG3_RLE"),
        ("RG3_JLSL", "RG3_RLE"),
        ("RG3_JPLL", "RG3_RLE"),
        ("RG2_UNC.zst", "RG2_J2KR"),
        ("RG2_JLSL", "RG2_J2KR"),
    ],
)
def test_lossless_encodings_of_one_image_are_equal(one: str, other: str, tmp_path: Path) -> None:
    path = real_file(one, tmp_path)
    if is_decodable(path):
        assert np.array_equal(decode_image(path), decode_image(real_file(other, tmp_path)))
    else:  # the extra jpeg is not installed: the user must be told so
        assert refused(path).reason == "no_decoder"


@real
def test_a_lossy_encoding_is_close(tmp_path: Path) -> None:
    lossy, lossless = (decode_image(real_file(name, tmp_path)).astype(float) for name in ("RG2_J2KI", "RG2_J2KR"))
    assert np.abs(lossy - lossless).mean() < 0.01 * 65535


@real
def test_an_encoding_that_nothing_decodes_has_a_reason() -> None:
    error = refused(REAL / "RG3_JPLY")
    assert error.reason in ("no_decoder", "undecodable")
    assert "JPEG Extended" in error.detail


@real
@pytest.mark.parametrize("name", ["RG1_J2KI", "nih_dx.dcm", "rsna_cr.dcm"])
def test_chest_radiographs_are_dark_where_air_is(name: str, tmp_path: Path) -> None:
    pixels = fit_square(decode_image(real_file(name, tmp_path)), 64)
    lungs = pixels[20:36, [*range(14, 24), *range(42, 50)]].mean()
    middle = pixels[24:44, 29:36].mean()
    assert lungs < middle - 20


@real
def test_look_up_tables_of_a_test_pattern(tmp_path: Path) -> None:
    for name in ("vlut_04.dcm", "mlut_18.dcm"):
        pixels = decode_image(real_file(name, tmp_path))
        assert (pixels.min(), pixels.max()) == (0, 65535)
        assert pixels.shape == (512, 512)
