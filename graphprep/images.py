"""The images of a report: what a row says about them, their paths under the image root, and whether the files are good."""

from __future__ import annotations

import json
import os
import posixpath
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphprep.columns import role_of
from graphprep.formats import word
from graphprep.records import Image


@dataclass(frozen=True, slots=True)
class ImageFault:
    """An image that cannot be used (or what a row says of images, as a whole), and why."""

    reason: str
    detail: str


def images_of(values: Mapping[str, object]) -> tuple[list[Image], list[ImageFault]]:
    """The images that a row names, by role: `image`, `images`, `view`, `image_id`. Paths are as given.

    `images` is a list, a JSON list, or paths between `|`; an entry may be an object with path, view and image_id. View
    and image_id hold one for each image in the same form, or a single view for all. Without a column of paths an image
    id that is a file name (PadChest) is the path; other ids alone name no image.
    """
    entries: list[object] = []
    for role in ("image", "images"):
        value = values.get(role)
        if value is None:
            continue
        found = _entries(value, several=role == "images")
        if found is None:
            return [], [
                ImageFault("malformed_images", "The list of images is not JSON. Expected one, or paths between |.")
            ]
        entries += found
    ids = _entries(values.get("image_id"), True) or []
    if not entries and "image" not in values and "images" not in values:
        entries = [entry for entry in ids if isinstance(entry, str) and _IMAGE_NAME.search(entry)]
    if not entries:
        return [], []
    images = [image for entry in entries if (image := _image(entry))]
    faults = [ImageFault("malformed_images", "An entry of the list of images has no path.")] * (
        len(entries) - len(images)
    )
    if not images or faults:
        return images, faults

    views = _entries(values.get("view"), True) or []
    if len(views) == 1:
        views *= len(images)
    for what, found in (("views", views), ("image ids", ids)):
        if found and len(found) != len(images):
            detail = f"The row has {len(images)} images and {len(found)} {what}, which cannot be told apart; they are left out."
            faults.append(ImageFault("malformed_images", detail))
            found.clear()
    for image, view in zip(images, views, strict=False):
        image.view = image.view or word(view)
    for image, image_id in zip(images, ids, strict=False):
        image.image_id = image.image_id or word(image_id)
    return images, faults


def _entries(value: object, several: bool) -> list[object] | None:
    """The entries of a cell; None if it is a list that cannot be read."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, str):
        return [entry for entry in value if entry is not None] if isinstance(value, list) else [str(value)]
    text = value.strip()
    if not text:
        return []
    if text.startswith("[") and text.endswith("]"):
        try:
            entries: object = json.loads(text)
        except (ValueError, RecursionError):
            # pandas writes a list as Python does; without quotation marks or escapes inside, that is as plain.
            entries = re.findall(r"'([^']*)'", text) if _PYTHON_LIST.fullmatch(text) else None
        if isinstance(entries, list):
            return [entry for entry in entries if entry is not None]
        return None if several else [text]
    return [entry for part in text.split("|") if (entry := part.strip())] if several else [text]


_PYTHON_LIST = re.compile(r"\[\s*'[^'\\\"]*'(\s*,\s*'[^'\\\"]*')*\s*,?\s*\]")
_IMAGE_NAME = re.compile(r"\.(png|jpe?g|tiff?|dcm|dicom|gif|bmp)$", re.IGNORECASE)


def _image(entry: object) -> Image | None:
    if not isinstance(entry, dict):
        path = None if isinstance(entry, list) else word(entry)
        return Image(path) if path else None
    found: dict[str, str] = {}
    for key, value in entry.items():
        role = "image_id" if key == "id" else role_of(str(key))
        if role is not None and (text := word(value)):
            found.setdefault(role, text)
    return Image(found["image"], found.get("view"), found.get("image_id")) if "image" in found else None


class ImageRoot:
    """The folder that image paths are relative to."""

    def __init__(self, path: Path, check: bool) -> None:
        """`check`: whether to look at the files."""
        self.path = path
        self.check = check
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would follow links, which are tried beside it
        self._prefixes = {f"{root.as_posix().rstrip('/')}/" for root in (absolute, absolute.resolve())}

    def place(self, image: Image) -> Image | ImageFault:
        """The image with its path relative to the root, with forward slashes; or why it cannot be used."""
        if not (_is_text(image.path) and _is_text(image.view) and _is_text(image.image_id)):
            return ImageFault("undecodable_bytes", "The path, view or id of an image holds what is not text.")
        path = self._relative(image.path)
        if path is None:
            return ImageFault("image_outside_root", f"The image{_shown(image.path)} is not under the image root.")
        if self.check and (fault := self._fault(path)):
            return fault
        image.path = path
        return image

    def _relative(self, path: str) -> str | None:
        """A path below the root, None if it leads elsewhere. Links are not followed: below the root they are the user's."""
        path = path.replace("\\", "/")
        if path.startswith("/") or (":" in path and _DRIVE_OR_URL.match(path)):
            path = posixpath.normpath(re.sub("^/+", "/", path))
            prefix = next((prefix for prefix in self._prefixes if path.startswith(prefix)), None)
            return path[len(prefix) :] if prefix else None
        path = posixpath.normpath(path)
        return None if path in (".", "..") or path.startswith("../") else path

    def _fault(self, path: str) -> ImageFault | None:
        """Whether there is a file that begins as an image does."""
        file = self.path / path
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return ImageFault("missing_image", f"The image{_shown(path)} is not a file.")
        except PermissionError:
            return ImageFault("corrupt_image", f"The image{_shown(path)} may not be opened.")
        except OSError:
            return ImageFault("missing_image", f"The image{_shown(path)} is not there under the image root.")
        try:
            with file.open("rb") as stream:
                head = stream.read(132)
        except OSError as error:
            return ImageFault("corrupt_image", f"The image{_shown(path)} cannot be read: {error.strerror}.")
        if head.startswith(_MAGIC) or head[128:] == b"DICM":
            return None
        what = "is not PNG, JPEG, TIFF, DICOM, GIF or BMP" if head else "is empty"
        return ImageFault("corrupt_image", f"The image{_shown(path)} {what}.")


_DRIVE_OR_URL = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]+:/")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a", b"BM")


def _shown(path: str) -> str:
    """A path for a message, unless it looks like prose: a column named by mistake may be report text."""
    return f" {path!r}" if len(path) <= 200 and len(path.split()) <= 4 else ""


def _is_text(value: str | None) -> bool:
    """Whether there is neither NUL nor a lone surrogate; a list within a cell may hold them by JSON's escapes."""
    if value is None:
        return True
    try:
        return "\0" not in value and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False
