#!/usr/bin/env python
"""Texts per second and peak memory of RadGraph inference: the package's own loop, and ours, with the same model and texts.

    python benchmarks/radgraph_inference.py                                     # a GPU where there is one
    python benchmarks/radgraph_inference.py --device cpu --texts 200 --reports ../shared/iu/reports.csv

The model has random weights in the published layout, at the size of BERT-base; speed does not depend on what the weights say. The
texts are findings and impressions of --reports, or are put together from the sentences of tests/data/reports.csv; each is
there once, so that what we save on repeated texts does not count. Every measurement is a process of its own: its model is loaded
and has read some texts before the clock starts. The runs take turns and the best of --repeat counts. The ratio is of time by the
clock on a GPU and of processor time on a CPU, where other programs would count otherwise. Needs torch, transformers and radgraph
alone. The table is written to benchmarks/results/radgraph_inference_DEVICE.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "graphprep" / "radgraph_models")]

_STATUS = Path("/proc/self/status")

Annotations = list[tuple[Any, ...]]


@dataclass
class Measured:
    """One run. `seconds` are of the clock, `processor` of all threads on processors, both per text; `memory` is the most that
    was in use, in GB, of the GPU or else of the process."""

    seconds: float
    processor: float
    memory: float
    annotations: Annotations


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, help="a CSV file with the columns findings and impression")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--model", default="radgraph-xl", help="radgraph, radgraph-xl or modern-radgraph-xl")
    parser.add_argument("--size", choices=("tiny", "base"), default="base")
    parser.add_argument("--batch-tokens", type=int, nargs="*", default=[], help="other budgets to try")
    parser.add_argument("--threads", type=int, help="of each run on the CPU")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each, of which the best counts")
    options = parser.parse_args(arguments)

    import torch
    from tiny_models import build  # type: ignore[import-not-found, unused-ignore]

    from graphprep.extractors.radgraph.convert import convert_weights
    from graphprep.extractors.radgraph.folder import record_model

    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    texts = find_texts(options.reports, options.texts)
    with tempfile.TemporaryDirectory() as place:
        out = build(Path(place) / "model", options.model, size=options.size, texts=texts)
        folder = out / "published" / options.model
        (out / "encoder").rename(folder / "encoder")
        (out / "encoder").symlink_to(folder / "encoder")  # where the package's configuration looks for it
        for lock in folder.rglob(".lock"):
            lock.unlink()
        convert_weights(folder / "weights.th", folder / "weights.safetensors")
        record_model(folder, options.model, "random weights")

        runs: dict[str, tuple[Callable[..., Measured], tuple[Any, ...]]] = {
            "the package's loop": (loop, (out, options.model, texts, device, options.threads)),
            "ours": (ours, (folder, texts, device, device == "cuda", None, options.threads)),
        }
        if device == "cuda":
            runs["ours, float32"] = (ours, (folder, texts, device, False, None, options.threads))
        for budget in options.batch_tokens:
            runs[f"ours, {budget:,} tokens"] = (
                ours,
                (folder, texts, device, device == "cuda", budget, options.threads),
            )
        best: dict[str, Measured] = {}
        for _ in range(options.repeat):
            for name, (run, given) in runs.items():
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    measured = pool.submit(run, *given).result()
                print(f"  {name}: {1 / measured.seconds:,.1f} texts/s", file=sys.stderr, flush=True)
                if name not in best or decisive(measured, device) < decisive(best[name], device):
                    best[name] = measured
    table = render(best, texts, device, options)
    print(table)
    output = ROOT / "benchmarks" / "results" / f"radgraph_inference_{device}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(table + "\n", encoding="utf-8")


def find_texts(reports: Path | None, wanted: int) -> list[str]:
    """So many different texts."""
    with (reports or ROOT / "tests" / "data" / "reports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [text for row in rows for text in (row.get("findings"), row.get("impression")) if text and text.strip()]
    if reports is None:
        draw = random.Random(0)
        sentences = [sentence for text in found for sentence in re.split(r"(?<=\.)\s+", text)]
        found = [" ".join(draw.choices(sentences, k=draw.choice((1, 2, 5, 6, 7, 8, 10)))) for _ in range(2 * wanted)]
    return list(dict.fromkeys(found))[:wanted]


def loop(out: Path, model: str, texts: list[str], device: str, threads: int | None) -> Measured:
    """The package's RadGraph, called with all texts."""
    import contextlib
    import io
    import warnings

    warnings.simplefilter("ignore")
    _prepare(threads)
    with contextlib.redirect_stdout(io.StringIO()):
        from radgraph import RadGraph

        package = RadGraph(model_type=model, model_cache_dir=str(out / "published"), cuda=0 if device == "cuda" else -1)
        warnings.simplefilter("ignore")
        package(texts[:8])
        begun = _start(device)
        found = package(texts)
        cost = _stop(device, begun, len(texts))
    annotations = [_plain(found[str(number)]["entities"]) for number in range(len(texts))]
    return Measured(*cost, annotations)


def ours(
    folder: Path, texts: list[str], device: str, half: bool, batch_tokens: int | None, threads: int | None
) -> Measured:
    """Our network and packing, tokens included, called with as many texts at a time as `extract` does."""
    _prepare(threads)
    from graphprep.extractors.radgraph.devices import choose_device
    from graphprep.extractors.radgraph.folder import open_model
    from graphprep.extractors.radgraph.inference import Annotator
    from graphprep.extractors.radgraph.network import Network
    from graphprep.extractors.radgraph.tokens import tokenize

    model = open_model(folder)
    annotator = Annotator(Network(model, choose_device(device), half), batch_tokens)
    annotator([tokenize(text, model.name).words for text in texts[-8:]])
    begun = _start(device)
    found = []
    for at in range(0, len(texts), 400):
        found += annotator([tokenize(text, model.name).words for text in texts[at : at + 400]])
    cost = _stop(device, begun, len(texts))
    annotations = []
    for each in found:
        related: list[list[tuple[str, int]]] = [[] for _ in each.entities]
        for one, other, label in each.relations:
            related[one].append((label, other))
        annotations.append(tuple((*entity, tuple(own)) for entity, own in zip(each.entities, related, strict=True)))
    return Measured(*cost, annotations)


def _plain(entities: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        (e["start_ix"], e["end_ix"], e["label"], tuple((label, int(to) - 1) for label, to in e["relations"]))
        for e in entities.values()
    )


def _prepare(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _start(device: str) -> tuple[float, float]:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    elif _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    return time.perf_counter(), time.process_time()


def _stop(device: str, begun: tuple[float, float], texts: int) -> tuple[float, float, float]:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        used = torch.cuda.max_memory_allocated()
    elif _STATUS.exists():
        used = 1024 * int(re.findall(r"VmHWM:\s+(\d+)", _STATUS.read_text())[0])
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (time.perf_counter() - begun[0]) / texts, (time.process_time() - begun[1]) / texts, used / 1e9


def decisive(measured: Measured, device: str) -> float:
    """What the ratio is of: on a GPU the clock, on processors their time, which does not count what else runs on them."""
    return measured.seconds if device == "cuda" else measured.processor


def render(best: dict[str, Measured], texts: list[str], device: str, options: argparse.Namespace) -> str:
    """The table, with the share of texts that get the same entities and relations as from the package."""
    from importlib.metadata import version

    import torch

    base = best["the package's loop"]
    words = sum(len(text.split()) for text in texts) / len(texts)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} processors"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "radgraph"))
    lines = [
        f"{options.model}, encoder of size {options.size}, random weights; {len(texts):,} texts of {words:.0f} words; {where}; "
        f"{versions}; best of {options.repeat}.",
        "",
        "| | texts/s | processor ms/text | ratio | peak memory, GB | same annotation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, measured in best.items():
        same = sum(a == b for a, b in zip(measured.annotations, base.annotations, strict=True)) / len(texts)
        lines.append(
            f"| {name} | {1 / measured.seconds:,.1f} | {1000 * measured.processor:,.1f} | "
            f"{decisive(base, device) / decisive(measured, device):.2f} | {measured.memory:.2f} | {same:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
