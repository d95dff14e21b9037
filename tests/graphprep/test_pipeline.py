"""Properties of the whole way from report to graph: whatever the text, offsets spell the mentions and no edge dangles."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphprep.lexicon import Lexicon
from graphprep.pipeline import Pipeline
from graphprep.records import Report, ReportGraph

# Words whose order decides what a sentence says; drawn at random they make the sentences nobody would write.
WORDS = (
    "no none without there is are the a one ones both this these it may represent likely possible cannot be excluded versus or and with of in on at , ; : . but however "
    "left right bilateral bibasilar upper lower lobe lung lungs base heart size mediastinum hilar pleural rib aorta tip tube catheter "
    "normal clear enlarged calcified tortuous small new stable increased resolved removed removal unchanged change interval scapula old acute 3 cm XXXX "
    "opacity effusion atelectasis pneumonia pneumothorax consolidation granuloma fracture cardiomegaly edema"
).split()


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline()


def graph_of(pipeline: Pipeline, text: str) -> ReportGraph:
    [graph] = pipeline.run([Report("1", text, "memory", 1)])
    return graph


def check(graph: ReportGraph, pipeline: Pipeline) -> None:
    text = graph.report.text
    for number, mention in enumerate(graph.mentions):
        assert mention.mention_id == number
        assert text[mention.start : mention.end] == mention.text != ""
        assert all(0 <= relation.target < len(graph.mentions) for relation in mention.relations)
        assert all(relation.target != number for relation in mention.relations)
    keys = [(node.kind, node.concept, node.side, node.assertion) for node in graph.nodes]
    assert len(set(keys)) == len(keys)
    for number, node in enumerate(graph.nodes):
        assert node.node_id == number
        assert node.concept in (pipeline.anatomy if node.kind == "anatomy" else pipeline.pathology).concepts
        assert node.attributes == sorted(set(node.attributes))
        assert (node.origin == "vocabulary") == (not node.mentions)
    for edge in graph.edges:
        assert 0 <= edge.source < len(graph.nodes)
        assert 0 <= edge.target < len(graph.nodes)
        assert edge.source != edge.target
    assert len({(edge.source, edge.target) for edge in graph.edges}) == len(graph.edges)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_order_of_words_makes_a_valid_graph(pipeline: Pipeline, words: list[str]) -> None:
    check(graph_of(pipeline, " ".join(words)), pipeline)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_any_text_survives(pipeline: Pipeline, text: str) -> None:
    check(graph_of(pipeline, text), pipeline)


def test_a_finding_that_suggests_itself_makes_one_node(pipeline: Pipeline) -> None:
    graph = graph_of(pipeline, "There is an opacity. This is consistent with an opacity.")
    assert [node.concept for node in graph.nodes if node.kind == "pathology"] == ["lung_opacity"]
    check(graph, pipeline)


def test_a_report_is_read_alike_alone_and_in_company(pipeline: Pipeline) -> None:
    texts = [
        "Small left effusion. It is unchanged.",
        "No effusion.",
        "Left lower lobe opacity may represent pneumonia.",
    ]
    together = pipeline.run([Report(str(number), text, "memory", number) for number, text in enumerate(texts)])
    for text, graph in zip(texts, together, strict=True):
        alone = graph_of(Pipeline(), text)
        assert (alone.mentions, alone.nodes, alone.edges) == (graph.mentions, graph.nodes, graph.edges)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("atelectsis", "atelectasis"),
        ("Consoldation", "consolidation"),
        ("claer", "clear"),
        ("consolidatoins", "consolidation"),
    ],
)
def test_a_mistyped_word_is_read_as_the_one_that_is_meant(pipeline: Pipeline, wrong: str, right: str) -> None:
    assert Lexicon(pipeline.anatomy, pipeline.pathology).spelled(wrong) == right


@pytest.mark.parametrize(
    "word", ["contiguous", "injection", "confusion", "Effusion", "clera", "XXXX", "3rd", "2.5", "the"]
)
def test_other_words_are_left_as_they_are(pipeline: Pipeline, word: str) -> None:
    """Another letter is another word, and so is another first or last letter."""
    assert Lexicon(pipeline.anatomy, pipeline.pathology).spelled(word) == word
