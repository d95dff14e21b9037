"""Without the extras, what needs torch is not collected."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") and find_spec("timm") else ["trainer"]
if not (find_spec("torch") and find_spec("radgraph")):
    collect_ignore.append("graphprep/radgraph_models")
