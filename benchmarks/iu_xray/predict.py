#!/usr/bin/env python
"""Turn a graphs folder into the form that a careful reading of Indiana University reports is scored in.

    python benchmarks/iu_xray/predict.py GRAPHS -o PRED.jsonl

Labels and places come from the vocabularies (`labels.iu_read`, `iu_codes`, `chestxray14`, `iu_place`, `iu_normal`); the few
rules about values (which words are mild, what counts as unchanged) are in `values.yaml` beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from graphprep.graphs import open_graphs
from graphprep.records import Node, ReportGraph
from graphprep.vocabulary import Concept, Vocabulary, load_vocabularies

VALUES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "values.yaml").read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", type=Path, help="a graphs folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write one JSON object per report")
    options = parser.parse_args(arguments)
    anatomy, pathology = load_vocabularies()
    with options.output.open("w", encoding="utf-8") as file:
        for graph in open_graphs(options.graphs):
            file.write(json.dumps(predict(graph, anatomy, pathology)) + "\n")


def predict(graph: ReportGraph, anatomy: Vocabulary, pathology: Vocabulary) -> dict[str, Any]:
    """Return the findings, normal structures and codes of a report."""
    places: dict[int, list[Node]] = defaultdict(list)
    for edge in graph.edges:
        if edge.relation == "located_at" and edge.origin == "stated":
            places[edge.source].append(graph.nodes[edge.target])
    entries: list[dict[str, Any]] = []
    normal: set[str] = set()
    codes: set[str] = set()
    chestxray14: set[str] = set()
    for node in graph.nodes:
        if node.kind != "pathology":
            continue
        concept = pathology.concepts[node.concept]
        where = places[node.node_id]
        normal |= _normal(node, where, anatomy, pathology)
        if node.assertion != "absent":
            codes |= _codes(node, graph, concept)
            chestxray14 |= set(concept.labels.get("chestxray14", ()))
        if _is_denied_state(node, graph):
            continue
        for label in concept.labels.get("iu_read", ()):
            entries.append(
                {
                    "label": label,
                    "assertion": node.assertion,
                    "side": node.side,
                    "places": sorted(
                        {name for place in where for name in _labels_of_place(place.concept, anatomy)}
                        - set(VALUES["place_in_name"].get(label, ()))
                    ),
                    "severity": _value("severity", node),
                    "change": _value("change", node),
                    "section": "impression" in node.sections,
                }
            )
    return {
        "report_id": graph.report.report_id,
        "findings": [{key: value for key, value in entry.items() if key != "section"} for entry in settle(entries)],
        "normal": sorted(normal),
        "codes": sorted(codes),
        "negbio14": sorted(chestxray14),
    }


def _codes(node: Node, graph: ReportGraph, concept: Concept) -> set[str]:
    """Return the codes of a node: those of its concept, as far as the coders do not go by the word that the report has."""
    codes = set(concept.labels.get("iu_codes", ()))
    if node.assertion == "uncertain":
        codes -= set(VALUES["codes_when_stated"])
    words = [graph.mentions[mention].text.lower() for mention in node.mentions]
    for rule in VALUES["codes_by_word"]:
        applies = rule["code"] in codes if "code" in rule else node.concept in rule["concepts"]
        other = any(word.startswith(tuple(rule.get("unless", ()))) for word in words)
        if applies and words[0] in rule["words"] and not other:
            codes = codes - {rule.get("code")} | {rule["instead"]}
    return codes


def _is_denied_state(node: Node, graph: ReportGraph) -> bool:
    """Whether a structure is said to be as it should be ("the heart is not enlarged"), which is no finding, denied or not."""
    if node.assertion != "absent" or node.concept not in VALUES["denial_is_normal"]:
        return False
    return all(
        graph.mentions[mention].text.lower() not in VALUES["findings_denied"] for mention in node.mentions
    ) and any(graph.mentions[mention].text.lower() in VALUES["states"] for mention in node.mentions)


def _labels_of_place(concept: str, anatomy: Vocabulary) -> set[str]:
    """Return the place names of a concept, or of the nearest concept above that has one."""
    for candidate in (concept, *anatomy.ancestors(concept)):
        labels = anatomy.concepts[candidate].labels.get("iu_place")
        if labels:
            return set(labels)
    return set()


def _value(kind: str, node: Node) -> str | None:
    for value, words in VALUES[kind].items():
        if any(attribute.kind == kind and attribute.words in words for attribute in node.attributes):
            return str(value)
    return None


def _normal(node: Node, where: Iterable[Node], anatomy: Vocabulary, pathology: Vocabulary) -> set[str]:
    """Return the structures that a node says are normal: a normality, or an abnormality denied at a structure."""
    concept = pathology.concepts[node.concept]
    denied_abnormality = node.assertion == "absent" and (
        concept.category == "generic" or concept.id in VALUES["denial_is_normal"]
    )
    if not (denied_abnormality or (concept.category == "normality" and node.assertion == "present")):
        return set()
    if node.side in ("left", "right"):
        return set()  # one clear lung does not make the lungs normal
    structures = [place.concept for place in where]
    if not structures and concept.site and concept.category != "generic":
        structures = [concept.site]
    found: set[str] = set()
    for structure in structures:
        for candidate in (structure, *anatomy.ancestors(structure)):
            labels = anatomy.concepts[candidate].labels.get("iu_normal")
            if labels:
                found |= set(labels)
                break
    return found


def settle(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one of two statements that disagree: a finding before its denial, the impression before the findings section."""
    kept = []
    for entry in entries:
        same = [other for other in entries if other["label"] == entry["label"]]
        if entry["assertion"] == "absent":
            stands = bool(entry["places"] or entry["side"]) or all(other["assertion"] == "absent" for other in same)
        else:
            rivals = [
                other
                for other in same
                if other["assertion"] not in (entry["assertion"], "absent")
                and not (other["side"] and entry["side"] and other["side"] != entry["side"])
            ]
            stands = not any(
                (other["section"], other["assertion"] == "present")
                > (entry["section"], entry["assertion"] == "present")
                for other in rivals
            )
        if stands:
            kept.append(entry)
    return kept


if __name__ == "__main__":
    main()
