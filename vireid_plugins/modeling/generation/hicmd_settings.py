"""The config keys of Hi-CMD, and what of them is no part of a network."""

from typing import Any, Dict, Mapping, NamedTuple, Tuple

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, between, check_values, declare, each, one_of
from ...turns import OptimizerPart
from .encoder import CHANNELS
from .feature_sets import REAL_SETS, SETS
from .id_pig import SCALES, ImageGeneration

NODE = "MODEL.HICMD"
declare(
    NODE,
    Key("VECTORS", "both", one_of("both", "prototype", "style"), "what a feature consists of"),
    Key(
        "PROTOTYPE_WIDTH",
        0,
        between(0, 10000),
        "channels of the prototype encoder's first layer; 0: as the network's second layer needs",
    ),
)
declare(
    NODE,
    Key("GENERATION", True, SWITCH, "ID-PIG; False: the identity path alone, of real images"),
    Key("SETS", SETS, each(between(1, 8), distinct=True), "sets of features that HFL learns from"),
    Key("SAME", "own", one_of("own", "paired"), "whose style restores an image (code: paired)"),
    Key("CYCLE", "read", one_of("read", "kept"), "whose attributes swap back (code: kept)"),
    Key("SAME_SCALE", 50.0, at_least(0), "weight of the restored images (lambda_2)"),
    Key("CROSS_SCALE", 50.0, at_least(0), "weight of the crossed images (lambda_1)"),
    Key("CYCLE_SCALE", 50.0, at_least(0), "weight of the images swapped back (lambda_3)"),
    Key("CODE_SCALE", 10.0, at_least(0), "weight of the codes that are read again (lambda_4)"),
    Key("KL_SCALE", 1.0, at_least(0), "weight of the mean square of pose and illumination"),
    Key("GAN_SCALE", 20.0, at_least(0), "weight of the adversarial terms, of both sides"),
    Key("PENALTY_SCALE", 0.01, at_least(0), "weight of the gradient penalty within GAN_SCALE"),
    Key("ID_SCALE", 1.0, at_least(0), "weight of the cross-entropy"),
    Key("TRIPLET_SCALE", 1.0, at_least(0), "weight of the triplet loss"),
    Key("MARGIN", 0.5, between(0, 2), "margin of the triplet loss, a cosine"),
    Key("PULL", 1.0, at_least(0), "weight of its pull toward +1 and -1"),
    Key("ERASING", 0.5, between(0, 1), "probability that HFL sees an image with a hole"),
    Key("MIX_LR", 1e-5, at_least(0), "rate of the weight that joins prototype and style"),
    Key("MLP_WIDTH", 512, between(1, 100000), "width of the decoder's MLPs"),
    Key("DISCRIMINATOR_WIDTH", 32, between(1, 10000), "channels of its first layer"),
    Key(
        "GENERATOR_LR",
        1e-4,
        at_least(0),
        "Adam's rate for encoders and decoder; attribute encoders: times SOLVER.BACKBONE_LR_FACTOR",
    ),
    Key("DISCRIMINATOR_LR", 1e-4, at_least(0), "Adam's rate for the discriminators"),
    Key("BETAS", (0.5, 0.999), each(at_least(0, below=1), count=2), "of both Adams"),
    Key("GENERATION_DECAY", 1e-4, at_least(0), "weight decay of both Adams"),
    Key("WARM_GENERATION", 0, at_least(0), "first iterations without HFL (cnt_warmI2I)"),
    Key("WARM_IDENTITY", 0, at_least(0), "next ones without ID-PIG's losses (cnt_warmID)"),
    features=False,
)
#: weights of HFL's losses, by the names that keys have in lower case
OWN_SCALES = ("id", "triplet")
#: config key of the weight of each term, by log name
WEIGHT_KEYS = {
    "loss_discriminator": f"{NODE}.GAN_SCALE",
    "loss_penalty": f"{NODE}.PENALTY_SCALE",
    **{f"loss_{name}": f"{NODE}.{name.upper()}_SCALE" for name in (*SCALES[:-1], *OWN_SCALES)},
}


class Settings(NamedTuple):
    """What of ``MODEL.HICMD`` is no part of a network."""

    sets: Tuple[int, ...] = SETS
    scales: Mapping[str, float] = {"id": 1.0, "triplet": 1.0}
    margin: float = 0.5
    pull: float = 1.0
    warm_generation: int = 0
    warm_identity: int = 0
    rates: Tuple[float, float] = (1e-4, 1e-4)  # of generator and discriminators
    betas: Tuple[float, float] = (0.5, 0.999)
    decay: float = 1e-4

    @classmethod
    def from_config(cls, cfg: Any) -> "Settings":
        """Read them from ``MODEL.HICMD``.

        Raises:
            UserError: no set is named, or one of generated images where nothing is generated, or
                an encoder would learn nothing.
        """
        node = cfg.MODEL.HICMD
        check_values(NODE, **dict(node))
        wanted = "some of 1 to 8" if node.GENERATION else f"some of {list(REAL_SETS)}"
        if not node.SETS or not (node.GENERATION or set(node.SETS) <= set(REAL_SETS)):
            raise UserError(
                f"{NODE}.SETS is {list(node.SETS)}; expected {wanted}, as {NODE}.GENERATION is "
                f"{node.GENERATION}: sets 3, 4, 7 and 8 are of generated images."
            )
        if not node.GENERATION and node.VECTORS != "both":
            raise UserError(
                f"{NODE}.VECTORS is {node.VECTORS!r} and {NODE}.GENERATION False: one of the two "
                f"encoders would learn nothing. Set {NODE}.VECTORS both."
            )
        return cls(
            tuple(node.SETS),
            {name: node[f"{name.upper()}_SCALE"] for name in OWN_SCALES},
            node.MARGIN,
            node.PULL,
            node.WARM_GENERATION,
            node.WARM_IDENTITY,
            (node.GENERATOR_LR, node.DISCRIMINATOR_LR),
            tuple(node.BETAS),
            node.GENERATION_DECAY,
        )

    def optimizer_parts(self, generates: bool) -> Tuple[OptimizerPart, ...]:
        """Return the three optimizers; two of them if nothing is generated."""
        generator, discriminator = (_adam(rate, self.decay) for rate in self.rates)
        begins, betas = ("backbone.", "prototypes.", "id_pig.decoder."), {"betas": self.betas}
        parts = [
            OptimizerPart("identity"),  # layers, mix and head: SOLVER's own keys
            OptimizerPart("generator", begins, generator, betas),
        ]
        if generates:
            judges = ("id_pig.discriminators.",)
            parts.append(OptimizerPart("discriminator", judges, discriminator, betas))
        return tuple(parts)


def _adam(rate: float, decay: float) -> Dict[str, Any]:
    decays = dict.fromkeys(("WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS"), decay)
    factors = dict.fromkeys(("BIAS_LR_FACTOR", "HEADS_LR_FACTOR"), 1.0)
    return {"OPT": "Adam", "BASE_LR": rate, "HEADS_LR_LAYERS": (), **decays, **factors}


def build_id_pig(cfg: Any, width: int, code_length: int) -> ImageGeneration:
    """Return ID-PIG for prototype encoders of this width and codes of this length."""
    node = cfg.MODEL.HICMD
    return ImageGeneration(
        channels=width * CHANNELS,
        code_length=code_length,
        hidden=node.MLP_WIDTH,
        width=node.DISCRIMINATOR_WIDTH,
        scales={name: node[f"{name.upper()}_SCALE"] for name in SCALES},
        paired_style=node.SAME == "paired",
        kept_codes=node.CYCLE == "kept",
    )
