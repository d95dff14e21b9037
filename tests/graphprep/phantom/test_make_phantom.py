"""A phantom's folder: its files agree with each other, and are the same however they were made."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import graphprep
from graphprep.errors import UserError
from graphprep.phantom import make
from graphprep.phantom.datasheet import text as datasheet_text
from graphprep.phantom.labels import CLASSES, place_columns
from graphprep.phantom.make import DRAWING, PhantomOptions, images_of, make_phantom
from graphprep.phantom.overlay import choose, describe
from graphprep.phantom.render import ANATOMY, render
from graphprep.phantom.sample import sample
from graphprep.phantom.scene import KINDS, Finding
from graphprep.validate import validate

OPTIONS = PhantomOptions(studies=60, seed=5, size=64)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "demo"
    make_phantom(folder, OPTIONS)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file but run.json, which tells how a run went."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "run.json"
    }


def failing(*_: object, **__: object) -> None:
    raise RuntimeError


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pixels_of(file: Path) -> Any:
    with Image.open(file) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_a_folder_holds_what_the_datasheet_names(phantom: Path) -> None:
    sheet = (phantom / "datasheet.md").read_text(encoding="utf-8")
    for name in ("reports.csv", "labels.csv", "labels-by-place.csv", "boxes.json", "phantom.json", "truth/graphs/"):
        assert (phantom / name).exists()
        assert f"`{name}`" in sheet
    assert not (phantom / ".progress").exists()
    assert {file.name for file in phantom.iterdir()} <= set(make.OWN)


def test_reports_name_images_that_are_there(phantom: Path) -> None:
    reports = rows_of(phantom / "reports.csv")
    studies = list(sample(OPTIONS.studies, OPTIONS.seed))
    assert [row["report_id"] for row in reports] == [study.report_id for study in studies]
    for row, study in zip(reports, studies, strict=True):
        paths = row["images"].split("|")
        assert paths == images_of(study)
        assert row["view"] == study.view
        assert row["findings"] or row["impression"]
        for path in paths:
            assert pixels_of(phantom / path).shape == (64, 64)
    labelled = [row["image"] for row in rows_of(phantom / "labels.csv")]
    assert labelled == [path for study in studies for path in images_of(study)]
    assert len(list((phantom / "images").iterdir())) == len(labelled)


def test_labels_boxes_and_masks_of_an_image_agree(phantom: Path) -> None:
    coco = json.loads((phantom / "boxes.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    assert list(names.values()) == list(KINDS)
    boxes: dict[str, dict[str, list[dict[str, Any]]]] = {file: {} for file in files.values()}
    for annotation in coco["annotations"]:
        boxes[files[annotation["image_id"]]].setdefault(names[annotation["category_id"]], []).append(annotation)
    own = {row["image"]: row for row in rows_of(phantom / "labels-by-place.csv")}
    children = {"consolidation", "atelectasis", "nodule", "mass", "pulmonary_edema"}
    for row in rows_of(phantom / "labels.csv"):
        image, found = row["image"], boxes[row["image"]]
        positive = {name for name in KINDS if row[name] == "1"}
        drawn = set(found)
        assert positive == drawn | ({"lung_opacity"} if drawn & children else set())
        masked = {folder.name for folder in (phantom / "masks").iterdir() if (folder / Path(image).name).exists()}
        assert masked == drawn | set(ANATOMY)
        for name, own_boxes in found.items():
            mask = pixels_of(phantom / "masks" / name / Path(image).name) > 0
            inside = np.zeros_like(mask)
            for annotation in own_boxes:
                x, y, width, height = annotation["bbox"]
                assert mask[y : y + height, x : x + width].any()
                inside[y : y + height, x : x + width] = True
                place = "/".join(part for part in (name, annotation["side"], annotation["zone"]) if part)
                assert own[image][place] == "1"
            assert not (mask & ~inside).any()
            rows, columns = np.nonzero(mask)
            assert min(annotation["bbox"][0] for annotation in own_boxes) == columns.min()
            assert min(annotation["bbox"][1] for annotation in own_boxes) == rows.min()


def test_images_and_masks_are_what_was_rendered(phantom: Path) -> None:
    for study in list(sample(OPTIONS.studies, OPTIONS.seed))[:6]:
        for number, path in enumerate(images_of(study)):
            picture = render(study, number, OPTIONS.size)
            assert np.array_equal(pixels_of(phantom / path), picture.pixels)
            for name, mask in picture.anatomy.items():
                assert np.array_equal(pixels_of(phantom / "masks" / name / Path(path).name) == 255, mask)


def test_graphs_keep_the_contract_and_speak_of_these_images(phantom: Path) -> None:
    assert validate(phantom / "truth" / "graphs").ok
    reports = rows_of(phantom / "reports.csv")
    graphs = list(graphprep.open_graphs(phantom / "truth" / "graphs"))
    assert [graph.report.report_id for graph in graphs] == [row["report_id"] for row in reports]
    for graph, row in zip(graphs, reports, strict=True):
        assert [image.path for image in graph.report.images] == row["images"].split("|")
        assert (graph.report.split, graph.report.subject_id) == (row["split"], row["subject_id"])


def test_graphs_say_what_is_in_the_image(phantom: Path) -> None:
    """Without wrong statements, what a graph states is labelled, with its side; what it denies altogether is not.

    What a report takes a finding for ("consolidation, likely atelectasis") is its own affair.
    """
    labels = {row["image"]: row for row in rows_of(phantom / "labels.csv")}
    places = {row["image"]: row for row in rows_of(phantom / "labels-by-place.csv")}
    stated = sided = denied = 0
    for graph in graphprep.open_graphs(phantom / "truth" / "graphs"):
        image = graph.report.images[0].path
        located = {edge.source for edge in graph.edges if edge.relation == "located_at" and edge.origin == "stated"}
        guessed = {edge.target for edge in graph.edges if edge.relation == "suggestive_of"}
        for node in graph.nodes:
            if node.kind != "pathology" or node.concept not in KINDS or node.node_id in guessed:
                continue
            where = (graph.report.report_id, node.concept)
            if node.assertion == "present":
                assert labels[image][node.concept] == "1", where
                stated += 1
                if node.side in ("left", "right") and KINDS[node.concept].sided and not KINDS[node.concept].device:
                    column = f"{node.concept}/{node.side}"
                    values = {value for name, value in places[image].items() if name.startswith(column)}
                    assert "1" in values, where
                    sided += 1
                continue
            gone = any(attribute.kind == "change" for attribute in node.attributes)
            if node.assertion == "absent" and node.side is None and node.node_id not in located and not gone:
                assert labels[image][node.concept] == "0", where
                denied += 1
    assert min(stated, sided, denied) > 20


def test_the_number_of_workers_changes_nothing(phantom: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "other", OPTIONS, workers=2)
    assert contents(tmp_path / "other") == contents(phantom)


def test_a_killed_run_goes_on_to_the_same_files(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dying(after: int) -> Callable[..., Any]:
        left = [after]

        def draw(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return render(*arguments)

        return draw

    folder = tmp_path / "demo"
    for name, calls in (("render", 3), ("render", 40), ("write_report", -1)):
        with monkeypatch.context() as patch:
            patch.setattr(make, name, dying(calls))
            with pytest.raises(Killed):
                make_phantom(folder, OPTIONS)
    assert not (folder / "phantom.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(make, "render", dying(0))  # all images are there by now
        summary = make_phantom(folder, OPTIONS)
    assert summary.resumed_from == OPTIONS.studies
    assert contents(folder) == contents(phantom)


def test_an_image_that_was_lost_is_drawn_again(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    with monkeypatch.context() as patch:
        patch.setattr(make, "_write_tables", failing)
        with pytest.raises(RuntimeError):
            make_phantom(folder, OPTIONS)
    next((folder / "images").iterdir()).unlink()
    make_phantom(folder, OPTIONS)
    assert contents(folder) == contents(phantom)


def test_a_finished_phantom_is_left_alone(phantom: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in phantom.rglob("*")}
    summary = make_phantom(phantom, OPTIONS)
    assert summary.already_complete
    assert summary.studies == OPTIONS.studies
    assert {file: file.stat().st_mtime_ns for file in phantom.rglob("*")} == before


def test_another_phantom_is_replaced_only_when_asked(tmp_path: Path) -> None:
    small, other = PhantomOptions(studies=4, size=32), PhantomOptions(studies=2, size=32, seed=9, masks=False)
    folder = tmp_path / "demo"
    make_phantom(folder, small)
    (folder / "graphs").mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(folder)
    with pytest.raises(UserError, match=r"made with --n 4 --seed 0 --masks\. .*--overwrite"):
        make_phantom(folder, other)
    assert contents(folder) == before
    make_phantom(folder, other, overwrite=True)
    make_phantom(tmp_path / "fresh", other)
    (folder / "notes.txt").unlink()
    assert contents(folder) == contents(tmp_path / "fresh")
    assert (folder / "graphs").is_dir()


def test_an_overwrite_that_was_killed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, other = PhantomOptions(studies=4, size=32), PhantomOptions(studies=2, size=32, seed=9)
    folder = tmp_path / "demo"
    make_phantom(folder, small)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", failing)
        with pytest.raises(RuntimeError):
            make_phantom(folder, other, overwrite=True)
    with pytest.raises(UserError, match="made with --n 2 --seed 9\\."):
        make_phantom(folder, small)
    make_phantom(folder, other)
    make_phantom(tmp_path / "fresh", other)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_a_folder_with_files_of_others_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("report\n", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds reports\.csv, and no phantom"):
            make_phantom(tmp_path, PhantomOptions(studies=1, size=32), overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == ["reports.csv"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="is a file"):
        make_phantom(tmp_path / "demo", PhantomOptions(studies=1, size=32))


def test_a_disk_that_is_full_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        make_phantom(tmp_path / "demo", PhantomOptions(studies=1, size=32))


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"studies": 0}, "--n"),
        ({"seed": -1}, "--seed"),
        ({"size": 8}, "--size"),
        ({"contrast": 0.0}, "--contrast"),
        ({"contrast": float("nan")}, "--contrast"),
        ({"omissions": 1.5}, "--omissions"),
        ({"wrong": -0.1}, "--wrong"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError, match=rf"{flag} is .* Expected a number from"):
        PhantomOptions(**options)


def test_difficulty_changes_images_or_reports_alone(tmp_path: Path) -> None:
    def made(**options: Any) -> dict[str, str]:
        folder = tmp_path / "-".join(options or ["plain"])
        make_phantom(folder, PhantomOptions(studies=12, size=32, seed=2, masks=False, **options))
        return contents(folder)

    plain, faint, wrong = made(), made(contrast=0.5), made(wrong=0.5)
    images = {name for name in plain if name.startswith("images/")}
    assert {name for name in plain if plain[name] != wrong[name]} & images == set()
    assert plain["labels.csv"] == wrong["labels.csv"] == faint["labels.csv"]
    assert plain["reports.csv"] != wrong["reports.csv"]
    assert plain["reports.csv"] == faint["reports.csv"]
    assert {name for name in images if plain[name] != faint[name]}


def test_without_masks_there_are_none(tmp_path: Path) -> None:
    make_phantom(tmp_path / "demo", PhantomOptions(studies=2, size=32, masks=False))
    assert not (tmp_path / "demo" / "masks").exists()


def test_the_datasheet_says_what_the_counts_are(phantom: Path) -> None:
    manifest = json.loads((phantom / "phantom.json").read_text(encoding="utf-8"))
    assert manifest["drawing"] == DRAWING
    sheet = (phantom / "datasheet.md").read_text(encoding="utf-8")
    assert sheet == datasheet_text(manifest, manifest["counts"])
    labels = rows_of(phantom / "labels.csv")
    for name in CLASSES:
        count = sum(row[name] == "1" for row in labels)
        assert manifest["counts"]["positives"][name] == count
        assert f"| {name} | {count:,} |" in sheet
    assert list(rows_of(phantom / "labels-by-place.csv")[0])[3:] == place_columns()


def test_the_overlay_shows_as_many_findings_as_it_can(phantom: Path, tmp_path: Path) -> None:
    chosen = choose(sample(300, 0), 8)
    assert len(chosen) == 8
    assert len({finding.concept for study in chosen for finding in study.findings}) > 14
    make_phantom(tmp_path / "demo", PhantomOptions(studies=5, size=48, masks=False), overlay=3)
    make_phantom(tmp_path / "more", PhantomOptions(studies=5, size=48, masks=False), overlay=99)
    with Image.open(tmp_path / "demo" / "overlay.png") as few, Image.open(tmp_path / "more" / "overlay.png") as many:
        assert few.width == 3 * 384
        assert many.height > few.height
    with pytest.raises(UserError, match="--overlay is 101"):
        make_phantom(phantom, OPTIONS, overlay=101)


def test_findings_are_described_in_a_line() -> None:
    finding = Finding("endotracheal_tube", millimetres=4, malpositioned=True)
    assert describe(finding) == "endotracheal tube, 4 mm, out of place"
    assert describe(Finding("nodule", "left", "upper", millimetres=9)) == "nodule, left upper, 9 mm"
