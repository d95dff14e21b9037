"""From a graphs folder to batches: shards, images, their stores on disk, tokens, order, augmentation."""
