"""Phantom chest radiographs with their reports, from a sampled truth.

scene     what is true of a study: patient, view, findings
sample    patients and their studies
draws     chance that is the same everywhere;  canvas  shapes on pixels
chest, film, lesions, devices → render     a study's image and masks
phrases, markup, report → truth            its report, and the graph that this says
labels, datasheet, overlay → make          the folder
"""
