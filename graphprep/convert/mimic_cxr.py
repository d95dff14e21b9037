"""MIMIC-CXR and MIMIC-CXR-JPG: the tree (or zip) of report files, and the tables of images, splits and labels."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from graphprep.convert import Conversion, register
from graphprep.convert.conversion import digits_of, label_value, split_name
from graphprep.convert.mimic_sections import COLUMNS, cut
from graphprep.errors import UserError

_STUDY_FILE = re.compile(r"(?:.*/)?p\d+/p(\d+)/s(\d+)\.txt")
_SUFFIX = {"any": ".jpg", "jpg": ".jpg", "png": ".png", "dicom": ".dcm"}
_THREADS = 8
_AT_A_TIME = 512
_MOST_BYTES = 1 << 24  # of a report; more is none, whatever it unpacks to


@dataclass(slots=True)
class _Study:
    subject_id: str
    split: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)
    """(path, view) of the images that are there."""
    has_report: bool = False


@register(
    "mimic-cxr",
    "files/p10/p10000032/s50414267.txt … (or mimic-cxr-reports.zip), mimic-cxr-2.0.0-metadata.csv, -split.csv, -chexpert.csv, -negbio.csv",
)
def convert_mimic_cxr(conversion: Conversion) -> None:
    """Reports by study with their images; labels by image."""
    texts = _texts(conversion)
    studies = _studies(conversion)
    reports = conversion.output.reports(COLUMNS)
    for (subject_id, study_id, name), content in texts:
        study = studies.setdefault(study_id, _Study(subject_id))
        if study.has_report:
            conversion.output.list_as("surplus_report", name, detail=f"Study {study_id} has another report file.")
            continue
        study.has_report = True
        text = _decoded(content, conversion.options.encoding)
        if text is None:
            detail = "The file is damaged." if content is None else f"It is not {conversion.options.encoding} text."
            conversion.output.list_as("malformed_file", name, detail=detail)
            continue
        columns = cut(text)
        if (source := columns.get("findings_from", "")) not in ("", "heading"):
            conversion.output.count(f"findings_from_{source}")
        reports.write(
            f"s{study_id}", columns, study.images, subject_id=subject_id, study_id=study_id, split=study.split
        )
        if not study.images:
            conversion.output.list_as("report_without_images", name)
    for study_id, study in studies.items():
        if not study.has_report:
            conversion.output.list_as("missing_report", f"p{study.subject_id[:2]}/p{study.subject_id}/s{study_id}.txt")
    tables = [
        (name, path)
        for name in ("chexpert", "negbio")
        if (path := conversion.find_optional(f"mimic-cxr-2*-{name}.csv"))
    ]
    for i, (name, path) in enumerate(tables):
        conversion.output.version(name, digits_of(path.name))
        _write_labels(conversion, path, "labels.csv" if i == 0 else f"labels-{name}.csv", studies)


def _studies(conversion: Conversion) -> dict[str, _Study]:
    """The studies by id with their images, from the table of metadata, else from the list of records; with their splits."""
    studies: dict[str, _Study] = {}
    table = conversion.find_optional("mimic-cxr-2*-metadata.csv")
    records = None if table else conversion.find_optional("cxr-record-list.csv")
    path = table or records
    if path is None:
        conversion.output.note(
            "There is neither mimic-cxr-2.0.0-metadata.csv nor cxr-record-list.csv: reports have no images."
        )
        return studies
    conversion.output.version("metadata", digits_of(path.name))
    images = conversion.images()
    suffix = _SUFFIX[conversion.options.image_format]
    for row in conversion.rows(path, ("dicom_id", "subject_id", "study_id"), ("ViewPosition",)):
        dicom_id, subject_id, study_id = (row.values[name] for name in ("dicom_id", "subject_id", "study_id"))
        if not (dicom_id and subject_id and study_id):
            conversion.malformed(path, row.number, "dicom_id, subject_id or study_id is empty.")
            continue
        study = studies.setdefault(study_id, _Study(subject_id))
        if study.subject_id != subject_id:
            conversion.malformed(path, row.number, f"Study {study_id} is of subject {study.subject_id} in another row.")
            continue
        published = f"files/p{subject_id[:2]}/p{subject_id}/s{study_id}/{dicom_id}{suffix}"
        found = conversion.image(images, dicom_id, published, path, row.number)
        if found is not None:
            study.images.append((found, row.values["ViewPosition"]))
    if split := conversion.find_optional("mimic-cxr-2*-split.csv"):
        conversion.output.version("split", digits_of(split.name))
        for row in conversion.rows(split, ("study_id", "split")):
            if row.values["study_id"] in studies:
                studies[row.values["study_id"]].split = split_name(row.values["split"])
            else:
                conversion.malformed(split, row.number, f"Study {row.values['study_id']} is not in {path.name}.")
    return studies


def _write_labels(conversion: Conversion, path: Path, name: str, studies: dict[str, _Study]) -> None:
    """The labels of a study, for each of its images."""
    classes = [column for column in conversion.columns(path) if column not in ("subject_id", "study_id")]
    labels = conversion.output.labels(classes, name)
    for row in conversion.rows(path, ("subject_id", "study_id", *classes)):
        study = studies.get(row.values["study_id"])
        if study is None or not study.images:
            conversion.output.count(f"labelled_studies_without_images_in_{path.name}")
            continue
        try:
            values = {column: label_value(row.values[column]) for column in classes}
        except ValueError:
            conversion.malformed(path, row.number, "A label is not 1, 0, -1 or empty.")
            continue
        for image, _ in study.images:
            labels.write(image, study.subject_id, study.split, values)


# Report files -------------------------------------------------------------------------------------------------------

_Named = tuple[str, str, str]
"""Subject, study, and the name of the file for messages."""


def _texts(conversion: Conversion) -> Iterator[tuple[_Named, bytes | None]]:
    """The report files in the order of their names, with their bytes; None where they cannot be read.

    Raises UserError if there are none.
    """
    archive = conversion.find_optional("mimic-cxr-reports*.zip")
    path = conversion.path
    folders = [path, *sorted(path.glob("*"))] if path.is_dir() else []
    trees = [folder for folder in chain(folders, (folder / "files" for folder in folders)) if _has_reports(folder)]
    if trees:
        return _from_tree(conversion, trees[0])
    if archive is not None or zipfile.is_zipfile(path):
        return _from_archive(conversion, archive or path)
    raise conversion.lacking(
        "files/p10/p10000032/s50414267.txt", "mimic-cxr-reports.zip", what="the report of each study"
    )


def _has_reports(folder: Path) -> bool:
    """Whether one of the first patients of a group has a report file; a tree of images alone is not searched through."""
    patients = (islice(group.glob("p*"), 20) for group in sorted(folder.glob("p[0-9][0-9]")))
    return any(any(patient.glob("s*.txt")) for patient in chain.from_iterable(patients))


def _from_tree(conversion: Conversion, tree: Path) -> Iterator[tuple[_Named, bytes | None]]:
    names: list[_Named] = []
    for group in sorted(tree.glob("p[0-9][0-9]")):
        for file in sorted(group.glob("p*/s*.txt")):
            name = file.relative_to(tree).as_posix()
            if found := _STUDY_FILE.fullmatch(name):
                names.append((found[1], found[2], name))
            else:
                conversion.output.list_as("surplus_report", name, detail="It is not named as a report.")

    def read(named: _Named) -> bytes | None:
        try:
            return (tree / named[2]).read_bytes()
        except OSError:
            return None

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from conversion.track_chunks(names, lambda chunk: list(pool.map(read, chunk)), _AT_A_TIME)


def _from_archive(conversion: Conversion, path: Path) -> Iterator[tuple[_Named, bytes | None]]:
    """Members are read, never unpacked: their names lead nowhere."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile):
        raise UserError(f"{path} is no zip archive that can be read. Get the file again.") from None
    with archive:
        names = sorted(
            (found[1], found[2], name) for name in archive.namelist() if (found := _STUDY_FILE.fullmatch(name))
        )
        if not names:
            raise UserError(f"{path} holds no report. Expected files/p10/p10000032/s50414267.txt and so on in it.")

        def read(chunk: Sequence[_Named]) -> list[bytes | None]:
            return [_member(archive, name) for _, _, name in chunk]

        yield from conversion.track_chunks(names, read, _AT_A_TIME)


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    try:
        return archive.read(name) if archive.getinfo(name).file_size <= _MOST_BYTES else None
    except (OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile):
        return None


def _decoded(content: bytes | None, encoding: str) -> str | None:
    if content is None or b"\0" in content:
        return None
    try:
        return content.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
