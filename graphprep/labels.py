"""Labels of reports or images out of their graphs, as the CheXpert labeller writes them: 1, -1 (uncertain), 0 (denied) or empty.

What concept has which label is said by the vocabulary of the folder (`labels`), or by a file that maps labels to concepts. A
finding that is present or uncertain counts for the labels of what it is a kind of, too (consolidation is a lung opacity);
a denied one for its own alone. Of several statements the strongest holds: present, uncertain, denied.

As the labellers have it, "No Finding" is 1 where no finding is present or uncertain (a device is none) and else empty, and a
heart or mediastinum said to be normal denies that it is enlarged. CheXbert's values mean the same; its columns have
another order.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from graphprep.errors import UserError
from graphprep.export import whole_file
from graphprep.graphs import GraphFolder, open_graphs
from graphprep.progress import progress

NO_FINDING = "No Finding"

#: The columns of the label sets of others, in their order.
_COLUMNS: dict[str, list[str]] = {
    "chexpert14": [
        NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema", "Consolidation",
        "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
    ],
    "chexbert": [
        "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
        "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", NO_FINDING,
    ],
    "chestxray14": [
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", NO_FINDING,
    ],
}  # fmt: skip
SETS = (*_COLUMNS, "own")

#: What a statement that all is normal denies, in CheXpert's sets.
_DENIED_BY_NORMALITY = ("Cardiomegaly", "Enlarged Cardiomediastinum")
#: Categories whose nodes are a finding.
_FINDINGS = ("finding", "generic")
#: In order of strength; a place here is the value of a cell before it is written.
WRITTEN = ("", "0", "-1", "1")
_STRENGTH = {"absent": 1, "uncertain": 2, "present": 3}

_Matrix = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelSet:
    """Which pathology concept speaks for which column, (concepts, columns) each.

    `own`: what is said of the concept is said of the label. `wider`: so too where it is present or uncertain, with the labels
    of its ancestors. `denied`: where it is present, the label is denied. `no_finding`: the column of that name, or None;
    `findings`: the concepts of which none is then present or uncertain.
    """

    columns: Sequence[str]
    own: _Matrix
    wider: _Matrix
    denied: _Matrix
    no_finding: int | None
    findings: _Matrix


@dataclass(frozen=True)
class LabelsSummary:
    """What `labels` wrote; `without_image` are the reports that made no row, with `images`."""

    rows: int
    columns: int
    without_image: int


def labels(
    graphs: str | Path,
    output: str | Path,
    set: str = "chexpert14",
    *,
    images: bool = False,
    hierarchy: bool = True,
    show_progress: bool = False,
) -> LabelsSummary:
    """Write a CSV with one row per report: `report_id` and a column per label; with `images`, the `labels.csv` of one row per
    image: `image`, `subject_id`, `split` where there is one, and the labels.

    `set` is one of `SETS` (`own`: the concepts themselves), another set that the folder's vocabulary names, or a YAML file of
    labels, each with its concepts. Without `hierarchy` a concept counts for no label but its own. Raises UserError for a
    folder or file that cannot be used, and with `images` where the folder knows no image.
    """
    folder = open_graphs(graphs)
    label_set = label_set_of(folder, set, hierarchy)
    splits = any(batch.column(0).null_count < batch.num_rows for batch in folder.tables("reports", ["split"]))
    rows = without = 0
    with progress("labels", enabled=show_progress) as bar, whole_file(Path(output)) as file:
        bar.start(len(folder), 0)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = ["image", "subject_id", *(["split"] if splits else [])] if images else ["report_id"]
        writer.writerow([*names, *label_set.columns])
        done = 0
        for reports, cells in labelled(folder, label_set):
            for report, values in zip(reports, cells.tolist(), strict=True):
                written = [WRITTEN[value] for value in values]
                if not images:
                    heads = [[report["report_id"]]]
                else:
                    split = [report["split"] or ""] if splits else []
                    heads = [[image["path"], report["subject_id"] or "", *split] for image in report["images"]]
                    without += not heads
                writer.writerows([*head, *written] for head in heads)
                rows += len(heads)
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
            done += len(reports)
            bar.update(done)
        file.write(text.getvalue().encode())  # the header of a folder without reports
        if images and len(folder) and not rows:
            raise UserError(f"{folder.path} knows no image of its reports. Leave out --images for one row per report.")
    return LabelsSummary(rows, len(label_set.columns), without)


def labelled(folder: GraphFolder, label_set: LabelSet) -> Iterator[tuple[list[dict[str, Any]], npt.NDArray[np.int8]]]:
    """The reports of a row group (their columns for `labels.csv`) and their cells, (reports, columns), places in `WRITTEN`."""
    concepts = pa.array(list(folder.vocabulary("pathology")), pa.string())
    strengths = pa.array(list(_STRENGTH), pa.string())
    wanted = {
        "reports": ["report_id", "subject_id", "split", "images"],
        "nodes": ["kind", "concept", "assertion"],
    }
    for batches in folder.row_groups(wanted):
        reports, nodes = batches["reports"], batches["nodes"]
        pathology = pc.equal(nodes.column("kind"), "pathology").to_numpy(zero_copy_only=False)
        report = np.repeat(np.arange(reports.num_rows), reports.column("n_nodes").to_numpy())[pathology]
        concept = _places(nodes.column("concept"), concepts)[pathology]
        if (concept < 0).any():
            raise UserError(
                f"{folder.path} holds a concept that its vocabulary lacks. Run `graphprep validate` on it, then extract "
                "again with --overwrite."
            )
        strength = (_places(nodes.column("assertion"), strengths) + 1)[pathology]
        cells = np.zeros((reports.num_rows, len(label_set.columns)), np.int8)
        for matrix, rows, said in (
            (label_set.own, strength == 1, None),
            (label_set.wider, strength > 1, None),
            (label_set.denied, strength == 3, 1),
        ):
            row, column = np.nonzero(matrix[concept] & rows[:, None])
            np.maximum.at(cells, (report[row], column), strength[row] if said is None else said)
        if label_set.no_finding is not None:
            found = np.bincount(report[label_set.findings[concept] & (strength > 1)], minlength=reports.num_rows) > 0
            cells[:, label_set.no_finding] = np.where(found, 0, _STRENGTH["present"])
        yield reports.to_pylist(), cells


def _places(values: pa.Array, names: pa.Array) -> npt.NDArray[np.int64]:
    """The place of each value in `names`, -1 for others."""
    found: npt.NDArray[np.int64] = pc.fill_null(pc.index_in(values, names), -1).to_numpy().astype(np.int64)
    return found


# Which concept has which label


def label_set_of(folder: GraphFolder, name: str, hierarchy: bool = True) -> LabelSet:
    """The set of a name, or in a file, for the vocabulary of a folder. Raises UserError where there is none."""
    vocabulary = folder.vocabulary("pathology")
    concepts = list(vocabulary)
    of_label = _concepts_of_labels(vocabulary, name)
    columns = list(of_label)
    own = np.zeros((len(concepts), len(columns)), bool)
    for place, members in enumerate(of_label.values()):
        own[[concepts.index(member) for member in members], place] = True
    no_finding = columns.index(NO_FINDING) if name in _COLUMNS else None
    if no_finding is not None:
        own[:, no_finding] = False  # the rule alone decides it
    wider, denied = own.copy(), np.zeros_like(own)
    for row, concept in enumerate(concepts):
        if hierarchy:
            for ancestor in _ancestors(vocabulary, concept):
                wider[row] |= own[concepts.index(ancestor)]
        if name in ("chexpert14", "chexbert") and vocabulary[concept]["category"] == "normality":
            for opposite in vocabulary[concept]["opposite"]:
                if opposite in vocabulary:
                    denied[row] |= own[concepts.index(opposite)]
    denied &= np.isin(columns, _DENIED_BY_NORMALITY)
    if name == "chestxray14":  # NIH's label says that there is none of the fourteen
        findings = wider.any(axis=1)
    else:
        findings = np.array([vocabulary[concept]["category"] in _FINDINGS for concept in concepts], bool)
    return LabelSet(columns, own, wider, denied, no_finding, findings)


def _concepts_of_labels(vocabulary: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, list[str]]:
    """Label → concepts, in the order of the columns."""
    if name == "own":
        return {concept: [concept] for concept in vocabulary}
    in_vocabulary = "chexpert14" if name == "chexbert" else name
    found: dict[str, list[str]] = {label: [] for label in _COLUMNS.get(name, ())}
    for concept, row in vocabulary.items():
        for label in row["labels"]:
            if label["set"] == in_vocabulary and (name not in _COLUMNS or label["name"] in found):
                found.setdefault(label["name"], []).append(concept)
    return found or _read_set(Path(name), vocabulary)


def _read_set(path: Path, vocabulary: Mapping[str, Any]) -> dict[str, list[str]]:
    if not path.is_file():
        raise UserError(f"{path} is neither a label set nor a file. Expected one of {', '.join(SETS)}, or a YAML file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as YAML ({type(error).__name__}).") from None
    example = "such as `Effusion: [pleural_effusion]`"
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected labels with their concepts, {example}.")
    found: dict[str, list[str]] = {}
    for label, concepts in content.items():
        members = [concepts] if isinstance(concepts, str) else concepts
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise UserError(f"{path}, label {label}: expected a list of concepts, {example}.")
        for member in members:
            if member not in vocabulary:
                near = difflib.get_close_matches(member, vocabulary, n=3)
                hint = f" Did you mean {' or '.join(near)}?" if near else " `graphprep vocab list` lists them."
                raise UserError(f"{path}, label {label}: the graphs know no pathology {member!r}.{hint}")
        found[str(label)] = members
    return found


def _ancestors(vocabulary: Mapping[str, Mapping[str, Any]], concept: str) -> Iterator[str]:
    parent, seen = vocabulary[concept]["parent"], {concept}
    while parent in vocabulary and parent not in seen:
        yield parent
        seen.add(parent)
        parent = vocabulary[parent]["parent"]
