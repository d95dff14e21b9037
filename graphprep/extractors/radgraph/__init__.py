"""The published RadGraph models as an extractor, through the model classes of the `radgraph` package.

    folder      a model's folder: what must be in it, hashes
    convert     published weights → safetensors
    tokens      a text → the tokens that a model counts in, with their places
    batches     tokens → word pieces, many texts in one padded batch
    network     a batch → the label of every span and of every pair of spans
    inference   many texts → annotations: sorted, packed, each distinct text once, tokenizing and decoding beside the device
    contexts    what ConText says of a model's observations
    extractor   documents → mentions

Only modules of this package import torch, transformers and radgraph, and nothing imports them before a model is asked for.
"""
