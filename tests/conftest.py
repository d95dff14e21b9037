"""What holds for all tests: without the extras, what needs torch is not collected; properties are the same in every run."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import settings

# Machines are noisy, so no example has a deadline. HYPOTHESIS_PROFILE=explore looks for new examples.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

collect_ignore = [] if find_spec("torch") and find_spec("timm") else ["trainer"]
if not (find_spec("torch") and find_spec("radgraph")):
    collect_ignore.append("graphprep/radgraph_models")
