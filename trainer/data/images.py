"""Decode one image: PNG, JPEG, TIFF and DICOM as radiographs are to be seen, in grey, and fit it into a square.

An image uses the whole range of its dtype: 0 is black, 255 or 65,535 is white. What has 8 bits stays as it is. Deeper images
go through the modality and the window (the first, or its look-up table) where a DICOM file gives them; where nothing says how
bright they are to be, from their least to their greatest value.
"""

from __future__ import annotations

import posixpath
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from pydicom import Dataset

DECODING = 1
"""Version of what comes out; stores of another version are made again."""

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded: a radiograph has 4 to 20 million."""

_GREY_8, _GREY_DEEP = ("1", "L"), ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")

Grey = NDArray[np.uint8] | NDArray[np.uint16]


class ImageError(Exception):
    """An image that cannot be used: `reason` in a word for counting, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Placement:
    """Where an image lies in its square: `x_in_square = x * scale + left`, and so for y."""

    scale: float
    left: float
    top: float


def image_path(root: Path, path: str) -> Path:
    """The file of a path below the image root. ImageError where it leads elsewhere."""
    plain = posixpath.normpath(path.replace("\\", "/"))
    if plain.startswith(("/", "../")) or plain in ("..", ".") or ":" in plain.split("/")[0] or "\0" in plain:
        raise ImageError("outside_root", "The path leads out of the image root.")
    return root / plain


def load_image(path: Path, size: int, fit: str = "letterbox") -> NDArray[np.uint8]:
    """Decode an image and fit it into a square, (size, size). ImageError where it cannot be used."""
    return fit_square(decode_image(path, at_least=2 * size), size, fit)


def decode_image(path: Path, at_least: int | None = None, notes: list[str] | None = None) -> Grey:
    """The pixels of an image, (height, width).

    Args:
        at_least: shorter side that is enough, so that a large JPEG may be decoded smaller.
        notes: gets a sentence for what is left out (further frames).

    Raises:
        ImageError: the file is missing, broken, too large, or in an encoding for which no decoder is installed.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ImageError("missing", "It is not a file.")
        with path.open("rb") as file:
            head = file.read(132)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("missing", "The file is not there.") from None
    except (OSError, ValueError) as error:
        raise ImageError(
            "unreadable", f"The file cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from None
    if not head:
        raise ImageError("corrupt", "The file is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if head[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom"):
                return _decode_dicom(path, notes if notes is not None else [])
            return _decode_picture(path, at_least)
    except (ImageError, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        raise ImageError("too_large", "There is not enough memory to decode it.") from None
    except (
        BaseException
    ) as error:  # decoders raise what they like for broken files; those in Rust not even an Exception
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(reason, f"The file is {reason}: {_one_line(error)}") from None


def placement(height: int, width: int, size: int, fit: str = "letterbox") -> Placement:
    """Where `fit_square` puts an image: letterbox: all of it, padded with black; crop: its middle, cut at the longer side."""
    scale = size / (max(height, width) if fit == "letterbox" else min(height, width))
    inside_height, inside_width = (max(1, round(side * scale)) for side in (height, width))
    return Placement(scale, (size - inside_width) // 2, (size - inside_height) // 2)


def fit_square(image: Grey, size: int, fit: str = "letterbox") -> NDArray[np.uint8]:
    """Fit an image into a square without distorting it, antialiased, (size, size)."""
    height, width = image.shape
    place = placement(height, width, size, fit)
    inside = (max(1, round(width * place.scale)), max(1, round(height * place.scale)))
    deep = image.dtype != np.uint8
    picture = Image.fromarray(image.astype(np.float32) / 257.0 if deep else image)
    if inside != (width, height):
        picture = picture.resize(inside, Image.Resampling.BILINEAR)  # antialiased: its support grows with the reduction
    pixels = np.asarray(picture)
    grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8) if deep else pixels
    square = np.zeros((size, size), np.uint8)
    left, top = int(place.left), int(place.top)
    shown = grey[max(0, -top) :, max(0, -left) :][:size, :size]
    square[max(0, top) : max(0, top) + shown.shape[0], max(0, left) : max(0, left) + shown.shape[1]] = shown
    return square


# PNG, JPEG, TIFF …


def _decode_picture(path: Path, at_least: int | None) -> Grey:
    try:
        with Image.open(path) as picture:
            _check_size(*picture.size)
            if picture.format == "JPEG" and at_least is not None:
                picture.draft("L", (at_least, at_least))  # as many pixels or more in both directions
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return _grey(upright)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large() from None
    except UnidentifiedImageError:
        raise ImageError(
            "unknown_format", "The file is not PNG, JPEG, TIFF or DICOM, or its beginning is broken."
        ) from None


def _grey(picture: Image.Image) -> Grey:
    if picture.mode in _GREY_DEEP:
        return _stretched(np.asarray(picture))
    if picture.mode not in _GREY_8:
        transparent = picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info
        if transparent:  # over black, as the padding is
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
        picture = picture.convert("RGB")  # palettes and CMYK have no way to grey of their own
    return np.array(picture.convert("L"))


# DICOM


def _decode_dicom(path: Path, notes: list[str]) -> Grey:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        meta = pydicom.filereader.read_file_meta_info(path) if _has_preamble(path) else None
        syntax = getattr(meta, "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_deflated:
            raise ImageError(
                "unsupported", "The file is deflated as a whole, which may hide any size; inflate it first."
            )
        dataset = pydicom.dcmread(path, force=meta is None)
        if "PixelData" not in dataset:
            raise ImageError("no_pixels", "The DICOM file holds no image.")
        _check_size(int(dataset.Columns), int(dataset.Rows))
        if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
            notes.append(f"The first of {frames} frames.")
        return _shown(dataset)
    except InvalidDicomError:
        raise ImageError("corrupt", "The file is not DICOM, though its name says so.") from None


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _shown(dataset: Dataset) -> Grey:
    """The image as it is to be shown: modality, then window, then black and white as the file means them."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

    pixels = _first_frame(dataset)
    kind = str(dataset.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        colours = apply_color_lut(pixels, dataset)
        return _luminance(colours)
    if pixels.ndim == 3:
        return _luminance(pixels)
    if not kind.startswith("MONOCHROME"):
        raise ImageError("unsupported", f"Its pixels are {kind}, which is neither grey nor colour.")

    values = apply_modality_lut(pixels, dataset)
    grey: Grey
    if "VOILUTSequence" in dataset:
        table = dataset.VOILUTSequence[0]
        entries = np.asarray(apply_voi_lut(_whole(values), dataset, index=0))
        ends = _entries_of(table)
        grey = _scaled(entries, float(ends.min()), float(ends.max()))
    elif "WindowCenter" in dataset and "WindowWidth" in dataset:
        windowed = apply_voi_lut(values, dataset, index=0)
        with np.errstate(over="ignore"):  # where the window is a sigmoid
            ends = apply_voi_lut(np.array([-1e9, 1e9]), dataset, index=0)
        grey = _scaled(windowed, float(ends[0]), float(ends[1]))
    elif dataset.BitsStored == 8 and values.dtype == np.uint8:
        grey = values
    else:
        grey = _stretched(values, _padding(dataset))
    inverted: Grey = ~grey  # of unsigned numbers: their greatest minus each
    return inverted if kind == "MONOCHROME1" else grey


def _first_frame(dataset: Dataset) -> NDArray[Any]:
    """The pixels of the only frame, or the first of several."""
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID if "TransferSyntaxUID" in getattr(dataset, "file_meta", {}) else None
    if syntax is None:
        raise ImageError("unsupported", "The DICOM file does not say how its pixels are encoded (no transfer syntax).")
    try:
        return np.asarray(pixel_array(dataset, index=0))
    except (RuntimeError, NotImplementedError) as error:
        if "missing dependencies" in str(error) or "no pixel data decoders" in str(error).lower():
            raise ImageError(
                "no_decoder", f"Its encoding, {syntax.name}, needs a decoder that is not installed (pylibjpeg, gdcm)."
            ) from None
        raise ImageError(
            "undecodable", f"Its encoding is {syntax.name}, and the decoders that are installed fail on it."
        ) from None


def _entries_of(table: Dataset) -> NDArray[np.int64]:
    """The entries of a look-up table."""
    entries = table["LUTData"].value
    if isinstance(entries, bytes):
        return np.frombuffer(entries, np.uint16).astype(np.int64)
    return np.asarray(entries, np.int64).reshape(-1)


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """Values that fill up the frame and are no image, as after the modality."""
    if "PixelPaddingValue" not in dataset:
        return None
    value = float(dataset.PixelPaddingValue)
    other = float(dataset.get("PixelPaddingRangeLimit", value))
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = sorted((value * slope + intercept, other * slope + intercept))
    return low, high


# Grey values


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as integers: a rescale makes floats of them, and look-up tables take none."""
    return values if values.dtype.kind in "ui" else np.rint(values).astype(np.int32)


def _stretched(values: NDArray[Any], padding: tuple[float, float] | None = None) -> NDArray[np.uint16]:
    """From the least to the greatest value, what is padding or no number left aside; one value alone is black."""
    image = np.isfinite(values)
    if padding is not None:
        image &= (values < padding[0]) | (values > padding[1])
    if not image.any():
        return np.zeros(values.shape, np.uint16)
    low, high = float(values[image].min()), float(values[image].max())
    return _scaled(np.where(np.isfinite(values), values, low), low, high)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    if high <= low:
        return np.zeros(values.shape, np.uint16)
    share = (values.astype(np.float64) - low) / (high - low)
    scaled: NDArray[np.uint16] = np.rint(np.clip(share, 0.0, 1.0) * 65535).astype(np.uint16)
    return scaled


def _luminance(colours: NDArray[Any]) -> Grey:
    """Colours (height, width, 3) in grey."""
    if colours.ndim != 3 or colours.shape[2] not in (3, 4):
        raise ImageError("unsupported", "Its pixels are neither grey nor colour.")
    if colours.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(colours[..., :3])).convert("L"))
    grey = colours[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return _stretched(grey)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("corrupt", "The image has no pixels.")
    if width * height > MAX_PIXELS:
        raise _too_large()


def _too_large() -> ImageError:
    return ImageError("too_large", f"The image has more than {MAX_PIXELS:,} pixels, as no radiograph has.")


def _one_line(error: BaseException) -> str:
    """What a library says, without what it may quote of the file at length."""
    text = " ".join(str(error).split())
    return (text[:160] or type(error).__name__).rstrip(".") + "."
