"""The radgraph extractor in the pipeline: mentions, sections, sentences, assertions, folders of graphs, workers, faults."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ROOT, Tiny

from graphprep.errors import UserError
from graphprep.extract import extract
from graphprep.extractors import ModelSettings, default_workers, extractor_names, make_extractor
from graphprep.extractors.radgraph import devices
from graphprep.extractors.radgraph.extractor import SPLIT_WORDS, RadgraphExtractor, cover
from graphprep.extractors.radgraph.folder import record_model
from graphprep.extractors.radgraph.inference import Annotation
from graphprep.extractors.radgraph.labels import meaning_of
from graphprep.graphs import open_graphs
from graphprep.pipeline import Pipeline, PipelineSettings
from graphprep.records import Document, Report, Sentence
from graphprep.validate import validate
from graphprep.vocabulary import load_vocabularies

REPORTS = ROOT / "tests" / "data" / "reports.csv"
module: Any = sys.modules["graphprep.extract"]  # `graphprep.extract` itself is the function


def settings(folder: Path, **model: Any) -> PipelineSettings:
    return PipelineSettings(extractor="radgraph", model=ModelSettings(folder, **{"device": "cpu"} | model))


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def write_reports(path: Path, texts: Iterable[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["report_id", "findings"])
        rows.writerows([f"r{number}", text] for number, text in enumerate(texts))
    return path


# With a model


def test_mentions_are_those_of_the_loop_with_their_places(tiny: Tiny) -> None:
    text = "FINDINGS: The heart is enlarged (mild). No effusion.\nIMPRESSION: Possible pneumonia,\n2.5 cm nodule."
    pipeline = Pipeline(settings(tiny.folder.path, assertion="model"))
    [graph] = pipeline.run([Report("r", text, "reports.csv", 1)])
    seen = [text[text.index("The") : text.index("\nIMP")], text[text.index("Possible") :]]
    expected = []
    for section, found in zip(("findings", "impression"), tiny.loop(seen), strict=True):
        for entity in found["entities"].values():
            expected.append((section, entity["tokens"].split(), entity["label"], len(entity["relations"])))
    assert expected
    mentions = graph.mentions
    assert [mention.mention_id for mention in mentions] == list(range(len(mentions)))
    got = []
    for mention in mentions:
        assert mention.text == text[mention.start : mention.end]
        assert mention.assertion == mention.assertion_model
        assert mention.temporality == "current"
        assert mention.assertion_context is None
        sentence = graph.sentences[mention.sentence]
        assert sentence.start <= mention.start <= mention.end <= sentence.end
        got.append((mention.section, mention.text))
    words = [(section, "".join(tokens)) for section, tokens, _, _ in expected]
    assert sorted((section, "".join(said.split())) for section, said in got) == sorted(words)
    meanings = [meaning_of(label) for _, _, label, _ in expected]
    assert sorted((m.label, m.assertion, m.measurement) for m in mentions) == sorted(
        (m.label, m.assertion, m.measurement) for m in meanings
    )
    selves = sum(relation.target == m.mention_id for m in mentions for relation in m.relations)
    assert selves == 0


def test_a_folder_of_graphs_keeps_the_contract_and_says_what_made_it(tiny: Tiny, tmp_path: Path) -> None:
    summary = extract([REPORTS], tmp_path / "graphs", settings=settings(tiny.folder.path), workers=1, progress=False)
    assert summary.reports == 60
    assert summary.rejected == {}
    assert summary.mentions > 60
    assert validate(tmp_path / "graphs").problems == []
    made = json.loads((tmp_path / "graphs" / "manifest.json").read_text())["extractor"]
    assert made["name"] == "radgraph"
    said = made["settings"]
    assert said["model"] == tiny.name
    assert said["files"]["weights.safetensors"] == tiny.folder.files["weights.safetensors"]["sha256"]
    assert set(said["versions"]) == {"radgraph", "torch", "transformers"}
    assert (said["precision"], said["split_words"], said["assertion"]) == ("float32", SPLIT_WORDS, "both")
    again = extract(
        [REPORTS], tmp_path / "graphs", settings=settings(tiny.folder.path, batch_tokens=7), workers=1, progress=False
    )
    assert again.already_complete


def test_batches_change_no_byte(folder: Path, tmp_path: Path) -> None:
    for name, budget in (("one", 1), ("many", 4096)):
        extract(
            [REPORTS],
            tmp_path / name,
            settings=settings(folder, batch_tokens=budget),
            workers=1,
            progress=False,
        )
    assert written(tmp_path / "one") == written(tmp_path / "many")


def test_a_killed_worker_loses_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"TASK_REPORTS": 5, "GROUP_REPORTS": 10, "ALONE_SECONDS": 0.0}.items():
        monkeypatch.setattr(module, name, size)
    given: dict[str, Any] = {"settings": settings(folder), "shard_size": 10, "progress": False}

    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError, match=r"worker process was ended.*run the same command again"):
        extract([REPORTS], tmp_path / "graphs", workers=2, **given)
    killer.join()
    extract([REPORTS], tmp_path / "graphs", workers=2, **given)
    extract([REPORTS], tmp_path / "undisturbed", workers=1, **given)
    assert written(tmp_path / "graphs") == written(tmp_path / "undisturbed")


def test_odd_reports(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = [
        " \u200b ",
        "Effusion",
        "\u4e2d\u6587 \U0001fac1 \u0001 effusion",
        "The heart is normal in size. " * 833,  # 5,000 words
        "opacity " * 5000,
        "No effusion.",
    ]
    summary = extract(
        [write_reports(tmp_path / "reports.csv", texts)],
        tmp_path / "graphs",
        settings=settings(folder),
        workers=1,
        progress=False,
    )
    assert summary.reports + sum(summary.rejected.values()) == len(texts)
    assert set(summary.rejected) <= {"empty_text"}
    assert validate(tmp_path / "graphs").problems == []
    said = capfd.readouterr().err
    assert "reports.csv, row 4: a section of 5,831 words was cut at sentences and read in 6 pieces" in said
    assert "row 5: a section of 5,000 words" in said
    assert "heart" not in said
    assert "opacity" not in said
    graphs = {graph.report.report_id: graph for graph in open_graphs(tmp_path / "graphs")}
    ends = [mention.end for mention in graphs["r3"].mentions]
    assert max(ends) > 0.9 * len(graphs["r3"].report.text)


def test_a_gpu_without_memory_ends_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprep.extractors.radgraph.network import Network

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Network, "__call__", full)
    with pytest.raises(UserError, match="no memory left for even one report"):
        extract([REPORTS], tmp_path / "graphs", settings=settings(folder), workers=1, progress=False)
    monkeypatch.undo()
    summary = extract([REPORTS], tmp_path / "graphs", settings=settings(folder), workers=1, progress=False)
    assert (summary.reports, summary.rejected) == (60, {})


# Assertions


class Saying:
    """Stands for the annotator: finds the given words, each with its label."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> list[Annotation]:
        return [
            Annotation(tuple((at, at, self._labels[word]) for at, word in enumerate(words) if word in self._labels))
            for words in texts
        ]


PRESENT = "Observation::definitely present"
TEXT = "History of pneumonia. Effusion has resolved. Possible nodule in the lung. Recommend CT to evaluate for edema."
WORDS = {
    "pneumonia": PRESENT,
    "Effusion": PRESENT,
    "nodule": PRESENT,
    "lung": "Anatomy::definitely present",
    "edema": PRESENT,
}


def read(folder: Path, assertion: str, text: str = TEXT, labels: dict[str, str] | None = None) -> dict[str, Any]:
    pipeline = Pipeline(settings(folder, assertion=assertion))
    vars(pipeline._extractor)["_annotator"] = Saying(labels or WORDS)
    [graph] = pipeline.run([Report("r", f"FINDINGS: {text}", "reports.csv", 1)])
    return {mention.text: mention for mention in graph.mentions} | {"nodes": graph.nodes}


def test_the_model_alone(folder: Path) -> None:
    found = read(folder, "model")
    assert {found[word].temporality for word in WORDS} == {"current"}
    assert {found[word].assertion_context for word in WORDS} == {None}
    assert "pneumonia" in {node.concept for node in found["nodes"]}


def test_context_settles(folder: Path) -> None:
    found = read(folder, "context")
    assert found["pneumonia"].temporality == "historical"
    assert found["edema"].temporality == "hypothetical"
    assert (found["Effusion"].assertion, found["Effusion"].assertion_model) == ("absent", "present")
    assert (found["nodule"].assertion, found["nodule"].assertion_context) == ("uncertain", "uncertain")
    assert found["lung"].assertion_context is None
    assert "pneumonia" not in {node.concept for node in found["nodes"]}


def test_both_are_kept(folder: Path) -> None:
    found = read(folder, "both")
    assert (found["nodule"].assertion, found["nodule"].assertion_context) == ("present", "uncertain")
    assert found["nodule"].assertion_model == "present"
    assert found["pneumonia"].temporality == "historical"
    assert {node.concept for node in found["nodes"]}.isdisjoint({"pneumonia", "pulmonary_edema"})


@pytest.mark.parametrize(
    ("name", "label", "assertion", "measurement"),
    [
        ("ANAT-DP", "anatomy", "present", False),
        ("OBS-U", "observation", "uncertain", False),
        ("OBS-DA", "observation", "absent", False),
        ("Observation::measurement::uncertain", "observation", "uncertain", True),
        ("Anatomy::definitely absent", "anatomy", "absent", False),
    ],
)
def test_labels(name: str, label: str, assertion: str, measurement: bool) -> None:
    meaning = meaning_of(name)
    assert (meaning.label, meaning.assertion, meaning.measurement) == (label, assertion, measurement)


@pytest.mark.parametrize(
    "name", ["", "Thing::uncertain", "Observation::maybe", "Observation::size::uncertain", "OBS-X"]
)
def test_labels_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=name or "unpack"):
        meaning_of(name)


# Sentences that mentions join


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 15)), max_size=8))
def test_every_span_lies_in_one_sentence(drawn: list[tuple[int, int]]) -> None:
    sentences = [Sentence(start, start + 8, 0) for start in range(0, 80, 10)]
    spans = sorted((start, start + width) for start, width in drawn)
    document = Document(Report("r", "x" * 90, "s", 1), [], sentences, [True] * len(sentences))
    cover(document, spans)
    assert len(document.extract) == len(document.sentences)
    bounds = [(sentence.start, sentence.end) for sentence in document.sentences]
    assert bounds == sorted(bounds)
    assert all(one[1] <= other[0] for one, other in pairwise(bounds))
    for start, end in spans:
        assert any(first <= start and end <= last for first, last in bounds)
    if not spans:
        assert bounds == [(start, start + 8) for start in range(0, 80, 10)]


# What is refused


def test_rules_take_no_model_and_radgraph_nothing_else(folder: Path) -> None:
    assert {"rules", "radgraph"} <= set(extractor_names())
    with pytest.raises(UserError, match=r"rules runs no model\. Give --extractor radgraph"):
        Pipeline(PipelineSettings(model=ModelSettings(folder)))
    with pytest.raises(UserError, match="needs a model: give its folder with --model"):
        Pipeline(PipelineSettings(extractor="radgraph"))
    with pytest.raises(UserError, match="is no folder"):
        Pipeline(settings(folder / "nothing"))
    with pytest.raises(UserError, match=r"holds no model\.json"):
        Pipeline(settings(folder / "encoder"))
    with pytest.raises(UserError, match="no --assertion neither"):
        Pipeline(settings(folder, assertion="neither"))


def test_a_changed_model_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    weights = copy / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"weights.safetensors has been changed.*models import"):
        Pipeline(settings(copy))
    weights.write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"weights.safetensors has [\d,]+ bytes"):
        Pipeline(settings(copy))
    weights.write_bytes(content)
    (copy / "encoder" / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"vocab\.txt is missing"):
        Pipeline(settings(copy))


def test_unknown_labels_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    labels = copy / "vocabulary" / "radgraph-xl__ner_labels.txt"
    labels.write_text(labels.read_text().replace("Anatomy::uncertain", "Anatomy::perhaps"))
    record_model(copy, "radgraph-xl", "x")
    with pytest.raises(UserError, match=r"ner_labels.txt, line \d+: 'Anatomy::perhaps' is no label"):
        Pipeline(settings(copy))


def test_the_rules_need_no_torch() -> None:
    script = (
        "import sys\n"
        "from graphprep.workers import keep_torch_out\n"
        "keep_torch_out()\n"
        "from graphprep.extractors import default_workers\n"
        "from graphprep.pipeline import Pipeline\n"
        "from graphprep.records import Report\n"
        "[graph] = Pipeline().run([Report('r', 'No effusion.', 's', 1)])\n"
        "assert graph.mentions and default_workers('rules', None, 2) == 2\n"
        "assert not {'torch', 'transformers', 'radgraph'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Devices


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="no device 'tpu'"):
        devices.choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match=r"no GPU that PyTorch can use.*--device cpu"):
        devices.choose_device("cuda:0")
    assert [devices.default_workers("auto", processors) for processors in (1, 8, 64)] == [1, 2, 8]
    assert default_workers("rules", None, 64) == 8

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, index in (("MainProcess", 0), ("SpawnProcess-1", 0), ("SpawnProcess-2", 1), ("SpawnProcess-5", 0)):
        monkeypatch.setattr(multiprocessing.current_process(), "_name", name)
        assert devices.choose_device("auto") == torch.device("cuda", index)
        assert devices.choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="no cuda:2: this machine has 2 GPUs"):
        devices.choose_device("cuda:2")
    assert devices.default_workers("cuda", 64) == 6
    assert devices.default_workers("cuda:1", 64) == 3


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_processes_share_the_processors(folder: Path) -> None:
    anatomy, pathology = load_vocabularies()
    model = ModelSettings(folder, "cpu", processes=10_000)
    extractor = make_extractor("radgraph", anatomy, pathology, None, model)
    assert isinstance(extractor, RadgraphExtractor)
    torch.set_num_threads(2)
    assert extractor([]) == []
    assert torch.get_num_threads() == 1
