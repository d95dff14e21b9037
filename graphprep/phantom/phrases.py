"""The language of phantom reports: nouns, places and sentence frames, in the marks of `graphprep.phantom.markup`.

`SIDE` in a place or a device stands for left or right. In a frame `$` is a phrase; `[a]` is its article, if the noun takes
one, and `[is]`, `[has]` … agree with it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from graphprep.phantom.scene import Change, Severity, Zone

Number = Literal["one", "many", "mass"]


class Noun(NamedTuple):
    """What a finding is called: `words` in marks; `one` takes an article, `many` is a plural, `mass` neither."""

    words: str
    number: Number
    concept: str


class PlaceWords(NamedTuple):
    """A place before the noun ("left basilar") and after it ("at the left base"); `before` may be empty.

    `sided` tells whether the words say the side.
    """

    before: str
    after: str
    sided: bool = True


def _nouns(concept: str, one: str = "", many: str = "", mass: str = "") -> tuple[Noun, ...]:
    """Nouns of a concept, given as lists with `|` between."""
    groups: tuple[tuple[Number, str], ...] = (("one", one), ("many", many), ("mass", mass))
    return tuple(Noun(words.strip(), number, concept) for number, text in groups for words in text.split("|") if text)


# Findings

#: Names of each finding, the usual ones first. A name may be a narrower concept than the finding's.
NOUNS: dict[str, tuple[Noun, ...]] = {
    "lung_opacity": (
        *_nouns("lung_opacity", "*opacity", "*opacities", "*haziness | *opacification"),
        *_nouns("airspace_disease", "@airspace:airspace *opacity", "@airspace:airspace *opacities", "@airspace:airspace *disease"),
        *_nouns("infiltrate", "*infiltrate", "*infiltrates"),
    ),
    "consolidation": _nouns("consolidation", "*consolidation | ~consolidative *opacity", "*consolidations", "@airspace:airspace *consolidation | *consolidation"),
    "atelectasis": _nouns("atelectasis", "", "~atelectatic *changes", "*atelectasis | *atelectasis | ~subsegmental *atelectasis | ~discoid *atelectasis"),
    "nodule": _nouns("nodule", "*nodule | @pulmonary:lung *nodule | *nodule", "*nodules"),
    "mass": _nouns("mass", "*mass | @lung:lung *mass | *mass", "*masses"),
    "calcified_granuloma": _nouns("calcified_granuloma", "~calcified *granuloma", "~calcified *granulomas | ~calcified *granulomata"),
    "pulmonary_edema": _nouns("pulmonary_edema", "", "", "@pulmonary:lung *edema | @pulmonary:lung *edema | *edema | @alveolar:alveoli *edema"),
    "hyperinflation": _nouns("hyperinflation", "", "", "*hyperinflation | *hyperexpansion | *hyperinflation of the @lungs:lung"),
    "pleural_effusion": _nouns("pleural_effusion", "@pleural:pleura *effusion | *effusion | @pleural:pleura *effusion", "@pleural:pleura *effusions | *effusions", "@pleural:pleura *fluid"),
    "pneumothorax": _nouns("pneumothorax", "*pneumothorax", "*pneumothoraces"),
    "cardiomegaly": _nouns("cardiomegaly", "", "", "*cardiomegaly | @cardiac:heart *enlargement | *enlargement of the @cardiac:cardiac_silhouette <silhouette | *enlargement of the @heart:heart"),
    "hilar_enlargement": _nouns("hilar_enlargement", "", "", "@hilar:hilum *fullness | @hilar:hilum *enlargement | @hilar:hilum *prominence"),
    "elevated_diaphragm": _nouns("elevated_diaphragm", "", "", "*elevation of the SIDE @hemidiaphragm:hemidiaphragm"),
    "rib_fracture": _nouns("rib_fracture", "@rib:rib *fracture", "@rib:rib *fractures"),
    "scoliosis": _nouns("scoliosis", "", "", "*scoliosis | *scoliosis of the ^thoracic @spine:thoracic_spine | ^thoracic @spine:thoracic_spine *scoliosis"),
}  # fmt: skip

#: What else the findings may be called when they are denied ("No adenopathy").
DENIED_ONLY: dict[str, tuple[Noun, ...]] = {
    "lung_opacity": _nouns("airspace_disease", "", "", "~focal @airspace:airspace *disease"),
    "consolidation": _nouns("consolidation", "", "", "~focal *consolidation | ~confluent *consolidation"),
    "pulmonary_edema": _nouns("pulmonary_edema", "", "", "~overt @pulmonary:lung *edema"),
    "rib_fracture": _nouns("rib_fracture", "~displaced @rib:rib *fracture | ~acute @rib:rib *fracture"),
}

#: Severity in words; an empty one says nothing of it.
SEVERITY: dict[str, dict[Severity, tuple[str, ...]]] = {
    "size": {
        "small": ("~small", "~tiny", "~small", "~minimal", ""),
        "moderate": ("~moderate", "~moderate-sized", "~medium-sized", ""),
        "large": ("~large", "~large", "~sizable", "~massive", ""),
    },
    "degree": {
        "small": ("~mild", "~minimal", "~subtle", "~slight", ""),
        "moderate": ("~moderate", "~moderate", ""),
        "large": ("~marked", "~severe", "~extensive", "~pronounced", ""),
    },
}
SIZED = frozenset(("pleural_effusion", "pneumothorax", "mass"))
UNGRADED = frozenset(("nodule", "calcified_granuloma", "rib_fracture"))

#: Forms that the drawing of a finding has, whatever else is known of it.
FORMS: dict[str, tuple[str, ...]] = {
    "lung_opacity": ("~hazy", "~ill-defined", "~patchy", "", ""),
    "consolidation": ("~dense", "~focal", "", ""),
    "atelectasis": ("~linear", "~bandlike", "~streaky", "", "", ""),
    "nodule": ("~rounded", "~solitary", "", ""),
    "mass": ("~rounded", "", ""),
    "calcified_granuloma": ("~small", ""),
}

CHANGE_BEFORE: dict[Change, tuple[str, ...]] = {
    "new": ("~new", "~new", "~developing"),
    "unchanged": ("~unchanged", "~stable", "~persistent"),
    "larger": ("~increasing", "~worsening", "~increased", "~enlarging"),
    "smaller": ("~decreasing", "~improving", "~decreased", "~resolving"),
}
CHANGE_AFTER: dict[Change, tuple[str, ...]] = {
    "new": (", ~new since the prior study", ", ~new from prior"),
    "unchanged": (", ~unchanged", ", ~stable", ", ~similar to the prior exam", ", ~unchanged from prior", " ~without_significant_change"),
    "larger": (", ~increased", ", ~worse", ", ~increased since the prior study", ", slightly ~larger"),
    "smaller": (", ~decreased", ", ~improved", ", ~decreased from prior", ", slightly ~smaller"),
}  # fmt: skip
CHANGE_SENTENCES: dict[Change, tuple[str, ...]] = {
    "new": ("The $ [is] ~new.", "The $ [is] ~new since the prior examination.", "~Interval_development of $.", "~New $."),
    "unchanged": (
        "The $ [is] ~unchanged.", "$ [is] ~stable.", "The $ [is] ~not_significantly_changed.", "~Stable $.", "~Unchanged $.",
        "The $ [is] ~unchanged compared to the prior study.", "$ [remains] ~unchanged.", "~No_significant_change in the $.", "~Persistent $.",
    ),
    "larger": (
        "The $ [has] ~increased.", "$ [has] ~worsened.", "The $ [has] ~progressed since the prior study.", "The $ [is] ~larger.",
        "~Interval_increase in the $.", "~Worsening $.", "~Increased $.", "~Interval_worsening of the $.", "~Increasing $.",
    ),
    "smaller": (
        "The $ [has] ~decreased.", "$ [has] ~improved.", "The $ [is] ~smaller than on the prior study.", "~Interval_decrease in the $.",
        "~Improving $.", "~Decreased $.", "~Interval_improvement of the $.", "The $ [is] ~improved.", "~Decreasing $.",
    ),
}  # fmt: skip
CHANGE_BACK: dict[Change, tuple[str, ...]] = {
    "new": ("This is ~new.", "It is ~new since the prior study."),
    "unchanged": ("It is ~unchanged.", "This is ~stable.", "This is ~unchanged from the prior study."),
    "larger": ("It has ~increased.", "This has ~worsened since the prior study.", "It is ~larger."),
    "smaller": ("It has ~decreased.", "This has ~improved.", "It is ~smaller than on the prior study."),
}

PRESENT = {
    "full": (
        "There [is] [a]$.", "There [is] [a]$.", "[A]$ [is] seen.", "[A]$ [is] noted.", "[A]$ [is] present.", "[A]$ [is] identified.",
        "There [is] again [a]$.", "[A]$ [is] again seen.", "[A]$ [is] demonstrated.", "There [is] evidence of [a]$.", "[A]$ [is] visualized.",
    ),
    "telegraphic": ("$.", "$.", "$ noted.", "$ again noted.", "$ present."),
}  # fmt: skip
UNCERTAIN = {
    "full": (
        "There may be [a]$.", "[A]$ cannot be excluded.", "[A]$ [is] possible.", "[A]$ [is] not excluded.", "[A]$ may be present.",
        "There [is] [a]possible $.", "[A]$ cannot be entirely excluded.", "It is difficult to exclude [a]$.", "There [is] [a]questionable $.",
        "There [appears] to be [a]$.", "There [is] probably [a]$.", "Cannot rule out [a]$.", "There is concern for [a]$.",
    ),
    "telegraphic": ("Possible $.", "Probable $.", "Questionable $.", "Likely $.", "Suspicious for $.", "Cannot exclude $.", "? $.", "Question of $."),
}  # fmt: skip
RESOLVED = (
    "The $ [has] ~resolved.", "Previously seen $ [has] ~resolved.", "The $ [is] ~no_longer_seen.", "~Interval_resolution of the $.",
    "The previously noted $ [is] ~no_longer_visualized.", "~Resolved $.", "~Resolution of the $."
)  # fmt: skip
REMOVED = (
    "The $ has been ~removed.",
    "$ has been ~removed.",
    "~Interval_removal of the $.",
    "~Removal of the $.",
    "The $ [is] ~no_longer_present.",
)
DENIED = {
    "full": (
        "There is no $.", "There is no $.", "No $ [is] seen.", "No $ [is] identified.", "There is no evidence of $.", "No evidence of $.",
        "There is no radiographic evidence of $.", "No $ [is] present.", "No definite $ [is] seen.", "No $ [is] visualized.", "No convincing $ [is] seen.",
    ),
    "telegraphic": ("No $.", "No $.", "No $.", "No $.", "Negative for $.", "No evidence of $.", "No $ seen.", "No definite $."),
}  # fmt: skip
#: Denials that leave open what was there before: they say of no finding that it is absent.
NOT_NEW = ("No ~new $.", "There is no ~new $.", "No ~new $ [is] seen.")
PLEURA_FREE = ("@Pleura:pleura: no $.", "@Pleural:pleural_space <spaces: no $.")
#: Two findings in one sentence.
PAIRS = ("$1 and $2.", "$1 with $2.", "There [is] [a]$1 and $2.", "$1 as well as $2.", "$1, and $2.")
PAIRS_CHANGED: dict[Change, tuple[str, ...]] = {
    "new": ("$1 and $2 are ~new.",),
    "unchanged": ("$1 and $2 are ~unchanged.", "The $1 and the $2 are ~stable."),
    "larger": ("$1 and $2 have ~increased.", "The $1 and the $2 have ~worsened."),
    "smaller": ("$1 and $2 have ~decreased.", "The $1 and the $2 have ~improved."),
}
NOT_SEEN = ("$ [is] not seen.", "$ [is] not identified.")

#: A sign (the first phrase) and what it means. `$1`, `$2` are phrases.
SUGGESTIONS = {
    "uncertain": (
        "$1 may represent $2.", "$1 could represent $2.", "$1, possibly $2.", "$1, likely $2.", "$1 suspicious for $2.", "$1 concerning for $2.",
        "$1, suggestive of $2.", "$1, which may represent $2.", "$1 may reflect $2.", "$1, probably $2.", "$1, concerning for $2.",
        "$1 is suspicious for $2.", "$1, likely representing $2.", "There is [a]$1, which could reflect $2.", "There [is] [a]$1, suspicious for $2.",
        "$1, worrisome for $2.", "$1 raises the possibility of $2.", "$1, which is concerning for $2.",
    ),
    "present": ("$1 consistent with $2.", "$1, compatible with $2.", "There [is] [a]$1, consistent with $2.", "$1 in keeping with $2.", "$1 compatible with $2."),
}  # fmt: skip
SUGGESTIONS_BACK = (
    "This may represent $.",
    "This could represent $.",
    "This is suspicious for $.",
    "This likely represents $.",
    "This is concerning for $.",
)
#: A sign and two meanings of which one holds.
ALTERNATIVES = (
    "$1, $2 versus $3.",
    "$1 may represent $2 or $3.",
    "$1, likely $2 or $3.",
    "$1 could reflect either $2 or $3.",
)
MEANINGS: dict[str, tuple[Noun, ...]] = {
    "pneumonia": _nouns("pneumonia", "", "", "*pneumonia | *pneumonia | *infection | *bronchopneumonia | ~early *pneumonia | ~infectious *process"),
    "heart_failure": _nouns("heart_failure", "", "", "@heart:heart *failure | ~congestive @heart:heart *failure | *CHF | @cardiac:heart *decompensation"),
    "malignancy": _nouns("malignancy", "", "", "*malignancy | *carcinoma | ~bronchogenic *carcinoma"),
    "metastasis": _nouns("metastasis", "", "~metastatic *disease | *metastases", "*metastasis"),
    "copd": _nouns("copd", "", "", "*COPD | *chronic_obstructive_pulmonary_disease"),
    "emphysema": _nouns("emphysema", "", "", "*emphysema | ~emphysematous *changes"),
    "atelectasis": _nouns("atelectasis", "", "", "*atelectasis"),
    "aspiration": _nouns("aspiration", "", "", "*aspiration"),
    "lymphadenopathy": _nouns("lymphadenopathy", "", "", "*lymphadenopathy | *adenopathy"),
    "granuloma": _nouns("granuloma", "*granuloma"),
}  # fmt: skip
#: What a sign could be as well, where a report leaves it open.
DIFFERENTIAL = {"lung_opacity": "atelectasis", "consolidation": "atelectasis", "atelectasis": "pneumonia"}

# Places

_LOWER = (
    PlaceWords("SIDE ^lower @lobe:lower_lobe", "in the SIDE ^lower @lobe:lower_lobe"),
    PlaceWords("SIDE @basilar:lung_base", "at the SIDE @base:lung_base"),
    PlaceWords("SIDE @basal:lung_base", "at the SIDE @lung:lung_base <base"),
    PlaceWords("", "in the SIDE ^lower @lung:lower_lung_zone"),
    PlaceWords("SIDE ^lower @lung:lower_lung_zone", "in the SIDE ^lower @lung:lower_lung_zone <zone"),
)
_MID = (
    PlaceWords("SIDE ^mid @lung:mid_lung_zone", "in the SIDE ^mid @lung:mid_lung_zone"),
    PlaceWords("SIDE ^mid @lung:mid_lung_zone <zone", "in the SIDE ^mid @lung:mid_lung_zone <zone"),
    PlaceWords("SIDE @perihilar:perihilar_region", "in the SIDE @perihilar:perihilar_region <region"),
)
_UPPER = (
    PlaceWords("SIDE ^upper @lobe:upper_lobe", "in the SIDE ^upper @lobe:upper_lobe"),
    PlaceWords("SIDE @apical:lung_apex", "at the SIDE @apex:lung_apex"),
    PlaceWords("SIDE ^upper @lung:upper_lung_zone", "in the SIDE ^upper @lung:upper_lung_zone <zone"),
    PlaceWords("SIDE @suprahilar:suprahilar_region", "in the SIDE ^upper @lung:upper_lung_zone"),
)
#: Where a zone of one lung is, in words.
PLACES: dict[Zone, dict[str, tuple[PlaceWords, ...]]] = {
    "upper": {
        "left": (*_UPPER, PlaceWords("@LUL:upper_lobe", "in the @LUL:upper_lobe")),
        "right": (*_UPPER, PlaceWords("@RUL:upper_lobe", "in the @RUL:upper_lobe")),
    },
    "mid": {
        "left": (*_MID, PlaceWords("@lingular:lingula", "in the @lingula:lingula", sided=False)),
        "right": (
            *_MID,
            PlaceWords("^right ^middle @lobe:middle_lobe", "in the ^right ^middle @lobe:middle_lobe"),
            PlaceWords("@RML:middle_lobe", "in the @RML:middle_lobe"),
        ),
    },
    "lower": {
        "left": (
            *_LOWER,
            PlaceWords("^left @retrocardiac:retrocardiac_region", "in the ^left @retrocardiac:retrocardiac_region <region"),
            PlaceWords("@LLL:lower_lobe", "in the @LLL:lower_lobe"),
        ),
        "right": (*_LOWER, PlaceWords("@RLL:lower_lobe", "in the @RLL:lower_lobe")),
    },
}  # fmt: skip
#: The same of both lungs.
PLACES_OF_BOTH: dict[Zone, tuple[PlaceWords, ...]] = {
    "upper": (
        PlaceWords("^bilateral ^upper @lobe:upper_lobe", "in ^both ^upper @lobes:upper_lobe"),
        PlaceWords("@biapical:lung_apex", "at ^both @lung:lung_apex <apices"),
    ),
    "mid": (
        PlaceWords("^bilateral @perihilar:perihilar_region", "in the ^bilateral @perihilar:perihilar_region <regions"),
        PlaceWords("", "in ^both ^mid @lungs:mid_lung_zone"),
    ),
    "lower": (
        PlaceWords("@bibasilar:lung_base", "at ^both @lung:lung_base <bases"),
        PlaceWords("^bilateral ^lower @lobe:lower_lobe", "in ^both ^lower @lobes:lower_lobe"),
        PlaceWords("@bibasilar:lung_base", "at the @bases:lung_base <bilaterally"),
    ),
}
#: A lung, where the report does not tell the zone.
WHOLE_LUNG = (PlaceWords("SIDE @lung:lung", "in the SIDE @lung:lung"),)
BOTH_LUNGS = (PlaceWords("^bilateral @lung:lung", "in ^both @lungs:lung"),)

RIBS = ("SIDE ^lateral @rib:rib", "SIDE ^posterior @rib:rib", "SIDE @rib:rib")

# Devices: sentences by concept; `SIZE` is a measurement. {} holds the device.

DEVICES: dict[str, tuple[str, ...]] = {
    "endotracheal_tube": (
        "{~Endotracheal *tube ~tip is SIZE above the @carina:carina}.",
        "The {~endotracheal *tube terminates SIZE above the @carina:carina}.",
        "{~ET *tube ~tip projects approximately SIZE above the @carina:carina}.",
        "{~Endotracheal *tube with ~tip SIZE above the @carina:carina}.",
        "The ~tip of the {~endotracheal *tube is SIZE above the @carina:carina}.",
        "{*ETT ~tip SIZE above the @carina:carina}.",
        "{~Endotracheal *tube in ~standard position}.",
        "There is an {~endotracheal *tube}.",
    ),
    "enteric_tube": (
        "{~Nasogastric *tube terminates in the @stomach:stomach}.",
        "{~Enteric *tube ~tip is in the @stomach:stomach}.",
        "The {~NG *tube ends in the @stomach:stomach}.",
        "{~Orogastric *tube with ~tip in the @stomach:stomach}.",
        "{~Enteric *tube ~in_place}.",
        "There is an {~enteric *tube}.",
        "{~Nasogastric *tube courses below the @diaphragm:diaphragm}.",
    ),
    "central_venous_catheter": (
        "{SIDE ^internal @jugular:internal_jugular_vein *line with ~tip in the @SVC:superior_vena_cava}.",
        "{SIDE ^internal @jugular:internal_jugular_vein *catheter terminates in the ^superior ^vena @cava:superior_vena_cava}.",
        "{SIDE @subclavian:subclavian_vein *line ~tip at the @cavoatrial:cavoatrial_junction <junction}.",
        "There is a {SIDE @subclavian:subclavian_vein *catheter with ~tip in the ^superior ^vena @cava:superior_vena_cava}.",
        "The ~tip of the {SIDE ^internal @jugular:internal_jugular_vein *catheter is at the @cavoatrial:cavoatrial_junction <junction}.",
        "{SIDE @IJ:internal_jugular_vein *catheter ~in_place}.",
        "{@SIDEWORD ~central ~venous *catheter ~tip in the @SVC:superior_vena_cava}.",
    ),
    "pacemaker": (
        "{@SIDEWORD-sided *pacemaker} with {*leads in the ^right @atrium:right_atrium and ^right @ventricle:right_ventricle}.",
        "There is a {@SIDEWORD *pacemaker}.",
        "{@SIDEWORD ~dual-lead *pacemaker ~in_place}.",
        "{SIDE @chest:chest_wall <wall *pacemaker}.",
        "A {@SIDEWORD *pacemaker} is present.",
    ),
    "chest_tube": (
        "{SIDE @chest:chest *tube ~in_place}.",
        "There is a {SIDE @chest:chest *tube}.",
        "{@SIDEWORD ~thoracostomy *tube ~in_place}.",
        "A {SIDE @chest:chest *tube is present}.",
    ),
}
#: The same where the device is not where it should be; an endotracheal tube lies low or high.
MALPOSITIONED: dict[str, tuple[str, ...]] = {
    "low": (
        "{~Endotracheal *tube ~tip is only SIZE above the @carina:carina}.",
        "{~Endotracheal *tube is low, SIZE above the @carina:carina}.",
        "{~Malpositioned ~endotracheal *tube}.",
    ),
    "high": (
        "{~Endotracheal *tube is high, SIZE above the @carina:carina}.",
        "The {~ET *tube ~tip is SIZE above the @carina:carina}.",
        "The {~endotracheal *tube is ~malpositioned}.",
    ),
    "enteric_tube": (
        "{~Malpositioned ~nasogastric *tube}.",
        "The {~enteric *tube is ~malpositioned}.",
        "There is a {~malpositioned ~nasogastric *tube}.",
    ),
    "central_venous_catheter": (
        "The {SIDE ^internal @jugular:internal_jugular_vein *catheter is ~malpositioned}.",
        "{~Malpositioned SIDE @subclavian:subclavian_vein *line}.",
    ),
    "pacemaker": ("{~Malpositioned @SIDEWORD *pacemaker}.",),
    "chest_tube": ("{~Malpositioned SIDE @chest:chest *tube}.", "The {SIDE @chest:chest *tube is ~malpositioned}."),
}
#: Names alone, for what is said of a device besides where it is.
DEVICE_NOUNS: dict[str, tuple[Noun, ...]] = {
    "endotracheal_tube": _nouns("endotracheal_tube", "~endotracheal *tube | ~ET *tube"),
    "enteric_tube": _nouns("enteric_tube", "~nasogastric *tube | ~enteric *tube"),
    "central_venous_catheter": _nouns("central_venous_catheter", "SIDE ^internal @jugular:internal_jugular_vein *catheter | SIDE @subclavian:subclavian_vein *line | @SIDEWORD ~central *line"),
    "pacemaker": _nouns("pacemaker", "@SIDEWORD *pacemaker"),
    "chest_tube": _nouns("chest_tube", "SIDE @chest:chest *tube"),
}  # fmt: skip

# Normal structures


class Normality(NamedTuple):
    """A sentence that calls structures normal: its concepts, in the order of their `@`, and `side` where it is of one side."""

    concepts: tuple[str, ...]
    markup: str
    side: Literal["left", "right", "bilateral"] | None = None


def _normal(concepts: str, *sentences: str) -> tuple[Normality, ...]:
    return tuple(Normality(tuple(concepts.split()), sentence) for sentence in sentences)


NORMAL: tuple[Normality, ...] = (
    *_normal("clear_lungs", "{The @lungs:lung are *clear}.", "{@Lungs:lung *clear}.", "{*Clear @lungs:lung}.", "{@Lungs:lung are *clear}.", "{@Lungs:lung: *clear}.", "{The @lungs:lung are grossly *clear}."),
    Normality(("clear_lungs",), "{^Both @lungs:lung are *clear}.", "bilateral"),
    *_normal("normal_heart_size", "{The @heart:heart is *normal in <size}.", "{@Heart:heart <size is *normal}.", "{@Heart:heart <size *normal}.", "{*Normal @heart:heart <size}.", "{@Heart:heart: *normal in <size}.", "{@Heart:heart <size is *within_normal_limits}.",
             "{The @heart:heart is *normal}.", "{@Cardiac:cardiac_silhouette <silhouette is *normal in <size}.", "{The @cardiac:cardiac_silhouette <silhouette is *unremarkable}."),
    *_normal("normal_mediastinum", "{The @mediastinum:mediastinum is *unremarkable}.", "{@Mediastinal:mediastinum <contours are *normal}.", "{*Normal @mediastinal:mediastinum <contours}.", "{@Mediastinum:mediastinum *normal}."),
    *_normal("normal_cardiomediastinal_silhouette", "{The @cardiomediastinal:cardiomediastinal_silhouette <silhouette is *normal}.", "{@Cardiomediastinal:cardiomediastinal_silhouette <silhouette is *within_normal_limits}.",
             "{*Unremarkable @cardiomediastinal:cardiomediastinal_silhouette <contours}."),
    *_normal("normal_heart_size normal_mediastinum", "{The @heart:heart and @mediastinum:mediastinum are *normal}.", "{@Heart:heart and @mediastinum:mediastinum are *unremarkable}.", "{*Normal @heart:heart and @mediastinum:mediastinum}."),
    *_normal("normal_hila", "{The @hila:hilum are *unremarkable}.", "{@Hilar:hilum <contours are *normal}.", "{The @hila:hilum are *normal}."),
    *_normal("normal_pulmonary_vasculature", "{^Pulmonary @vascularity:pulmonary_vasculature is *normal}.", "{The ^pulmonary @vasculature:pulmonary_vasculature is *within_normal_limits}.", "{*Normal ^pulmonary @vascularity:pulmonary_vasculature}."),
    *_normal("normal_pleura", "{The @costophrenic:costophrenic_angle <angles are *sharp}.", "{@Costophrenic:costophrenic_angle <angles *clear}.", "{The @pleural:pleural_space <spaces are *clear}."),
    *_normal("normal_diaphragm", "{The @diaphragm:diaphragm is *normal}.", "{The @hemidiaphragms:hemidiaphragm are *sharp}."),
    *_normal("normal_bones", "{The @bones:bone are *intact}.", "{@Osseous:bone <structures are *intact}.", "{@Bony:bone <structures *unremarkable}.", "{^Bony @thorax:thoracic_cage is *intact}.", "{The visualized @osseous:bone <structures are *unremarkable}.", "{The @ribs:rib are *intact}.", "{@Bones:bone: *intact}."),
    *_normal("normal_spine", "{The ^thoracic @spine:thoracic_spine is *unremarkable}.", "{@Spine:spine *intact}."),
    *_normal("midline_trachea", "{The @trachea:trachea is *midline}.", "{@Trachea:trachea *midline}."),
    *_normal("normal_lung_volumes", "{The @lungs:lung are ~well *expanded}.", "{@Lung:lung <volumes are *normal}.", "{*Normal @lung:lung <volumes}."),
    *_normal("normal_soft_tissues", "{The ^soft @tissues:soft_tissue are *unremarkable}."),
    *_normal("normal_aorta", "{The @aorta:aorta is *normal}."),
    *_normal("normal_heart_size clear_lungs", "{The @heart:heart and @lungs:lung are *normal}."),
)  # fmt: skip
ONE_LUNG_CLEAR = ("{The SIDE @lung:lung is *clear}.", "{SIDE @lung:lung *clear}.")
#: Sentences that call a structure normal and deny something of it; the first phrase is the structure.
CLEAR_WITHOUT = (
    "{The @lungs:lung are *clear} without $.",
    "{The @lungs:lung are *clear} with no evidence of $.",
    "{@Lungs:lung are *clear}, without $.",
)
NOT_ACUTE = (
    "No {~acute @cardiopulmonary:chest *abnormality}.", "No {~acute @cardiopulmonary:chest *process}.", "No {~acute @cardiopulmonary:chest *disease}.",
    "No {~acute *abnormality}.", "No {~acute *findings}.", "No evidence of {~acute @cardiopulmonary:chest *disease}.", "No {~acute @cardiopulmonary:chest *findings}.",
    "There is no {~acute @cardiopulmonary:chest *abnormality}.", "No {~active @cardiopulmonary:chest *disease}.", "No {~acute @intrathoracic:chest *process}.",
    "No radiographic evidence of {~acute @cardiopulmonary:chest *process}.", "No {~acute *disease}.",
)  # fmt: skip
NORMAL_CHEST = (
    "{*Normal @chest:chest}.",
    "{*Unremarkable @chest:chest}.",
    "{*Normal} chest radiograph.",
    "{*Negative @chest:chest}.",
)

#: Advice, which says of no finding that it is there.
ADVICE = {
    "mass": ("Recommend CT to exclude {*malignancy}.", "CT is recommended to evaluate for {*malignancy}.", "Chest CT is recommended to rule out {*carcinoma}."),
    "nodule": ("Recommend CT to exclude {*malignancy}.", "CT is recommended to evaluate for {*malignancy}."),
    "rib_fracture": ("Follow-up radiograph is recommended to exclude {*pneumothorax}.",),
}  # fmt: skip
ADVISED: dict[str, str] = {"*malignancy": "malignancy", "*carcinoma": "malignancy", "*pneumothorax": "pneumothorax"}

# What says nothing of the patient's chest

BESIDE = {
    "technique": ("A single VIEW view was obtained.", "VIEW view of the chest.", "Frontal radiograph.", "One view was obtained."),
    "comparison": ("Comparison is made with the prior study.", "Compared to the prior radiograph.", "The prior radiograph is used for comparison."),
    "first": ("No prior studies are available for comparison.", "No comparison studies.", "There are no prior radiographs for comparison."),
    "recommendation": ("Clinical correlation is recommended.", "Recommend clinical correlation.", "Follow-up radiographs are recommended.", "Recommend follow-up radiograph to document resolution."),
}  # fmt: skip
