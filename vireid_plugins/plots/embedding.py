"""The kind ``tsne``: maps of features in the plane, by t-SNE or UMAP.

Shapes: N test images, n drawn ones, D features.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from sklearn.manifold import TSNE

from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation.pair_distances import prepare_features
from ..modality import Modality
from .embedding_figure import MOST_IDENTITIES, draw_maps
from .kinds import Drawn, Kind, register_kind
from .options import option
from .subject import Subject, check_same_images

NAME = "tsne"
HEADER = ("model", "path", "identity", "camera", "modality", "x", "y")
_LEAST_IMAGES = 4


class Choice(NamedTuple):
    """The images that are drawn."""

    rows: np.ndarray  # (n,) rows of the test list, ascending
    identities: List[int]  # their identities, in the order in which they were drawn
    candidates: int  # number of identities to draw from
    known: str  # in words, what these identities have in common


def choose_rows(
    targets: np.ndarray, modalities: np.ndarray, identities: int, images: int, seed: int
) -> Choice:
    """Choose identities at random, and images of each.

    They are chosen among the identities that have images in all modalities of the test set or, if
    there is none, among all. The choice depends on labels and seed alone, so two models show the
    same images.

    Args:
        targets, modalities: (N,) labels of the test list.
        identities: number of identities; if there are fewer, all are taken.
        images: largest number of images of an identity in each modality; 0: all.
        seed: seed of the draw.
    """
    kinds = np.unique(modalities)
    seen = [np.unique(targets[modalities == kind]) for kind in kinds]
    common = seen[0]
    for others in seen[1:]:
        common = np.intersect1d(common, others)
    everywhere = len(common) > 0 and len(kinds) > 1
    candidates = common if everywhere else np.unique(targets)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(candidates)[:identities]
    # A random order of all rows, then the first few of each (identity, modality).
    order = generator.permutation(len(targets))
    order = order[np.isin(targets[order], chosen)]
    group = targets[order] * len(kinds) + np.searchsorted(kinds, modalities[order])
    by_group = np.argsort(group, kind="stable")
    _, starts, counts = np.unique(group[by_group], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(starts, counts)
    rows = order[by_group[place < images]] if images else order
    known = "seen in both modalities" if everywhere else "of the test set"
    return Choice(np.sort(rows), chosen.tolist(), len(candidates), known)


def embed_tsne(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return scikit-learn's t-SNE (n, 2) of features (n, D)."""
    words: Dict[str, Any] = {"init": "pca", "learning_rate": "auto", "random_state": seed}
    # Identical features leave no direction to start from.
    if np.ptp(features, axis=0).max() == 0:
        words["init"] = "random"
    return TSNE(perplexity=perplexity, **words).fit_transform(features)


def embed_umap(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return the UMAP (n, 2) of features (n, D); ``perplexity`` is its number of neighbors.

    Raises:
        PlotError: UMAP is not installed.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise PlotError(
            "--method umap needs umap-learn, which is not installed. Install it: pip install "
            "umap-learn; or take --method tsne."
        ) from error
    neighbors = max(2, min(round(perplexity), len(features) - 1))
    return UMAP(n_neighbors=neighbors, random_state=seed).fit_transform(features)


METHODS: Dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "tsne": embed_tsne,
    "umap": embed_umap,
}
_METHOD_NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class MapOptions:
    """Options of a map."""

    identities: int = option(10, f"number of identities drawn, 1 to {MOST_IDENTITIES}", metavar="N")
    images_per_identity: int = option(
        20, "most images of an identity in each modality; 0: all", metavar="N"
    )
    seed: int = option(0, "seed of the draw and of the map")
    method: str = option("tsne", "method that maps features to the plane", choices=sorted(METHODS))
    perplexity: float = option(
        30.0, "perplexity of t-SNE, or neighbors of UMAP; default 30, or a third of the images"
    )

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        if not 1 <= self.identities <= MOST_IDENTITIES:
            raise PlotError(
                f"--identities is {self.identities}; expected 1 to {MOST_IDENTITIES}: more cannot "
                "be told apart by color and fill."
            )
        if self.images_per_identity < 0:
            raise PlotError(
                f"--images-per-identity is {self.images_per_identity}; expected 0 (all) or more."
            )
        if self.perplexity < 1:
            raise PlotError(f"--perplexity is {self.perplexity}; expected 1 or more.")
        if not 0 <= self.seed < 2**32:
            raise PlotError(f"--seed is {self.seed}; expected 0 to {2**32 - 1}.")


@register_kind(NAME, help="a map of the features: color is identity, mark is modality")
class FeatureMap(Kind):
    """t-SNE or UMAP of the features of some identities."""

    Options = MapOptions

    def draw(self, subjects: Sequence[Subject], options: MapOptions, folder: str) -> Drawn:
        """Draw one panel for each model, on the same images."""
        check_same_images(subjects)
        features = [subject.features for subject in subjects]
        first = features[0]
        choice = choose_rows(
            first.targets,
            first.modalities,
            options.identities,
            options.images_per_identity,
            options.seed,
        )
        rows = choice.rows
        if len(rows) < _LEAST_IMAGES:
            raise PlotError(
                f"A map needs at least {_LEAST_IMAGES} images; {len(rows)} were chosen. Raise "
                "--identities or --images-per-identity."
            )
        perplexity = min(options.perplexity, (len(rows) - 1) / 3)
        note = (
            f"{_METHOD_NAMES[options.method]} of {len(rows)} images, {len(choice.identities)} of "
            f"{choice.candidates} identities {choice.known}, seed {options.seed}"
        )
        notes = [f"{note}.", f"Identities: {', '.join(map(str, choice.identities))}."]
        maps = [
            METHODS[options.method](
                prepare_features(one.features[rows], subject.cfg.TEST.METRIC).numpy(),
                perplexity,
                options.seed,
            )
            for one, subject in zip(features, subjects)
        ]
        labels = first.targets[rows], first.modalities[rows]
        figure = draw_maps(maps, *labels, choice.identities, [s.label for s in subjects], note)
        name = options.method
        written = write_figure(figure, folder, name)
        lines = [
            (subject.label, *line)
            for subject, points in zip(subjects, maps)
            for line in _lines(subjects[0], rows, points)
        ]
        return Drawn([*written, write_numbers(folder, name, HEADER, lines)], notes)


def _lines(subject: Subject, rows: np.ndarray, points: np.ndarray) -> List[Tuple[Any, ...]]:
    """Return the rows of the CSV file, without the model."""
    features, paths = subject.features, subject.paths
    labels = zip(paths[rows], features.targets[rows], features.camids[rows])
    kinds = [_modality_name(kind) for kind in features.modalities[rows]]
    return [
        (*label, kind, f"{x:.6g}", f"{y:.6g}") for label, kind, (x, y) in zip(labels, kinds, points)
    ]


def _modality_name(modality: int) -> str:
    return Modality(modality).label if modality in tuple(Modality) else ""
