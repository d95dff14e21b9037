"""Any folder of text files with images beside them: `a.txt` with `a.png` or `a-1.png`, `a-2.png`, or a folder per study."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from graphprep.convert import Conversion, register
from graphprep.convert.image_files import files_below


@register(
    "folder", "text files beside images: a.txt with a.png or a-1.png …, or a folder for each study with one text file"
)
def convert_folder(conversion: Conversion) -> None:
    """One report per text file, its id being the path without suffix; the whole text is `report`."""
    files = files_below(conversion.path, conversion.output.folder) if conversion.path.is_dir() else ()
    texts = sorted(name for name in files if name.lower().endswith(".txt"))
    if not texts:
        raise conversion.lacking("*.txt", what="the text of each report")
    images = conversion.images(key="path")
    of_text = _images_by_text(texts, images.keys)
    reports = conversion.output.reports(("report",))
    for name in conversion.track(texts):
        text = _read(conversion, name)
        if text is None:
            continue
        found = [(path, "") for key in of_text.get(name, ()) if (path := images.take(key)) is not None]
        if not found:
            conversion.output.list_as("report_without_images", name)
        reports.write(name.removesuffix(PurePosixPath(name).suffix), {"report": text}, found)


def _images_by_text(texts: list[str], keys: list[str]) -> dict[str, list[str]]:
    """The images (paths without suffix) of each text file.

    An image belongs to the text file of its folder whose name it has or goes on from after a mark (`a-1` to `a`), the
    longest counting. The only text file of a folder to which no image belongs by name has all that are there.
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for name in texts:
        path = PurePosixPath(name)
        by_folder[str(path.parent)][path.stem] = name
    named: dict[str, list[str]] = defaultdict(list)
    rest: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        path = PurePosixPath(key)
        stems = by_folder.get(str(path.parent), {})
        if stem := _stem(path.name, stems):
            named[stems[stem]].append(key)
        elif len(stems) == 1:
            rest[next(iter(stems.values()))].append(key)
    return {**rest, **named}


def _stem(name: str, stems: dict[str, str]) -> str | None:
    """The longest of the stems that a name is, or goes on from after a mark."""
    for end in range(len(name), 0, -1):
        if (end == len(name) or name[end] in "-_. ") and name[:end] in stems:
            return name[:end]
    return None


def _read(conversion: Conversion, name: str) -> str | None:
    """The text of a file; None, and listed, if it is none."""
    try:
        content = Path(conversion.path, name).read_bytes()
        text = content.decode(conversion.options.encoding)
    except OSError as error:
        conversion.output.list_as("malformed_file", name, detail=f"It cannot be read: {error.strerror}.")
        return None
    except UnicodeDecodeError:
        detail = f"It is not {conversion.options.encoding} text; --encoding names another encoding."
        conversion.output.list_as("malformed_file", name, detail=detail)
        return None
    if "\0" in text:
        conversion.output.list_as("malformed_file", name, detail="It holds a NUL byte.")
        return None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").strip()
