"""The table of concepts: hierarchy, columns, files, and tables that differ."""

from __future__ import annotations

from pathlib import Path

import hand_batches as hand
import pytest

from trainer.errors import UserError
from trainer.graph.concepts import ConceptTable

TABLE = hand.table()


def names(rows: list[int]) -> set[str]:
    return {TABLE.concepts[row].id for row in rows}


def test_anatomies_come_first() -> None:
    assert TABLE.anatomy_count == len(hand.ANATOMY)
    assert [concept.id for concept in TABLE.concepts] == [*hand.ANATOMY, *hand.PATHOLOGY]
    assert TABLE.row("pathology", "effusion") == hand.row("effusion")
    with pytest.raises(KeyError):
        TABLE.row("anatomy", "effusion")


def test_up_and_down() -> None:
    assert names(TABLE.up(hand.row("lower_lobe"))) == {"lower_lobe", "lobe", "lung", "chest"}
    assert names(TABLE.down(hand.row("opacity"))) == {"opacity", "atelectasis", "collapse", "pneumonia"}
    of, ancestor = TABLE.ancestors()
    assert {
        (TABLE.concepts[a].id, TABLE.concepts[b].id) for a, b in zip(of.tolist(), ancestor.tolist(), strict=True)
    } >= {
        ("collapse", "collapse"),
        ("collapse", "opacity"),
        ("upper_lobe", "chest"),
    }


def test_a_circle_in_the_vocabulary_ends() -> None:
    anatomy, pathology = hand.rows()
    anatomy[0]["part_of"] = "lung"
    table = ConceptTable.from_rows(anatomy, pathology)
    assert len(table.up(0)) == 2
    table.implications(closure=True)


def test_rows_may_come_in_any_order() -> None:
    anatomy, pathology = hand.rows()
    assert ConceptTable.from_rows(anatomy[::-1], pathology[::-1]) == TABLE


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "concepts.json"
    TABLE.save(path)
    assert ConceptTable.load(path) == TABLE
    path.write_text('{"concepts": [{"id": 1}]}')
    with pytest.raises(UserError, match="not a table of concepts"):
        ConceptTable.load(path)


def test_rows_of_another_table() -> None:
    anatomy, pathology = hand.rows()
    other = ConceptTable.from_rows(anatomy, [row for row in pathology if row["concept"] != "effusion"])
    rows = TABLE.rows_in(other)
    assert int(rows[hand.row("effusion")]) == -1
    assert int(rows[hand.row("tube")]) == hand.row("tube") - 1
    assert other.rows_in(TABLE).min() >= 0
