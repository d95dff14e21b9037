"""Graphs and images to an image encoder, by cascading graph alignment."""
