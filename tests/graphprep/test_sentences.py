"""Sentences: golden texts in the formats of real reports (written for these tests), and properties on any text."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.sentences import split_sentences

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, 0, len(text))]


GOLDEN = {
    "prose": (
        "The lungs are clear. There is no effusion or pneumothorax.  Heart size is normal!",
        ["The lungs are clear.", "There is no effusion or pneumothorax.", "Heart size is normal!"],
    ),
    "no stop at the end": ("Lungs clear. No effusion", ["Lungs clear.", "No effusion"]),
    "missing space": (
        "Opacity in the left apex.There are old granulomas.",
        ["Opacity in the left apex.", "There are old granulomas."],
    ),
    "lower case goes on": (
        "No pneumothoraces. heart and mediastinum are stable.",
        ["No pneumothoraces.", "heart and mediastinum are stable."],
    ),
    "numbered impression in one line": (
        "1. Bullous emphysema. 2. Probably scarring in the apex. 3. Old rib fracture.",
        ["Bullous emphysema.", "Probably scarring in the apex.", "Old rib fracture."],
    ),
    "numbers without spaces": ("1.Lucency in the humerus.2.Clear lungs.", ["Lucency in the humerus.", "Clear lungs."]),
    "numbers without stops": (
        "1. Small effusion 2. Mild edema 3. Stable lines",
        ["Small effusion", "Mild edema", "Stable lines"],
    ),
    "numbers in brackets": ("(1) mild edema (2) small effusion", ["mild edema", "small effusion"]),
    "numbers with bracket behind a colon": (
        "Findings are: 1) edema 2) effusion",
        ["Findings are:", "edema", "effusion"],
    ),
    "a list for each film": (
        "Chest 1. Clear lungs. 2. Normal heart. Abdomen 1. No free air.",
        ["Chest", "Clear lungs.", "Normal heart.", "Abdomen", "No free air."],
    ),
    "empty item": ("1. No acute disease. 2. .", ["No acute disease."]),
    "item with a comma": ("1. Clear lungs. 2., Mild scoliosis.", ["Clear lungs.", "Mild scoliosis."]),
    "number that is no item": (
        "Nodule in segment 2. The next nodule is in segment 3. Right rib 4. No more.",
        ["Nodule in segment 2.", "The next nodule is in segment 3.", "Right rib 4.", "No more."],
    ),
    "numbers in the midst of a list": (
        "1. Nodule (series 3, image 2) Stable. 2. Effusion, about 4. Unchanged. 3. Tip at the level of rib 4. Good.",
        [
            "Nodule (series 3, image 2) Stable.",
            "Effusion, about 4.",
            "Unchanged.",
            "Tip at the level of rib 4.",
            "Good.",
        ],
    ),
    "a number far into a sentence": (
        "The nodule in the left lung is now 1. There were 2. No more.",
        ["The nodule in the left lung is now 1.", "There were 2.", "No more."],
    ),
    "list of lines": (
        "1. Bibasilar atelectasis, left greater\n   than right.\n2. No pneumothorax\n3) Tubes as above",
        ["Bibasilar atelectasis, left greater\n   than right.", "No pneumothorax", "Tubes as above"],
    ),
    "bullets": (
        "- clear lungs\n- normal heart\n• no effusion\n* intact ribs\n– no free air",
        ["clear lungs", "normal heart", "no effusion", "intact ribs", "no free air"],
    ),
    "lettered": ("a) clear lungs\nb) normal heart", ["clear lungs", "normal heart"]),
    "decimals": (
        "There is a 1.5 cm nodule. Another of .5 cm is seen. It measures 1. 5 cm now.",
        ["There is a 1.5 cm nodule.", "Another of .5 cm is seen.", "It measures 1. 5 cm now."],
    ),
    "units": (
        "The nodule is 2 cm. in diameter. The mass is 4 cm. Heart is normal.",
        ["The nodule is 2 cm. in diameter.", "The mass is 4 cm.", "Heart is normal."],
    ),
    "abbreviations": (
        "Discussed with Dr. Doe at 3 p.m. today. Edema vs. pneumonia, e.g. viral. Seen approx. 3 cm above the carina.",
        [
            "Discussed with Dr. Doe at 3 p.m. today.",
            "Edema vs. pneumonia, e.g. viral.",
            "Seen approx. 3 cm above the carina.",
        ],
    ),
    "abbreviation ends a sentence": (
        "Called at 4 p.m. No change. Views are PA and lat. The heart is normal. Pneumothorax? No. Effusion? No.",
        [
            "Called at 4 p.m.",
            "No change.",
            "Views are PA and lat.",
            "The heart is normal.",
            "Pneumothorax?",
            "No.",
            "Effusion?",
            "No.",
        ],
    ),
    "number sign": ("Compared to film No. 2 of today. Stable.", ["Compared to film No. 2 of today.", "Stable."]),
    "initials": (
        "Read by J. Q. Public, M.D. on call. T. spine is intact. Signed by Jane R. Roe. Hepatitis C. No edema.",
        [
            "Read by J. Q. Public, M.D. on call.",
            "T. spine is intact.",
            "Signed by Jane R. Roe.",
            "Hepatitis C.",
            "No edema.",
        ],
    ),
    "vertebrae and years": (
        "Hardware at C1. Fusion to T12.No listhesis. Stable since 2010. Clear.",
        ["Hardware at C1.", "Fusion to T12.", "No listhesis.", "Stable since 2010.", "Clear."],
    ),
    "ellipsis": (
        "Somewhat prominent... hilum, unchanged. Clear lungs..",
        ["Somewhat prominent... hilum, unchanged.", "Clear lungs.."],
    ),
    "question mark before an alternative": (
        "Mild failure? versus infection. Scar? Or atelectasis?",
        ["Mild failure? versus infection.", "Scar?", "Or atelectasis?"],
    ),
    "question mark as a hedge": (
        "Right base opacity, ? pneumonia. Effusion ?",
        ["Right base opacity, ? pneumonia.", "Effusion ?"],
    ),
    "quotes and brackets": (
        'Called "clear." No change (see above.) Stable.',
        ['Called "clear."', "No change (see above.)", "Stable."],
    ),
    "semicolons and colons": (
        "Heart: normal; lungs: clear. Tube: 3 cm above carina.",
        ["Heart: normal; lungs: clear.", "Tube: 3 cm above carina."],
    ),
    "de-identified": (
        "Seen by Dr. ___ at ___. ___ year old XXXX with XXXX.The heart is XXXX.",
        ["Seen by Dr. ___ at ___.", "___ year old XXXX with XXXX.", "The heart is XXXX."],
    ),
    "wrapped (MIMIC)": (
        " PA and lateral views of the chest demonstrate clear lungs.  There is no\n"
        " pneumothorax or pleural effusion.  The cardiac silhouette and the tip of the\n"
        " Dobbhoff tube are unchanged.\n \n No fracture is seen.",
        [
            "PA and lateral views of the chest demonstrate clear lungs.",
            "There is no\n pneumothorax or pleural effusion.",
            "The cardiac silhouette and the tip of the\n Dobbhoff tube are unchanged.",
            "No fracture is seen.",
        ],
    ),
    "labels on lines": (
        "Lungs: Clear\nHeart and mediastinum: normal in size\nBONES/SOFT TISSUES:\nunremarkable\nLines and tubes: none",
        [
            "Lungs: Clear",
            "Heart and mediastinum: normal in size",
            "BONES/SOFT TISSUES:\nunremarkable",
            "Lines and tubes: none",
        ],
    ),
    "one finding per line": (
        "Lungs clear\nNo pleural effusion\nHeart normal\nBones intact",
        ["Lungs clear", "No pleural effusion", "Heart normal", "Bones intact"],
    ),
    "one finding per line, a long one among them": (
        "Heart size normal\nThere is a small opacity in the right base which most likely is atelectasis or scar\nNo effusion\nBones intact",
        [
            "Heart size normal",
            "There is a small opacity in the right base which most likely is atelectasis or scar",
            "No effusion",
            "Bones intact",
        ],
    ),
    "one finding per line, no capitals": (
        "lungs clear\nheart normal\nno effusion",
        ["lungs clear", "heart normal", "no effusion"],
    ),
    "short lines that go on": (
        "Small effusion on the\nLeft, and mild\nEdema",
        ["Small effusion on the\nLeft, and mild\nEdema"],
    ),
    "blank lines": ("Clear lungs\n\nheart normal\n \n\nno effusion", ["Clear lungs", "heart normal", "no effusion"]),
    "ruler": ("Clear lungs\n__________\nheart normal", ["Clear lungs", "heart normal"]),
    "shouted": (
        "HEART SIZE IS NORMAL. LUNGS ARE CLEAR.NO EFFUSION. HEPATITIS C. NO EDEMA",
        ["HEART SIZE IS NORMAL.", "LUNGS ARE CLEAR.", "NO EFFUSION.", "HEPATITIS C.", "NO EDEMA"],
    ),
    "French": (
        "Cliché de face. Pas de foyer parenchymateux ; silhouette cardiaque normale. Émoussement du cul-de-sac gauche.",
        [
            "Cliché de face.",
            "Pas de foyer parenchymateux ; silhouette cardiaque normale.",
            "Émoussement du cul-de-sac gauche.",
        ],
    ),
    "nothing": ("", []),
    "no words": (" . \n\n ... \n - 1. ", []),
}


@pytest.mark.parametrize(("text", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_offsets_are_those_of_the_whole_text_and_nothing_outside_is_touched() -> None:
    text = "IMPRESSION: 1. Edema. 2. Effusion. Signed."
    start, end = text.index("1."), text.index(" Signed")
    assert [text[a:b] for a, b in split_sentences(text, start, end)] == ["Edema.", "Effusion."]
    assert split_sentences(text, start, start) == []


FRAGMENTS = [
    *"0123456789aATx.,;:!?()[]*-•\n \t_\"'/&İßﬁ数\u2028",
    ". ",
    "\n\n",
    "1. ",
    "2) ",
    " Dr. ",
    " e.g. ",
    "Lungs: ",
    "No effusion",
    "heart",
    " cm. ",
    "...",
    "\n- ",
    " a) ",
]
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join))


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.integers(0, 30), st.integers(0, 30))
def test_properties(text: str, skipped: int, cut: int) -> None:
    start = min(skipped, len(text))
    end = max(start, len(text) - cut)
    at = start
    left_out = []
    for begin, stop in split_sentences(text, start, end):
        assert at <= begin < stop <= end
        sentence = text[begin:stop]
        assert sentence == sentence.strip()
        assert re.search(r"[^\W_]", sentence)
        left_out.append(text[at:begin])
        at = stop
    left_out.append(text[at:end])
    for piece in left_out:
        # between sentences there is punctuation, and at most list numbers
        assert all(re.fullmatch(r"[0-9]{1,2}|[A-Za-z]", word) for word in re.findall(r"[^\W_]+", piece)), piece


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["Lungs are clear.", "No effusion!", "Is there edema?", "Tip is 1.5 cm above it."]), max_size=8
    )
)
def test_joined_sentences_come_back(parts: list[str]) -> None:
    for glue in (" ", "  ", "\n", "\n\n"):
        assert sentences(glue.join(parts)) == parts


@pytest.mark.parametrize("piece", ["a\n", "1. ", "A b\n", ". ", "_", "(", "- \n", "a) 2) ", "    \n x"])
def test_long_texts_take_linear_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.process_time()
    found = split_sentences(text, 0, len(text))
    assert time.process_time() - started < 10  # some 0.1 s; a quadratic step takes longer than the limit
    assert all(start < end for start, end in found)


@pytest.mark.skipif(not (SHARED / "iu/reports.csv").exists(), reason="shared data is absent")
def test_real_reports() -> None:
    with (SHARED / "iu/reports.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[column] for row in csv.DictReader(file) for column in ("findings", "impression") if row[column]]
    found = [sentence for text in texts for sentence in sentences(text)]
    assert len(found) > 2.5 * len(texts)
    # No sentence of a radiologist is a page long, and next to none has a full stop within before a capital letter.
    assert max(map(len, found)) < 400
    assert sum(bool(re.search(r"[a-z]{3}\. *[A-Z]", sentence)) for sentence in found) < len(found) / 1000
