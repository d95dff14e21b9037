"""SIIM-ACR Pneumothorax Segmentation: masks as relative run lengths, column by column, of images of 1024 × 1024 pixels.

A row holds one region; an image with several has several rows; `-1` says that there is none.
"""

from __future__ import annotations

from graphprep.convert import Conversion, register
from graphprep.convert.image_files import Header
from graphprep.convert.run_lengths import mask_of_relative_pairs

PUBLISHED_SIZE = Header(1024, 1024)
PNEUMOTHORAX = "Pneumothorax"


@register(
    "siim",
    "train-rle.csv (or stage_2_train.csv), and the images, dicom-images-train/*/*/*.dcm or PNG of the same names",
)
def convert_siim(conversion: Conversion) -> None:
    """Labels, and one mask for each image with a pneumothorax, of that image's size; the patient is the DICOM header's."""
    import numpy as np
    from PIL import Image

    path = conversion.find("train-rle.csv", "stage_2_train.csv", what="run lengths of the masks")
    images = conversion.images()
    paths: dict[str, str] = {}
    rows: dict[str, list[tuple[int, list[int]]]] = {}
    missing: set[str] = set()
    for row in conversion.rows(path, ("ImageId", "EncodedPixels")):
        name, encoded = row.values["ImageId"], row.values["EncodedPixels"]
        try:
            runs = [] if encoded == "-1" else [int(word) for word in encoded.split()]
            if encoded != "-1":
                mask_of_relative_pairs(runs, *PUBLISHED_SIZE[:2])
        except ValueError:
            detail = "EncodedPixels is neither -1 nor pairs of run lengths within 1024 × 1024 pixels."
            conversion.malformed(path, row.number, detail)
            continue
        if name in missing:
            continue
        if name not in paths:
            image = conversion.image(images, name, f"dicom-images-train/{name}.dcm", path, row.number)
            if image is None:
                missing.add(name)
                continue
            paths[name] = image
            rows[name] = []
        if runs:
            rows[name].append((row.number, runs))

    headers = conversion.headers_or_published(images, paths.values(), PUBLISHED_SIZE)
    labels = conversion.output.labels((PNEUMOTHORAX,))
    masks = conversion.output.masks(conversion.options.masks)
    for name, image in conversion.track(list(paths.items())):
        header = headers.get(image)
        if header is None:
            continue
        labels.write(image, header.patient, "", {PNEUMOTHORAX: str(int(bool(rows[name])))})
        if not rows[name]:
            continue
        mask = np.zeros((PUBLISHED_SIZE.height, PUBLISHED_SIZE.width), dtype=bool)
        for _, runs in rows[name]:
            mask |= mask_of_relative_pairs(runs, *PUBLISHED_SIZE[:2])
        if (header.width, header.height) != PUBLISHED_SIZE[:2]:
            size = (header.width, header.height)
            share = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
            mask = np.asarray(share) >= 0.5
            conversion.output.count("masks_scaled_to_the_image")
        masks.write(image, PNEUMOTHORAX, mask)
