"""The commands as they are typed: what they print, and the code they end with."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_line import Ended, runner

from graphprep.cli import app

PROGRAM = [sys.executable, "-m", "graphprep"]

REPORTS = """\
id,findings,impression,patient,image
007,"Small left pleural effusion. The heart is normal in size. The squiggle sign is seen.",Small effusion.,p1,a.png
008,"Lungs are clear. No pneumothorax. The squiggle sign is seen.",,p1,b.png
009,,,p2,c.png
010,"Right lower lobe opacity, possibly pneumonia.",,p2,d.png
"""


@pytest.fixture
def graphprep(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process."""
    return runner(app, capsys)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of REPORTS. Not to be changed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "reports.csv").write_text(REPORTS, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        app(["extract", str(folder / "reports.csv"), "-o", str(folder / "graphs"), "--quiet"])
    assert not ended.value.code
    return folder / "graphs"


@pytest.fixture
def broken(graphs: Path, tmp_path: Path) -> Path:
    """A copy of `graphs` that was damaged."""
    shutil.copytree(graphs, tmp_path / "broken")
    with (tmp_path / "broken/nodes/part-00000.parquet").open("ab") as file:
        file.write(b"more")
    return tmp_path / "broken"


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


# The program


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):  # the best of three: others may be using the machine
        begun = time.perf_counter()
        done = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.5
    for name in ("extract", "validate", "stats", "show", "vocab"):
        assert name in done.stdout


def test_the_command_line_loads_only_what_help_needs() -> None:
    script = (
        "import sys, graphprep.cli\n"
        "heavy = {'torch', 'trainer', 'spacy', 'medspacy', 'pandas', 'pyarrow', 'networkx', 'numpy', 'yaml'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version(graphprep: Callable[..., Ended]) -> None:
    ended = graphprep("--version")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"graphprep \d+\.\d+\.\d+\n", ended.out)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["extract"], ["extract", "a.csv"], ["extract", "a.csv", "-o", "x", "--workers", "0"]]
)
def test_a_mistake_in_the_arguments_ends_with_2(graphprep: Callable[..., Ended], arguments: list[str]) -> None:
    ended = graphprep(*arguments)
    assert ended.code == 2
    assert "Usage:" in ended.words


@pytest.mark.parametrize("arguments", [["--version"], ["vocab", "list"], ["vocab", "list", "--json"]])
def test_a_pipe_that_is_closed_is_no_error(arguments: list[str]) -> None:
    process = subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


# extract


def test_extract_prints_a_summary(graphprep: Callable[..., Ended], reports: Path, tmp_path: Path) -> None:
    ended = graphprep("extract", reports, "-o", tmp_path / "graphs")

    assert (ended.code, ended.err) == (0, "")
    counts = dict(re.findall(r"^ +(\w[\w ]*?) +([\d,.]+)$", ended.out, flags=re.MULTILINE))
    assert (counts["reports"], counts["rejected rows"], counts["empty_text"], counts["shards"]) == ("3", "1", "1", "1")
    assert int(counts["nodes"]) >= 6
    assert {"mentions", "edges", "seconds"} <= counts.keys()

    again = graphprep("extract", reports, "-o", tmp_path / "graphs")
    assert again.code == 0
    assert "complete already" in again.out
    assert graphprep("extract", reports, "-o", tmp_path / "graphs", "--quiet").out == ""


def test_extract_passes_everything_on(graphprep: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    reports = tmp_path / "reports.tsv"
    reports.write_bytes(
        "key\tbefund\turteil\twho\tvisit\tfold\tfile\tview of it\n"
        "1\tBig effusion, 3 cm. Café.\tEdema.\tp\tv\ttrain\ta.png\tPA\n"
        "2\tx\ty\tp\tv\ttrain\tb.png\tPA\n"
        f"3\t{'x' * 200}\ty\tp\tv\ttrain\tb.png\tPA\n".encode("latin-1")
    )
    ended = graphprep(
        "extract", reports, "--output", tmp_path / "graphs", "--extractor", "rules", "--sections", "befund, urteil",
        "--text-column", "befund", "--text-column", "urteil", "--id-column", "key", "--subject-column", "who",
        "--study-column", "visit", "--split-column", "fold", "--image-column", "file", "--view-column", "view of it",
        "--encoding", "latin-1", "--max-chars", "100", "--images", tmp_path / "pictures", "--check-images",
        "--workers", "1", "--shard-size", "1", "--no-text",
    )  # fmt: skip
    assert ended.code == 0, ended.err

    manifest = manifest_of(tmp_path / "graphs")
    assert manifest["rejected"] == {"missing_image": 2, "text_too_long": 1}
    assert manifest["image_root"] == "../pictures"
    assert manifest["text"] is False
    assert manifest["shard_size"] == 1
    assert manifest["sections"] == ["befund", "urteil"]
    (row,) = pq.read_table(tmp_path / "graphs/reports/part-00000.parquet").to_pylist()
    assert (row["report_id"], row["subject_id"], row["study_id"], row["split"]) == ("1", "p", "v", "train")
    assert [section["name"] for section in row["sections"]] == ["befund", "urteil"]
    concepts = {row["concept"] for row in pq.read_table(tmp_path / "graphs/nodes/part-00000.parquet").to_pylist()}
    assert "pleural_effusion" in concepts
    run = json.loads((tmp_path / "graphs/run.json").read_text(encoding="utf-8"))
    assert run["workers"] == 1


def test_extract_reads_several_images_of_a_row_by_any_delimiter(
    graphprep: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "reports.csv").write_text(
        "text^pictures^keys\nNo effusion, no edema.^a.png|b.png^k1|k2\n", encoding="utf-8"
    )
    ended = graphprep(
        "extract", tmp_path / "reports.csv", "-o", tmp_path / "graphs", "--delimiter", "^",
        "--images-column", "pictures", "--image-id-column", "keys",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (row,) = pq.read_table(tmp_path / "graphs/reports/part-00000.parquet").to_pylist()
    assert [(image["path"], image["image_id"]) for image in row["images"]] == [("a.png", "k1"), ("b.png", "k2")]


def test_extract_reads_standard_input(reports: Path, tmp_path: Path) -> None:
    arguments = [*PROGRAM, "extract", "-", "-o", str(tmp_path / "graphs"), "--limit", "1"]
    packed = gzip.compress(reports.read_bytes())
    done = subprocess.run(arguments, input=packed, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert manifest_of(tmp_path / "graphs")["input"]["files"][0]["name"] == "stdin"
    assert manifest_of(tmp_path / "graphs")["totals"]["reports"] == 1


def test_extract_takes_several_files(graphprep: Callable[..., Ended], tmp_path: Path) -> None:
    for name, text in (("a", "Pleural effusion."), ("b", "Cardiomegaly.")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"report": text}) + "\n", encoding="utf-8")
    assert graphprep("extract", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "graphs", "-q").code == 0
    ids = pq.read_table(tmp_path / "graphs/reports/part-00000.parquet")["report_id"].to_pylist()
    assert ids == ["a-1", "b-1"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["nowhere.csv"], "nowhere.csv cannot be opened"),
        ([".", "--limit", "1"], "is a folder"),
        (["reports.csv", "--text-column", "bericht"], "no column 'bericht'"),
        (["reports.csv", "--extractor", "nonsense"], "nonsense"),
        (["reports.csv", "--anatomy-vocab", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["reports.csv", "--section-rules", "nowhere.yaml"], "nowhere.yaml"),
        (["reports.csv", "--context-rules", "nowhere.yaml"], "nowhere.yaml"),
        (["reports.csv", "--encoding", "nonsense"], "no encoding 'nonsense'"),
        (["reports.csv", "--sections", ","], "No section"),
        (["reports.csv", "--strict"], "reports.csv, row 3: empty_text"),
    ],
)
def test_extract_says_what_is_wrong_in_a_sentence(
    graphprep: Callable[..., Ended],
    reports: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(reports.parent)
    ended = graphprep("extract", *options, "-o", tmp_path / "graphs")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "graphs/manifest.json").exists()


def test_extract_refuses_to_mix_and_overwrites_when_told(
    graphprep: Callable[..., Ended], reports: Path, tmp_path: Path
) -> None:
    assert graphprep("extract", reports, "-o", tmp_path / "graphs", "-q").code == 0
    refused = graphprep("extract", reports, "-o", tmp_path / "graphs", "--sections", "all")
    assert refused.code == 2
    assert "sections" in refused.err
    assert "--overwrite" in refused.err
    assert graphprep("extract", reports, "-o", tmp_path / "graphs", "--sections", "all", "--overwrite").code == 0
    assert manifest_of(tmp_path / "graphs")["sections"] == ["all"]


def test_extract_warns_of_an_input_without_a_usable_report(graphprep: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text('report\n""\n', encoding="utf-8")
    ended = graphprep("extract", tmp_path / "reports.csv", "-o", tmp_path / "graphs")
    assert ended.code == 0
    assert "Warning: no report" in ended.err
    assert graphprep("validate", tmp_path / "graphs").code == 0


def heed_interrupts() -> None:
    """A shell starts background jobs with interrupts ignored, which their children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_ends_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    with (tmp_path / "reports.csv").open("w", encoding="utf-8") as file:
        file.write("report\n")
        file.writelines(f"Nodule {n} in the left upper lobe with effusion {n}.\n" for n in range(60_000))
    process = subprocess.Popen(
        [*PROGRAM, "extract", str(tmp_path / "reports.csv"), "-o", str(tmp_path / "graphs"), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    while not list(tmp_path.glob("graphs/.progress/part-*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "Interrupted.\n"


# validate, stats, show


def test_validate_passes_good_graphs(graphprep: Callable[..., Ended], graphs: Path) -> None:
    ended = graphprep("validate", graphs)
    assert (ended.code, ended.err) == (0, "")
    assert "keeps the data contract: 3 reports" in ended.out


def test_validate_says_which_checks_it_left_out(graphprep: Callable[..., Ended], reports: Path, tmp_path: Path) -> None:
    graphprep("extract", reports, "-o", tmp_path / "graphs", "--no-text")
    ended = graphprep("validate", tmp_path / "graphs")
    assert ended.code == 0
    assert "Not checked: " in ended.out


def test_validate_ends_with_1_and_names_what_is_wrong(graphprep: Callable[..., Ended], broken: Path) -> None:
    ended = graphprep("validate", broken)
    assert ended.code == 1
    assert "nodes/part-00000.parquet" in ended.out
    assert "keeps" not in ended.out


@pytest.mark.parametrize("command", [["validate"], ["stats"], ["show", "007"], ["vocab", "suggest"]])
def test_commands_on_graphs_want_graphs(graphprep: Callable[..., Ended], tmp_path: Path, command: list[str]) -> None:
    name, *others = command
    arguments = [name, *others, tmp_path / "nowhere"] if name == "vocab" else [name, tmp_path / "nowhere", *others]
    ended = graphprep(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")


def test_stats(graphprep: Callable[..., Ended], graphs: Path) -> None:
    assert "pleural effusion" in graphprep("stats", graphs).out.replace("_", " ")
    found = json.loads(graphprep("stats", graphs, "--json").out)
    assert found["totals"]["reports"] == 3


def test_show(graphprep: Callable[..., Ended], graphs: Path) -> None:
    assert "Small" in graphprep("show", graphs, "007").out
    found = json.loads(graphprep("show", graphs, "007", "--format", "json").out)
    assert found["report"]["report_id"] == "007"
    unknown = graphprep("show", graphs, "7")
    assert unknown.code == 2
    assert "'007'" in unknown.err


# vocab


def test_vocab_list(graphprep: Callable[..., Ended]) -> None:
    both = json.loads(graphprep("vocab", "list", "--json").out)
    assert {row["kind"] for row in both} == {"anatomy", "pathology"}
    anatomy = graphprep("vocab", "list", "--kind", "anatomy").out
    assert re.search(r"^  lung +lung \(sided", anatomy, flags=re.MULTILINE)
    assert "pleural_effusion" not in anatomy


def test_vocab_show_finds_ids_and_synonyms(graphprep: Callable[..., Ended]) -> None:
    by_id, by_synonym = graphprep("vocab", "show", "pleural_effusion"), graphprep("vocab", "show", "Pleural Effusion")
    assert by_id.out == by_synonym.out
    assert re.search(r"^  site +pleural_space$", by_id.out, flags=re.MULTILINE)
    assert json.loads(graphprep("vocab", "show", "pleural_effusion", "--json").out)[0]["site"] == "pleural_space"
    unknown = graphprep("vocab", "show", "squiggle")
    assert unknown.code == 2
    assert "No concept is called 'squiggle'" in unknown.err


OWN = """
version: 1
kind: pathology
extends: default
concepts:
  - {id: squiggle_sign, name: squiggle sign, category: finding, site: lung, synonyms: [squiggle]}
"""


def test_vocab_check_and_diff_and_use_of_an_own_vocabulary(
    graphprep: Callable[..., Ended], reports: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN, encoding="utf-8")
    assert graphprep("vocab", "check", "--pathology-vocab", own).code == 0
    assert graphprep("vocab", "diff", "pathology", own).out == "+ squiggle_sign\n"
    assert json.loads(graphprep("vocab", "diff", "pathology", own, "--json").out)["added"] == ["squiggle_sign"]
    assert graphprep("vocab", "diff", "pathology", own, "--from", own).out == "No difference.\n"

    assert graphprep("extract", reports, "-o", tmp_path / "graphs", "--pathology-vocab", own, "-q").code == 0
    counts = pq.read_table(tmp_path / "graphs/vocab/pathology.parquet").to_pylist()
    assert {row["concept"]: row["count"] for row in counts}["squiggle_sign"] == 2

    own.write_text(OWN.replace("site: lung", "site: lunk"), encoding="utf-8")
    ended = graphprep("vocab", "check", "--pathology-vocab", own)
    assert ended.code == 1
    assert "lunk" in ended.out
    assert graphprep("extract", reports, "-o", tmp_path / "graphs", "--pathology-vocab", own).code == 2


def test_vocab_suggest_ranks_what_no_concept_covers(graphprep: Callable[..., Ended], graphs: Path) -> None:
    ranked = json.loads(graphprep("vocab", "suggest", graphs, "--json").out)
    assert ranked[0] == {"count": 2, "label": "unknown", "text": "squiggle"}
    assert len(json.loads(graphprep("vocab", "suggest", graphs, "--json", "--top", "1").out)) == 1
    assert graphprep("vocab", "suggest", graphs, "--top", "1").out.split() == ["2", "unknown", "squiggle"]


def test_vocab_suggest_cannot_do_without_text(graphprep: Callable[..., Ended], reports: Path, tmp_path: Path) -> None:
    graphprep("extract", reports, "-o", tmp_path / "graphs", "--no-text")
    ended = graphprep("vocab", "suggest", tmp_path / "graphs")
    assert ended.code == 2
    assert "--no-text" in ended.err
