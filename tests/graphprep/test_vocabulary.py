"""The shipped vocabularies are sound, a user's own file is read as documented, and a wrong one gets a sentence that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import schemas
from graphprep.errors import UserError
from graphprep.vocabulary import (
    Abbreviation,
    Composition,
    Vocabulary,
    check,
    diff,
    load_vocabularies,
    read_vocabulary,
    to_rows,
)

IMAGENOME = {
    *(
        f"{side} {region}"
        for side in ("left", "right")
        for region in (
            "lung",
            "upper lung zone",
            "mid lung zone",
            "lower lung zone",
            "hilar structures",
            "apical zone",
            "costophrenic angle",
            "hemidiaphragm",
            "clavicle",
        )
    ),
    *(
        "trachea",
        "spine",
        "aortic arch",
        "mediastinum",
        "upper mediastinum",
        "svc",
        "cardiac silhouette",
        "cavoatrial junction",
    ),
    *("right atrium", "carina", "abdomen"),
}

ANATOMY = """
version: 1
kind: anatomy
abbreviations:
  ll: {concept: lung, side: left}
concepts:
  - {id: thorax, synonyms: [thorax]}
  - {id: lung, part_of: thorax, sided: true, synonyms: [Lung, pulmonary], labels: {mine: [lungs]}}
  - {id: lobe, name: lobe of the lung, part_of: lung, sided: true, synonyms: [lobe]}
  - {id: upper_lobe, parent: lobe, sided: true, synonyms: [upper lobe]}
"""

PATHOLOGY = """
version: 1
kind: pathology
concepts:
  - {id: opacity, category: finding, site: lung, synonyms: [opacity, opacification], labels: {mine: [shadow]}, mesh: D000001}
  - {id: consolidation, category: finding, parent: opacity, synonyms: [consolidation]}
  - id: clear_lung
    name: clear lungs
    category: normality
    opposite: [opacity]
    when: [{words: [Clear, normal], at: [lung], with: [field]}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(ANATOMY, encoding="utf-8")
    (tmp_path / "p.yaml").write_text(PATHOLOGY, encoding="utf-8")
    return tmp_path


def load(folder: Path) -> tuple[Vocabulary, Vocabulary]:
    return load_vocabularies(folder / "a.yaml", folder / "p.yaml")


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def content(text: str) -> Any:
    return yaml.safe_load(text)


class TestShipped:
    def test_both_pass_the_check(self) -> None:
        assert check(read_vocabulary("anatomy"), read_vocabulary("pathology")) == []

    def test_they_are_large_enough(self) -> None:
        anatomy, pathology = load_vocabularies()
        assert len(anatomy.concepts) >= 90
        assert len(pathology.concepts) >= 180

    def test_every_region_of_chest_imagenome_is_one_concept(self) -> None:
        anatomy = read_vocabulary("anatomy")
        regions = {
            region: concept
            for concept in anatomy.concepts.values()
            for region in concept.labels.get("chest_imagenome", ())
        }
        assert set(regions) == IMAGENOME
        assert len(IMAGENOME) == 29
        assert sum(len(concept.labels.get("chest_imagenome", ())) for concept in anatomy.concepts.values()) == 29
        for region, concept in regions.items():
            side, _, rest = region.partition(" ")
            assert concept.sided == (side in ("left", "right") and region != "right atrium")
            if concept.sided:
                assert {f"left {rest}", f"right {rest}"} == set(concept.labels["chest_imagenome"])

    def test_the_hierarchy_is_that_of_the_chest(self) -> None:
        anatomy = read_vocabulary("anatomy")
        assert anatomy.is_a("hemidiaphragm", "diaphragm")
        assert anatomy.is_a("thoracic_spine", "bone")
        assert anatomy.is_a("minor_fissure", "fissure")
        assert "lung" in anatomy.wholes("lingula")
        assert "mediastinum" in anatomy.wholes("left_ventricle")
        assert not anatomy.is_a("hilum", "lung")

    @pytest.mark.parametrize(
        ("phrase", "concept"),
        [
            ("cardiac", "heart"),
            ("heart size", "heart"),
            ("cardiac silhouette", "cardiac_silhouette"),
            ("cardio-mediastinal contour", "cardiomediastinal_silhouette"),
            ("mediastinal contour", "mediastinum"),
            ("lung volume", "lung"),
            ("bibasilar", "lung_base"),
            ("biapical", "lung_apex"),
            ("costo-phrenic angle", "costophrenic_angle"),
            ("oesophagus", "esophagus"),
            ("air space", "airspace"),
            ("midlung", "mid_lung_zone"),
            ("svc", "superior_vena_cava"),
            ("t12 vertebral body", "thoracic_spine"),
        ],
    )
    def test_synonyms_are_what_radiologists_write(self, phrase: str, concept: str) -> None:
        assert phrase in read_vocabulary("anatomy").concepts[concept].synonyms

    def test_abbreviations_carry_their_side(self) -> None:
        assert read_vocabulary("anatomy").abbreviations["rul"] == Abbreviation("upper_lobe", "right")


class TestReading:
    def test_fields(self, folder: Path) -> None:
        anatomy, pathology = load(folder)
        lung = anatomy.concepts["lung"]
        assert (lung.name, lung.part_of, lung.sided, lung.synonyms) == ("lung", "thorax", True, ("lung", "pulmonary"))
        assert lung.labels == {"mine": ("lungs",)}
        assert [concept.index for concept in anatomy.concepts.values()] == [0, 1, 2, 3]
        assert anatomy.abbreviations == {"ll": Abbreviation("lung", "left")}
        opacity, clear = pathology.concepts["opacity"], pathology.concepts["clear_lung"]
        assert (opacity.site, opacity.category, opacity.mesh, opacity.radlex) == ("lung", "finding", "D000001", None)
        assert clear.opposites == ("opacity",)
        assert clear.compositions == (Composition(words=("clear", "normal"), at=("lung",), with_=("field",)),)

    def test_relatives(self, folder: Path) -> None:
        anatomy, pathology = load(folder)
        assert anatomy.ancestors("upper_lobe") == ("lobe",)
        assert anatomy.descendants("lobe") == ("upper_lobe",)
        assert anatomy.wholes("upper_lobe") == ("lung", "thorax")  # a kind of lobe, so a part of what a lobe is part of
        assert pathology.is_a("consolidation", "opacity")
        assert pathology.is_a("opacity", "opacity")
        assert not pathology.is_a("opacity", "consolidation")

    def test_rows_fit_the_table(self, folder: Path) -> None:
        for vocabulary in load(folder):
            rows = [row | {"count": 0} for row in to_rows(vocabulary)]
            table = pa.Table.from_pylist(rows, schemas.arrow_schema("vocabulary"))
            assert table.to_pylist() == rows
        row = to_rows(load(folder)[1])[0]
        assert (row["sided"], row["site"], row["labels"]) == (None, "lung", [{"set": "mine", "name": "shadow"}])


class TestOwnFiles:
    def test_without_extends_it_takes_the_place_of_ours(self, folder: Path) -> None:
        anatomy, _ = load(folder)
        assert list(anatomy.concepts) == ["thorax", "lung", "lobe", "upper_lobe"]

    def test_extends_adds_a_concept_after_ours(self, folder: Path) -> None:
        ours = read_vocabulary("anatomy")
        own = {
            "version": 1,
            "kind": "anatomy",
            "extends": "default",
            "abbreviations": {"zz": {"concept": "zygoma"}},
            "concepts": [{"id": "zygoma", "parent": "bone", "synonyms": ["zygoma", "zygomatic"]}],
        }
        anatomy, _ = load_vocabularies(write(folder, "own.yaml", own), folder / "p.yaml")
        assert list(anatomy.concepts) == [*ours.concepts, "zygoma"]
        assert anatomy.concepts["zygoma"].index == len(ours.concepts)
        assert anatomy.abbreviations == {**ours.abbreviations, "zz": Abbreviation("zygoma", None)}
        assert anatomy.sha256 != ours.sha256

    def test_extends_merges_a_concept_of_ours(self, folder: Path) -> None:
        ours = read_vocabulary("anatomy").concepts["lung"]
        entry = {
            "id": "lung",
            "name": "Lunge",
            "synonyms": ["lung", "lunge"],
            "labels": {"mine": ["l"], "iu_place": ["x"]},
        }
        own = {"version": 1, "kind": "anatomy", "extends": "default", "concepts": [entry]}
        lung = load_vocabularies(write(folder, "own.yaml", own), folder / "p.yaml")[0].concepts["lung"]
        assert lung.synonyms == (*ours.synonyms, "lunge")
        assert lung.labels == {**ours.labels, "mine": ("l",), "iu_place": ("x",)}
        assert (lung.name, lung.index, lung.sided, lung.part_of) == ("Lunge", ours.index, True, ours.part_of)

    def test_extends_replaces_a_concept_of_ours_when_told(self, folder: Path) -> None:
        ours = read_vocabulary("anatomy").concepts["nipple"]
        entry = {"id": "nipple", "replace": True, "synonyms": ["mamilla"]}
        own = {"version": 1, "kind": "anatomy", "extends": "default", "concepts": [entry]}
        nipple = load_vocabularies(write(folder, "own.yaml", own), folder / "p.yaml")[0].concepts["nipple"]
        assert nipple == replace(ours, synonyms=("mamilla",), sided=False, part_of=None, labels={})

    def test_a_conflict_names_both_files(self, folder: Path) -> None:
        own = {
            "version": 1,
            "kind": "anatomy",
            "extends": "default",
            "concepts": [{"id": "pump", "synonyms": ["hearts"]}],
        }
        path = write(folder, "own.yaml", own)
        with pytest.raises(UserError) as caught:
            load_vocabularies(path, folder / "p.yaml")
        for word in (str(path), "concept pump", '"hearts"', "concept heart", "anatomy.yaml"):
            assert word in str(caught.value)


# What is wrong, as (kind, what to do to the file's content), and what the sentence must hold beside the file's name.
BAD_ENTRIES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("a", "unknown parent", {"id": "lobule", "parent": "lobee", "synonyms": ["lobule"]}, ["concept lobule", "parent", "did you mean lobe?"]),
    ("a", "unknown whole", {"id": "lobule", "part_of": "qqq", "synonyms": ["lobule"]}, ["concept lobule", "part_of", '"qqq"']),
    ("a", "own parent", {"id": "lobule", "parent": "lobule", "synonyms": ["lobule"]}, ["concept lobule", "lobule → lobule"]),
    ("a", "id twice", {"id": "lung", "synonyms": ["pulmo"]}, ["concept lung", "twice"]),
    ("a", "shared synonym", {"id": "pulmo", "synonyms": ["lungs"]}, ["concept pulmo", '"lungs"', "concept lung"]),
    ("a", "word order", {"id": "pulmo", "synonyms": ["lobes upper"]}, ["concept pulmo", "concept upper_lobe"]),
    ("a", "side word", {"id": "lobule", "sided": True, "synonyms": ["left lobule"]}, ["concept lobule", "'left'"]),
    ("a", "no synonyms", {"id": "lobule"}, ["concept lobule", "no `synonyms`"]),
    ("a", "synonym without words", {"id": "lobule", "synonyms": ["lobule", "-"]}, ["concept lobule", '"-"']),
    ("a", "synonym that YAML takes for a truth", {"id": "lobule", "synonyms": [True, "lobule"]}, ["concept lobule", "`synonyms`", "quote"]),
    ("a", "synonyms as a mapping", {"id": "lobule", "synonyms": {"a": "b"}}, ["concept lobule", "`synonyms` must be a list"]),
    ("a", "no truth", {"id": "lobule", "synonyms": ["lobule"], "sided": "yes"}, ["concept lobule", "`sided`", "true or false"]),
    ("a", "no text", {"id": "lobule", "synonyms": ["lobule"], "name": 3}, ["concept lobule", "`name`", "3"]),
    ("a", "misspelt key", {"id": "lobule", "synonym": ["lobule"]}, ["concept lobule", '"synonym"', "did you mean synonyms?"]),
    ("a", "a key of the other kind", {"id": "lobule", "synonyms": ["lobule"], "category": "finding"}, ["concept lobule", '"category"']),
    ("a", "no id", {"synonyms": ["lobule"]}, ["entry 5", "`id`"]),
    ("a", "id with spaces", {"id": "a lobule", "synonyms": ["lobule"]}, ["entry 5", "snake_case", '"a lobule"']),
    ("a", "labels as a list", {"id": "lobule", "synonyms": ["lobule"], "labels": ["x"]}, ["concept lobule", "`labels`"]),
    ("a", "no MeSH id", {"id": "lobule", "synonyms": ["lobule"], "mesh": "lung"}, ["concept lobule", "`mesh`", '"lung"']),
    ("p", "unknown site", {"id": "mass", "category": "finding", "site": "lungs", "synonyms": ["mass"]}, ["concept mass", "site", "did you mean lung?"]),
    ("p", "unknown opposite", {"id": "mass", "category": "finding", "opposite": "none", "synonyms": ["mass"]}, ["concept mass", "opposite"]),
    ("p", "own opposite", {"id": "mass", "category": "finding", "opposite": ["mass"], "synonyms": ["mass"]}, ["concept mass", "opposite"]),
    ("p", "unknown category", {"id": "mass", "category": "tumour", "synonyms": ["mass"]}, ["concept mass", "`category`", "finding, normality"]),
    ("p", "no category", {"id": "mass", "synonyms": ["mass"]}, ["concept mass", "`category`"]),
    ("p", "composition nowhere", {"id": "mass", "category": "finding", "when": [{"words": ["big"]}]}, ["concept mass", "`when`"]),
    ("p", "composition at an unknown place", {"id": "mass", "category": "finding", "when": [{"words": ["big"], "at": ["x"]}]}, ["concept mass", "`when`", '"x"']),
]  # fmt: skip


class TestBadFiles:
    @pytest.mark.parametrize(
        ("file", "entry", "words"), [pytest.param(f, e, w, id=name) for f, name, e, w in BAD_ENTRIES]
    )
    def test_a_bad_entry_names_file_and_concept(
        self, folder: Path, file: str, entry: dict[str, Any], words: list[str]
    ) -> None:
        path = folder / f"{file}.yaml"
        whole = content(path.read_text(encoding="utf-8"))
        whole["concepts"].append(entry)
        write(folder, path.name, whole)
        with pytest.raises(UserError) as caught:
            load(folder)
        for word in (str(path), *words):
            assert word in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", ["concepts"]),
            ("- a\n- b\n", ["concepts"]),
            ("version: 1\nkind: anatomy\nconcepts: {a: b}\n", ["concepts"]),
            ("version: 2\nkind: anatomy\nconcepts: []\n", ["version: 1"]),
            ("version: 1\nkind: pathology\nconcepts: []\n", ["kind: anatomy", '"pathology"']),
            ("version: 1\nkind: anatomy\nextends: ours\nconcepts: []\n", ["extends", '"ours"']),
            ("version: 1\nkind: anatomy\nconcept: []\nconcepts: []\n", ['"concept"', "did you mean concepts?"]),
            ("version: 1\nkind: anatomy\nconcepts: [lung]\n", ["entry 1", "a mapping", '"lung"']),
            ("version: 1\nkind: anatomy\nconcepts: [\n", ["YAML", "line 4"]),
            ("version: 1\nversion: 1\nkind: anatomy\nconcepts: []\n", ["twice", "line 2"]),
            ("version: 1\nkind: anatomy\nconcepts: !!python/object/apply:os.getcwd []\n", ["YAML", "line 3"]),
            ("version: 1\nkind: anatomy\nabbreviations: [rul]\nconcepts: []\n", ["abbreviations"]),
            (
                "version: 1\nkind: anatomy\nabbreviations: {x: {concept: lung, side: up}}\nconcepts: []\n",
                ['"x"', "left, right"],
            ),
            ("[" * 100_000, ["a.yaml"]),
        ],
    )
    def test_a_bad_file_is_named(self, folder: Path, text: str, words: list[str]) -> None:
        (folder / "a.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            load(folder)
        for word in (str(folder / "a.yaml"), *words):
            assert word in str(caught.value)

    def test_an_unreadable_file_is_named(self, folder: Path) -> None:
        (folder / "latin.yaml").write_bytes("version: 1\nkind: anatomy\nconcepts: [\xf6]\n".encode("latin-1"))
        for name in ("none.yaml", "latin.yaml", "."):
            with pytest.raises(UserError, match=r"The vocabulary .* (cannot be read|is not)"):
                load_vocabularies(folder / name)

    def test_an_abbreviation_of_an_unknown_place_is_named(self, folder: Path) -> None:
        whole = content(ANATOMY)
        whole["abbreviations"]["xx"] = {"concept": "lungs"}
        path = write(folder, "a.yaml", whole)
        with pytest.raises(UserError) as caught:
            load(folder)
        for word in (str(path), "abbreviation xx", "did you mean lung?"):
            assert word in str(caught.value)

    def test_an_abbreviation_is_no_synonym(self, folder: Path) -> None:
        whole = content(ANATOMY)
        whole["abbreviations"]["lobe"] = {"concept": "lobe", "side": "left"}
        write(folder, "a.yaml", whole)
        with pytest.raises(UserError, match=r"concept lobe.*abbreviation"):
            load(folder)

    def test_all_problems_are_listed(self, folder: Path) -> None:
        whole = content(ANATOMY)
        whole["concepts"] += [{"id": "x"}, {"id": "y", "parent": "z", "synonyms": ["y"]}]
        write(folder, "a.yaml", whole)
        problems = check(read_vocabulary("anatomy", folder / "a.yaml"), read_vocabulary("pathology", folder / "p.yaml"))
        assert len(problems) == 2
        with pytest.raises(UserError, match="1 more"):
            load(folder)

    def test_a_cycle_is_reported_once_and_ends(self, folder: Path) -> None:
        whole = content(ANATOMY)
        whole["concepts"][0]["part_of"] = "upper_lobe"  # a kind of lobe, part of the lung, part of the thorax
        write(folder, "a.yaml", whole)
        anatomy = read_vocabulary("anatomy", folder / "a.yaml")
        problems = check(anatomy, read_vocabulary("pathology", folder / "p.yaml"))
        assert len(problems) == 1
        assert all(name in problems[0] for name in ("thorax", "lung", "lobe", "upper_lobe"))
        assert set(anatomy.wholes("lung")) == {"thorax", "upper_lobe", "lung"}

    def test_a_group_needs_no_synonyms(self, folder: Path) -> None:
        whole = content(PATHOLOGY)
        whole["concepts"] += [
            {"id": "device", "category": "device"},
            {"id": "tube", "parent": "device", "category": "device", "synonyms": ["tube"]},
        ]
        write(folder, "p.yaml", whole)
        assert load(folder)[1].descendants("device") == ("tube",)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_whatever_an_entry_holds_it_is_read_or_named(self, folder: Path, data: st.DataObject) -> None:
        leaf = (
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=8)
            | st.sampled_from(["lung", "lobe", "opacity"])
        )
        anything = st.recursive(
            leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaf, inner, max_size=3), max_leaves=8
        )
        keys = st.sampled_from(
            [
                "id",
                "name",
                "parent",
                "part_of",
                "sided",
                "synonyms",
                "labels",
                "when",
                "opposite",
                "site",
                "category",
                "mesh",
            ]
        )
        entries = st.lists(anything | st.dictionaries(keys, anything, max_size=6), max_size=3)
        for name, text in (("a.yaml", ANATOMY), ("p.yaml", PATHOLOGY)):
            whole = content(text)
            whole["concepts"] += data.draw(entries)
            write(folder, name, whole)
        vocabularies = read_vocabulary("anatomy", folder / "a.yaml"), read_vocabulary("pathology", folder / "p.yaml")
        assert all(str(folder) in problem for problem in check(*vocabularies))
        for vocabulary in vocabularies:
            assert {"lung", "opacity"} & {row["concept"] for row in to_rows(vocabulary)}
            assert len(vocabulary.sha256) == 64


class TestHashAndDiff:
    def test_the_order_of_keys_is_no_meaning(self, folder: Path) -> None:
        before = load(folder)
        for name, text in (("a.yaml", ANATOMY), ("p.yaml", PATHOLOGY)):
            whole = content(text)
            whole["concepts"] = [dict(reversed(entry.items())) for entry in whole["concepts"]]
            write(folder, name, dict(reversed(whole.items())))
        for old, new in zip(before, load(folder), strict=True):
            assert old.sha256 == new.sha256
            assert not diff(old, new)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "LOBE"},
            {"parent": "lung"},
            {"part_of": "thorax"},
            {"sided": False},
            {"synonyms": ["lobe", "lobus"]},
            {"labels": {"mine": ["l"]}},
            {"mesh": "D000002"},
            {"radlex": "RID1"},
        ],
    )
    def test_any_other_change_is_seen(self, folder: Path, change: dict[str, Any]) -> None:
        before, _ = load(folder)
        whole = content(ANATOMY)
        whole["concepts"][2].update(change)
        write(folder, "a.yaml", whole)
        after, _ = load(folder)
        assert before.sha256 != after.sha256
        assert list(diff(before, after).changed) == ["lobe"]

    def test_the_order_of_concepts_is_part_of_the_hash(self, folder: Path) -> None:
        before, _ = load(folder)
        whole = content(ANATOMY)
        whole["concepts"].reverse()
        write(folder, "a.yaml", whole)
        after, _ = load(folder)
        assert before.sha256 != after.sha256  # their indices changed …
        assert not diff(before, after)  # … and what they say did not

    def test_diff(self, folder: Path) -> None:
        before = read_vocabulary("pathology", folder / "p.yaml")
        whole = content(PATHOLOGY)
        opacity, _, clear = whole["concepts"]
        opacity.update(synonyms=["opacity", "shadowing"], site=None)
        clear["when"][0]["with"] = []
        whole["concepts"] = [{"id": "mass", "category": "finding", "synonyms": ["mass"]}, clear, opacity]
        found = diff(before, read_vocabulary("pathology", write(folder, "new.yaml", whole)))
        assert found.added == ("mass",)
        assert found.removed == ("consolidation",)
        assert found.changed == {
            "opacity": ("site: lung → none", "synonyms - opacification", "synonyms + shadowing"),
            "clear_lung": ("compositions - clear|normal at lung with field", "compositions + clear|normal at lung"),
        }

    def test_diff_sees_abbreviations(self, folder: Path) -> None:
        before, _ = load(folder)
        whole = content(ANATOMY)
        whole["abbreviations"]["ll"]["side"] = "right"
        write(folder, "a.yaml", whole)
        assert diff(before, load(folder)[0]).changed == {
            "lung": ("abbreviations - ll (left)", "abbreviations + ll (right)")
        }
