"""How hard the phantom's images are: what a linear classifier of raw pixels and a small network make of them.

    python benchmarks/phantom_difficulty.py            # draws, trains, writes benchmarks/results/phantom_difficulty.md

A test object is of use between two failures: findings that the mean brightness gives away, and findings that cannot be learned. So,
on the test patients, the linear classifier (32 × 32 pixels) should be at a macro AUROC of 0.55 to 0.75 and above 0.9 for no finding, the
network (96 × 96 pixels, all labels of 8,000 images) at 0.88 or above and below 0.7 for none.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from graphprep.phantom.make import PhantomOptions, make_phantom
from graphprep.phantom.scene import KINDS

RESULTS = Path(__file__).parent / "results" / "phantom_difficulty.md"
Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=8_000, help="images to train on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--contrast", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, default=Path("build/phantom_difficulty"), help="where the phantom is drawn"
    )
    parser.add_argument("--no-network", action="store_true", help="the linear classifier alone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    studies = int(options.train / 0.7 / 1.1) + 60
    made = make_phantom(
        options.folder,
        PhantomOptions(studies, options.seed, 96, options.contrast, masks=False),
        workers=options.workers,
        overwrite=True,
        progress=True,
    )
    print(f"{made.images} images of {made.subjects} patients in {made.seconds:.0f} s", file=sys.stderr)
    images, labels, splits = load(options.folder)
    train = np.flatnonzero(splits == "train")[: options.train]
    val, test = np.flatnonzero(splits == "val"), np.flatnonzero(splits == "test")
    linear = auroc(linear_scores(images, labels, train, val, test), labels[test])
    print(f"linear: macro AUROC {linear.mean():.3f}", file=sys.stderr, flush=True)
    network = np.full(len(KINDS), np.nan, np.float32)
    if not options.no_network:
        network = auroc(network_scores(images, labels, train, test, options.epochs), labels[test])

    lines = [
        "# How hard the phantom is",
        "",
        f"    python {' '.join(sys.argv)}",
        "",
        f"Area under the ROC curve on {len(test):,} images of test patients; {len(train):,} images to train on, 96 pixels, "
        f"contrast {options.contrast:g}, seed {options.seed}. Linear: logistic regression on 32 × 32 raw pixels. Network: {layers()}, "
        f"{options.epochs} epochs.",
        "",
        "| finding | positive images | linear | network |",
        "|---|---|---|---|",
        *(
            f"| {name} | {100 * labels[test, place].mean():.1f} % | {linear[place]:.3f} | {network[place]:.3f} |"
            for place, name in enumerate(KINDS)
        ),
        f"| **mean** | | **{linear.mean():.3f}** | **{network.mean():.3f}** |",
    ]
    print("\n".join(lines))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[npt.NDArray[np.uint8], Array, npt.NDArray[np.str_]]:
    """Images (n, 96, 96), labels (n, findings) and splits (n)."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = np.stack([np.asarray(Image.open(folder / row["image"])) for row in rows])
    labels = np.array([[float(row[name]) for name in KINDS] for row in rows], np.float32)
    return images, labels, np.array([row["split"] for row in rows])


def auroc(scores: Array, labels: Array) -> Array:
    """(findings) area under the ROC curve, ties at half."""
    areas = []
    for column in range(labels.shape[1]):
        _, ranks, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        rank = (last - (counts - 1) / 2.0)[ranks]
        positive = labels[:, column] == 1
        hits = int(positive.sum())
        areas.append((rank[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(labels) - hits)))
    return np.array(areas, np.float32)


def linear_scores(images: npt.NDArray[np.uint8], labels: Array, train: Rows, val: Rows, test: Rows) -> Array:
    """Logistic regression on raw pixels; the weight decay that is best on the validation patients."""
    pixels = torch.from_numpy(images.reshape(len(images), 32, 3, 32, 3).mean(axis=(2, 4), dtype=np.float32)).flatten(1)
    pixels = (pixels - pixels[train].mean(0)) / (pixels[train].std(0) + 1.0)
    targets = torch.from_numpy(labels)
    best, chosen = -1.0, np.zeros((0, 0), np.float32)
    for decay in (0.003, 0.03, 0.3):
        model = nn.Linear(pixels.shape[1], labels.shape[1])
        optimiser = torch.optim.LBFGS(model.parameters(), max_iter=150, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimiser.zero_grad()  # noqa: B023
            value = nn.functional.binary_cross_entropy_with_logits(model(pixels[train]), targets[train])  # noqa: B023
            value = value + decay * model.weight.square().sum() / labels.shape[1]  # noqa: B023
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            score = float(auroc(model(pixels[val]).numpy(), labels[val]).mean())
            if score > best:
                best, chosen = score, model(pixels[test]).numpy()
    return chosen


#: Channels and stride of each convolution; the maximum of 2 × 2 is taken where the stride is 0.
LAYERS = ((24, 2), (48, 2), (64, 1), (64, 0), (96, 1), (96, 0), (128, 1))


def network_of(classes: int) -> nn.Module:
    blocks: list[nn.Module] = []
    before = 1
    for width, stride in LAYERS:
        blocks += [nn.Conv2d(before, width, 3, stride or 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if not stride:
            blocks.append(nn.MaxPool2d(2))
        before = width
    return nn.Sequential(*blocks, Pooled(), nn.Dropout(0.2), nn.Linear(2 * before, classes))


class Pooled(nn.Module):
    """Mean and maximum over the places: (n, c, h, w) to (n, 2 c)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat((features.mean((2, 3)), features.amax((2, 3))), 1)


def layers() -> str:
    parameters = sum(weights.numel() for weights in network_of(len(KINDS)).parameters())
    return f"{len(LAYERS)} convolutions of {LAYERS[0][0]} to {LAYERS[-1][0]} channels, {parameters / 1e6:.2f} million parameters"


def network_scores(images: npt.NDArray[np.uint8], labels: Array, train: Rows, test: Rows, epochs: int) -> Array:
    """A small network trained on all labels; images are shifted by up to four pixels, never mirrored."""
    inputs = torch.from_numpy(images).unsqueeze(1)
    targets = torch.from_numpy(labels)
    model = network_of(labels.shape[1]).to(memory_format=torch.channels_last)
    batch = 64
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    started = time.monotonic()
    for epoch in range(epochs):
        model.train()
        order = torch.from_numpy(train)[torch.randperm(len(train))]
        for place in range(0, len(order) - batch + 1, batch):
            rows = order[place : place + batch]
            padded = nn.functional.pad(normal(inputs[rows]), (4, 4, 4, 4), mode="replicate")
            x, y = (int(value) for value in torch.randint(0, 9, (2,)))
            shifted = padded[:, :, y : y + 96, x : x + 96].contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(shifted)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        areas = auroc(scored(model, inputs, test), labels[test])
        hardest = ", ".join(f"{list(KINDS)[place]} {areas[place]:.3f}" for place in np.argsort(areas)[:4])
        print(
            f"epoch {epoch + 1}: macro AUROC {areas.mean():.3f} ({hardest}), {time.monotonic() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return scored(model, inputs, test)


def scored(model: nn.Module, inputs: torch.Tensor, rows: Rows) -> Array:
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        parts = [model(normal(inputs[part])) for part in torch.split(torch.from_numpy(rows), 256)]
    return torch.cat(parts).float().numpy()


def normal(images: torch.Tensor) -> torch.Tensor:
    return images.float().div(255.0).sub(0.5).div(0.25)


if __name__ == "__main__":
    main()
