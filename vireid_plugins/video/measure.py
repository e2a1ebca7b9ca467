"""Measure models on the crops of a video: rank-1 among the persons of one moment.

S sightings, D features.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Hashable, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ..engine.devices import check_device
from ..engine.feature_extractor import FeatureExtractor
from ..errors import FileContentError, UserError
from ..files import write_atomically
from ..readers.csv_file import read_csv
from ..search import SearchIndex, index_folder
from .cut import CROPS, GRAY, Cut, image_name
from .models import INPUT_SIZE, Model, check_word, models_of
from .questions import Question, Rate, answers, ask, chance, difference, rate

logger = logging.getLogger(__name__)

INDEXES, MODELS, RESULTS = "index", "models", "results.json"
#: what is asked -> what its query is; the gallery is always in color
KINDS = {"color": "the crop in color", "gray": "the crop with its red channel in all three"}


class Features(NamedTuple):
    """The features of all sightings by one model."""

    color: np.ndarray  # (S, D) as visible images
    gray: np.ndarray  # (S, D) as infrared images


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        model: the word that names it.
        kind: ``"color"`` or ``"gray"``, the queries.
        gap: seconds between query and gallery.
        questions, persons: their numbers.
        gallery: mean number of persons in a gallery.
        chance: rank-1 in percent of an answer at random.
        rate: rank-1; of a random network the mean over its seeds.
        over_first: how far it is above the first model.
        seeds: rank-1 of each seed of a random network; of other models one number.
    """

    model: str
    kind: str
    gap: float
    questions: int
    persons: int
    gallery: float
    chance: float
    rate: Rate
    over_first: Rate
    seeds: List[float]

    def facts(self) -> Dict[str, Any]:
        """Return the row as it is written into ``results.json``; rates are in percent."""
        return {
            "model": self.model,
            "query": self.kind,
            "seconds": self.gap,
            "questions": self.questions,
            "persons": self.persons,
            "gallery": round(self.gallery, 3),
            "chance": round(self.chance, 2),
            "rank1": round(self.rate.rank1, 2),
            "interval": [round(self.rate.low, 2), round(self.rate.high, 2)],
            "over_first": round(self.over_first.rank1, 2),
            "over_first_interval": [
                round(self.over_first.low, 2),
                round(self.over_first.high, 2),
            ],
            "seeds": [round(value, 2) for value in self.seeds],
        }


def measure(
    cut: Cut,
    words: Sequence[str],
    *,
    persons: Mapping[int, str] = MappingProxyType({}),
    gaps: Sequence[float] = (1, 2, 4, 8),
    seeds: int = 5,
    size: Tuple[int, int] = INPUT_SIZE,
    device: str = "cpu",
    progress: bool = False,
) -> List[Row]:
    """Measure models on the persons of a video, and write ``results.json`` into its folder.

    Args:
        cut: the crops.
        words: checkpoints, ``random:NAME`` or ``weights:NAME``, see ``models_of``.
        persons: track -> person, for tracks that somebody has joined by hand, see
            ``read_persons``; every other track is one person.
        gaps: seconds between the query and its gallery.
        seeds: number of random networks.
        size: height and width of the input of ``random:NAME`` and ``weights:NAME``; checkpoints
            have their own.
        device: where features are computed.
        progress: show progress bars on a terminal.

    Raises:
        UserError: there is nothing to ask, or a model cannot be opened.
    """
    check_words(words, gaps, seeds, device)
    who = [persons.get(one.track, f"track {one.track}") for one in cut.sightings]
    asked = _questions(cut, who, gaps)
    groups = {
        word: models_of(word, cut.folder / MODELS, seeds, size) for word in dict.fromkeys(words)
    }
    rows: List[Row] = []
    for word, models in groups.items():
        logger.info("Computing features: %s", word)
        features = [_features(cut, model, device, progress) for model in models]
        rows += _rows(word, features, asked, who, rows)
    facts = {
        "video": cut.facts,
        "persons": {str(track): person for track, person in sorted(persons.items())},
        "rows": [row.facts() for row in rows],
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_atomically(cut.folder / RESULTS, lambda file: file.write(text.encode()))
    return rows


def check_words(words: Sequence[str], gaps: Sequence[float], seeds: int, device: str) -> None:
    """Raise the errors of ``measure`` that need no crops, before a long video is read."""
    if not words:
        raise UserError("No model is named; expected a checkpoint, random:NAME or weights:NAME.")
    if seeds < 1:
        raise UserError(f"--seeds must be 1 or more; got {seeds}.")
    for gap in gaps:
        if not (math.isfinite(gap) and gap > 0):
            raise UserError(f"--gaps must be above 0 seconds; got {gap:g}.")
    check_device(device, "--device")
    for word in words:
        check_word(word)


def read_persons(path: Path, cut: Cut) -> Dict[int, str]:
    """Read which tracks show one person: a CSV file with the columns ``track,person``.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is no such table, or names a track that the video does not have.
    """
    known = {one.track for one in cut.sightings}
    persons: Dict[int, str] = {}
    for line, cells in read_csv(path, ("track", "person")):
        track = int(cells["track"]) if cells["track"].isdecimal() else -1
        if track not in known or track in persons:
            what = "is listed twice" if track in persons else f"is no track of {cut.folder}"
            raise FileContentError(f"{path}, line {line}: track {cells['track']!r} {what}.")
        persons[track] = cells["person"]
    return persons


def _questions(
    cut: Cut, who: Sequence[Hashable], gaps: Sequence[float]
) -> Dict[float, List[Question]]:
    """Return the questions by the seconds of their gap, which are those of whole moments."""
    every = cut.facts["settings"]["every"]
    asked: Dict[float, List[Question]] = {}
    for gap in gaps:
        frames = max(1, round(gap * cut.fps / every)) * every
        questions = ask(cut.sightings, who, frames)
        if questions:
            asked[frames / cut.fps] = questions
        else:
            logger.warning("--gaps %g: no question has this gap; it is left out.", frames / cut.fps)
    if not asked:
        raise UserError(
            f"{cut.folder}: there is no question. {cut.num_tracks} person(s) were tracked, but "
            "none of them is seen at two moments with such a gap, with another person at the "
            "second one. Expected two persons or more who are in the picture together; try "
            "shorter --gaps or a longer video."
        )
    return asked


def _features(cut: Cut, model: Model, device: str, progress: bool) -> Features:
    """Index the crops in color, and compute the features of the gray ones."""
    extractor = FeatureExtractor(model.path, device=device)
    if extractor.needs_keypoints:
        raise UserError(
            f"--weights {model.label}: {type(extractor.model).__name__} needs key points of each "
            f"image, which this command does not read. Leave it out; the crops in {cut.folder} "
            "can be searched with key points: `vireid pose` finds them, `vireid search index "
            "--keypoints FILE` reads them."
        )
    out = cut.folder / INDEXES / f"{model.label}-{extractor.fingerprint}"
    index_folder(
        extractor,
        cut.folder / CROPS,
        "visible",
        out,
        weights=str(model.path),
        workers=0,
        progress=progress,
    )
    index = SearchIndex(out)
    names = index.catalog.names(index.catalog.rows().tolist())
    row_of = {name.decode(): row for row, name in names.items()}
    wanted = [image_name(one) for one in cut.sightings]
    absent = [name for name in wanted if name not in row_of]
    if absent:
        raise UserError(
            f"{cut.folder / CROPS} lacks {len(absent)} of its images, such as {absent[0]}. Cut the "
            "video into a new folder."
        )
    color = np.array(index.features[np.array([row_of[name] for name in wanted])])
    gray = extractor([cut.folder / GRAY / name for name in wanted], "infrared")
    return Features(color, gray)


def _rows(
    word: str,
    features: Sequence[Features],
    asked: Dict[float, List[Question]],
    who: Sequence[Hashable],
    earlier: Sequence[Row],
) -> List[Row]:
    first = {(row.kind, row.gap): row.rate for row in earlier if row.model == earlier[0].model}
    rows = []
    for kind in KINDS:
        for gap, questions in asked.items():
            persons = [who[question.query] for question in questions]
            right = [answers(questions, getattr(one, kind), one.color) for one in features]
            found = rate(np.mean(right, axis=0), persons)
            rows.append(
                Row(
                    word,
                    kind,
                    gap,
                    len(questions),
                    len(set(persons)),
                    float(np.mean([len(question.gallery) for question in questions])),
                    chance(questions),
                    found,
                    difference(found, first.get((kind, gap), found)),
                    [100 * float(one.mean()) for one in right],
                )
            )
    return rows
