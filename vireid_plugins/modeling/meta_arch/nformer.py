"""NFormer: all images of a test look at their neighbors before they are compared.

*Paper*: H. Wang, J. Shen, Y. Liu, Y. Gao, E. Gavves, "NFormer: Robust Person Re-identification with
Neighbor Transformer", CVPR 2022, pp. 7297-7307, arXiv 2204.09331. Code: haochenheheda/NFormer,
commit c78cb84, called "the code" below.
*Idea*: a transformer over the features of all images, in which each looks at its mutual nearest
neighbors alone, so that odd features are pulled toward those of the same person.
*Here*: ``NFormer``, on the frozen features of any trained model of this package
(``on_encoder.py``). ``layers/neighbor_transformer.py``: landmark agent attention and reciprocal
neighbor softmax; ``evaluation/neighbors/mutual.py``: who is whose mutual neighbor, exactly and in
blocks, never in a matrix of all pairs; ``engine/sequences.py``: what a training step sees;
``evaluation/relation.py``: the test, which is *transductive*, with lines of its own in all tables.
*Departs*, or decides what is not said:

- The paper is about visible images alone. The encoder here is any model, so its features may be
  larger than the 256 of the code: a linear layer without bias, which begins with their principal
  axes, brings them to ``DIM`` (0, or the size of the features: no such layer). Neighbors are those
  of the encoder's own features.
- Features have length 1 in training and in the test; the code normalizes them in the test only
  (``NORMALIZE_INPUT`` test).
- The sign is that of the code, softmax(+A); the text prints exp(-A), by which an image would look
  at the least similar of its neighbors.
- Neighbors are found by the cosine of the input once, as in the code; by each layer's and head's
  affinities with ``RNS_SOURCE`` affinity, as in the text. An image is always its own neighbor.
- Landmarks: 5, as in the code's config for its results (its default is 10). The code draws them at
  random in the test too; here a seed draws them (``TEST_LANDMARK_SEED``), so that a result can be
  repeated.
- Most of the nearest neighbors of an image have its own modality. ``TOPK_PER_MODALITY`` takes half
  of them from each, and ``SEQUENCE_PER_MODALITY`` does it for training sequences; both are off
  here, as the paper has no modalities.
- Sequences of 7000 images are shortened to the training set. An epoch's last, incomplete update is
  dropped, and the center loss is half a mean of squares, so its SCALE is twice the code's.
- The test is one pass over the queries and the gallery of a trial. SYSU-MM01 and LLCM draw ten
  galleries, so there are ten passes.

*Config*: ``MODEL.NFORMER``; ``configs/nformer``.

S sequences of L rows, B images of a batch, D features of the encoder, E = ``DIM``, k neighbors,
N identities.
"""

from typing import Any, Dict, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...evaluation.features import evaluation_mode
from ...evaluation.neighbors.mutual import keep_mutual, mutual_neighbors
from ...evaluation.relation import Relation
from ...keys import SWITCH, Key, at_least, check_values, declare, each, one_of, text
from ..layers.neighbor_transformer import (
    FindLists,
    NeighborTransformer,
    mutual_by_affinity,
    stack_lists,
)
from ..layers.projection import Projection
from ..losses import LossTerms, build_losses
from ..precision import at_least_float32
from .base import BATCH_TENSORS
from .on_encoder import OnFrozenEncoder, build_encoder, feature_size

NORMALIZE = ("always", "test", "never")
SOURCES = ("input_cosine", "affinity")
_NODE = "MODEL.NFORMER"

declare(
    _NODE,
    Key("DIM", 0, at_least(0), "features of NFormer (d); 0: as many as the encoder has"),
    Key("LAYERS", 4, at_least(1), "transformer blocks"),
    Key("HEADS", 2, at_least(1), "attention heads; they divide DIM"),
    Key("LANDMARKS", 5, at_least(1), "landmark agents of each block (l)"),
    Key("TOPK", 20, at_least(1), "nearest neighbors, of which the mutual ones count (k)"),
    Key("TOPK_PER_MODALITY", False, SWITCH, "half of the neighbors from each modality"),
    Key("RNS_SOURCE", "input_cosine", one_of(*SOURCES), "what neighbors are found by"),
    Key("NORMALIZE_INPUT", "always", one_of(*NORMALIZE), "input of length 1; test: as the code"),
    Key("ENCODER_ARCHITECTURE", "", text("a name"), "filled in from the encoder's checkpoint"),
    Key("ENCODER_LOSSES", (), each(text("a name")), "filled in from the encoder's checkpoint"),
)
declare(  # what trains it, and choices of the evaluation, which its result names
    _NODE,
    Key(
        "ENCODER",
        "",
        text("a path"),
        "checkpoint of the trained model whose features are used; {seed} and {trial} in it stand "
        "for SEED and the trial of RegDB",
    ),
    Key("ENCODER_TRAINED_ON", (), each(text("a name")), "datasets; filled in from its checkpoint"),
    Key("DROPOUT", 0.1, at_least(0, below=1), "probability, after attention and MLP"),
    Key("TEST_LANDMARK_SEED", 0, at_least(0), "draws the landmarks of the test"),
    Key("SEQUENCE_LENGTH", 7000, at_least(2), "images of a training sequence, or all there are"),
    Key("SEQUENCE_PER_MODALITY", False, SWITCH, "half of a training sequence from each modality"),
    Key("SEQUENCES", 2, at_least(1), "training sequences of an update, in all processes together"),
    Key("IMAGES_PER_SEQUENCE", 30, at_least(1), "an epoch has one sequence for this many images"),
    features=False,
)


@META_ARCH_REGISTRY.register()
class NFormer(OnFrozenEncoder):
    """A frozen encoder, and a transformer over the features of many images.

    In evaluation, ``model(batch)`` returns the encoder's features (B, D), and :attr:`relation`
    relates those of a trial. In training, a batch holds ``features`` (S, L, D) instead of images
    (``engine/sequences.py``); a batch of images is encoded, and is one sequence.

    Args:
        encoder: a trained model; it stays in evaluation mode, without gradients.
        encoder_dim: D.
        num_classes: N.
        loss_terms: on ``features`` (before batch norm), ``bn_features`` and ``logits``.
        dim, layers, heads, landmarks, topk, topk_per_modality, rns_source, normalize_input,
            dropout, test_landmark_seed: the keys of ``MODEL.NFORMER``.

    Raises:
        UserError: an argument is not allowed, or two do not go together.
    """

    config_nodes = ("MODEL.NFORMER",)
    names_parts = ("MODEL.NFORMER.ENCODER_ARCHITECTURE", "MODEL.NFORMER.ENCODER_LOSSES")
    training_only = ("classifier",)

    @configurable
    def __init__(
        self,
        *,
        encoder: nn.Module,
        encoder_dim: int,
        num_classes: int,
        loss_terms: LossTerms,
        dim: int = 0,
        layers: int = 4,
        heads: int = 2,
        landmarks: int = 5,
        topk: int = 20,
        topk_per_modality: bool = False,
        rns_source: str = "input_cosine",
        normalize_input: str = "always",
        dropout: float = 0.1,
        test_landmark_seed: int = 0,
    ) -> None:
        nn.Module.__init__(self)  # the baseline's would make a backbone and a head
        dim = dim or encoder_dim
        check_values(_NODE, LAYERS=layers, HEADS=heads, LANDMARKS=landmarks, TOPK=topk)
        check_values(_NODE, DROPOUT=dropout, RNS_SOURCE=rns_source, NORMALIZE_INPUT=normalize_input)
        _check_together(encoder_dim, dim, heads, rns_source, topk_per_modality)
        self.encoder, self.encoder_dim = encoder.requires_grad_(False), encoder_dim
        self.projection = Projection(encoder_dim, dim) if encoder_dim != dim else None
        self.transformer = NeighborTransformer(dim, layers, heads, landmarks, dropout)
        self.bottleneck = nn.BatchNorm1d(dim)
        self.bottleneck.bias.requires_grad_(False)  # no shift
        self.classifier = nn.Linear(dim, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.loss_terms = loss_terms
        self.topk, self.topk_per_modality, self.rns_source = topk, topk_per_modality, rns_source
        self.normalize_input, self.test_landmark_seed = normalize_input, test_landmark_seed
        self._neighbors: Dict[str, Tensor] = {}  # for the log
        self.train()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read ``MODEL.NFORMER``, and build the encoder that the rest of ``MODEL`` describes."""
        node = cfg.MODEL.NFORMER
        encoder = build_encoder(cfg)
        size = feature_size(encoder, cfg.INPUT.SIZE_TEST)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.HEADS.EMBEDDING_DIM = node.DIM or size  # of the features that losses see
        provided = ("features", "bn_features", "logits", *BATCH_TENSORS)
        names = "dim layers heads landmarks topk topk_per_modality rns_source normalize_input"
        names += " dropout test_landmark_seed"
        return {
            "encoder": encoder,
            "encoder_dim": size,
            "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
            "loss_terms": build_losses(cfg, provided),
            **{name: node[name.upper()] for name in names.split()},
        }

    @property
    def relation(self) -> Relation:
        """Return what relates the features of a trial at test."""
        words = f"NFormer, k = {self.topk}"
        words += " (half of each modality)" if self.topk_per_modality else ""
        words += " by affinity" if self.rns_source == "affinity" else ""
        return Relation(f"{words}, landmarks of seed {self.test_landmark_seed}", self.relate)

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Return the encoder's features (B, D), or loss terms in training."""
        if "features" not in batch and not self.training:
            return self.encoder(batch)
        is_encoded = "features" in batch
        if not is_encoded:
            batch = self.encoded(batch)
        labels = self.labels(batch)  # (S L,) each
        rows = batch["features"].to(self.device)
        x = self.transform(rows, labels["modalities"].view(rows.shape[:2])).flatten(0, 1)
        bn_features = self.bottleneck(x)
        if not self.training:
            return bn_features
        logits = self.classifier(bn_features)
        outputs = {"features": x, "bn_features": bn_features, "logits": logits}
        if not is_encoded:  # with ``gather_features``, they are the rows of all processes already
            return self.losses(outputs, labels)
        return self.objective(outputs, {**labels, "images": x})

    def transform(self, features: Tensor, modalities: Tensor) -> Tensor:
        """Return the transformer's output (S, L, E) of the encoder's features (S, L, D).

        Args:
            features: (S, L, D), of any length.
            modalities: (S, L).
        """
        rows = self.prepared(at_least_float32(features))
        find = self._find_lists(rows, modalities)
        x = rows if self.projection is None else self.projection(rows)
        generator = None if self.training else _generator(self.test_landmark_seed)
        return self.transformer(x, find, generator)

    def prepared(self, features: Tensor) -> Tensor:
        """Return features (..., D) as NFormer takes them: of length 1 where the config says so."""
        if self.normalize_input == "never" or (self.normalize_input == "test" and self.training):
            return features
        return F.normalize(features, dim=-1)

    def relate(self, features: Tensor, modalities: Tensor) -> Tensor:
        """Return the features (M, E), of length 1, of the M images of a trial, in one pass.

        Args:
            features: (M, D) of the encoder, queries first; the result is on their device.
            modalities: (M,).
        """
        rows = features.to(self.device)[None]
        with evaluation_mode(self), torch.no_grad():
            x = self.transform(rows, modalities.to(self.device)[None])[0]
            return F.normalize(self.bottleneck(x)).to(features.device)

    def _find_lists(self, rows: Tensor, modalities: Tensor) -> FindLists:
        """Return a function that gives the mutual neighbors of each row (S, L, D) to a block."""
        if self.rns_source == "affinity":
            return mutual_by_affinity(self.topk, keep_mutual)
        found = [
            mutual_neighbors(F.normalize(one), self.topk, of if self.topk_per_modality else None)
            for one, of in zip(rows.detach(), modalities)
        ]
        neighbors, kept = stack_lists(found)
        if self.training:
            self._note_neighbors(neighbors, kept, modalities)
        lists = neighbors[:, None], kept[:, None]
        return lambda agents, counterparts: lists

    def _note_neighbors(self, neighbors: Tensor, kept: Tensor, modalities: Tensor) -> None:
        theirs = modalities.gather(1, neighbors.flatten(1)).view_as(neighbors)
        across = (kept & (theirs != modalities[..., None])).sum()
        self._neighbors = {
            "mutual_neighbors": kept.sum() / max(1, modalities.numel()),
            "mutual_neighbors_of_other_modality": across / max(1, modalities.numel()),
        }

    def measures(self) -> Dict[str, Tensor]:
        """Return the mean number of mutual neighbors of an image, itself included, for the log."""
        return {name: value.float() for name, value in self._neighbors.items()}

    def see(self, features: Tensor) -> None:
        """Let the projection begin with the principal axes of features (R, D), the first time."""
        if self.projection is not None:
            self.projection.begin_with(features)


def _check_together(
    encoder_dim: int, dim: int, heads: int, rns_source: str, topk_per_modality: bool
) -> None:
    """Raise ``UserError`` if arguments do not go together."""
    if dim > encoder_dim:
        raise UserError(
            f"{_NODE}.DIM is {dim}, and the encoder has {encoder_dim} features. Set it to at most "
            "that, or to 0, which takes them as they are."
        )
    if dim % heads:
        raise UserError(
            f"{_NODE}.HEADS {heads} does not divide the {dim} features of NFormer ({_NODE}.DIM, or "
            "those of the encoder). Choose a divisor."
        )
    if rns_source == "affinity" and topk_per_modality:
        raise UserError(
            f"{_NODE}.TOPK_PER_MODALITY True needs {_NODE}.RNS_SOURCE input_cosine; affinities "
            "know no modality. Set one of them otherwise."
        )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
