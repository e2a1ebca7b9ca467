"""Every config key that this package adds to FastReID's, and what each of them means.

Keys are declared where they are read (``keys.py``); this file collects them. ``describe_keys``
lists them with their meaning.
"""

import copy
from typing import Any, List

from fastreid.config import CfgNode as CN
from fastreid.config import get_cfg

from . import host_keys  # noqa: F401  declares the values that FastReID's keys may have
from .errors import UnknownNameError
from .keys import HOST_DEFAULT, Key, check_ranges, declare, declared_keys, exactly, value_of
from .registry import nearest

__all__ = ["add_vireid_config", "check_ranges", "describe_keys"]

declare("VIREID", Key("CONFIG_VERSION", 1, exactly(1), "version of these keys"))


def add_vireid_config(cfg: CN) -> None:
    """Add this package's keys, with their defaults, to a FastReID config, in place.

    A key that the config has already keeps its value, so calling it twice changes nothing.
    FastReID's global defaults are never edited.

    Raises:
        RuntimeError: ``cfg`` is frozen.
    """
    if cfg.is_frozen():
        raise RuntimeError(
            "add_vireid_config needs a config that is not frozen; call it right after get_cfg(), "
            "before cfg.freeze()."
        )
    for name, key in declared_keys().items():
        if key.default is HOST_DEFAULT:
            continue
        *nodes, last = name.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CN())
        node.setdefault(last, copy.deepcopy(key.default))
    if "SEED" in cfg:
        return
    cfg.SEED = 0
    _add_model(cfg)
    _add_input(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    _add_test(cfg)
    _add_runtime(cfg)


def describe_keys(prefix: str = "") -> str:
    """Return what the declared keys mean, FastReID's among them: two lines for each.

    Args:
        prefix: how the keys begin, such as ``"MODEL.MAUM"`` or ``"maum"``: any part of the name
            may begin so, in upper or lower case; empty: all keys.

    Raises:
        UnknownNameError: no key begins so; the message has the nearest ones.
    """
    keys = declared_keys()
    wanted = f".{prefix.upper()}"
    found = {name: key for name, key in keys.items() if wanted in f".{name}"}
    if not found:
        raise UnknownNameError(f"No config key begins with {prefix!r}. {nearest(prefix, keys)}")
    cfg = get_cfg()
    add_vireid_config(cfg)
    lines: List[str] = []
    for name, key in found.items():
        value: Any = value_of(cfg, name)
        lines += [f"{name}: {value!r} ({key.rule.words})", f"    {key.meaning}"]
    return "\n".join(lines)


def _add_model(cfg: CN) -> None:
    # True: keep for the backward pass only the inputs of stem and blocks and compute these again:
    # less memory, about a third more time, the same numbers.
    cfg.MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS = False
    # With several processes: True: every loss sees the rows of all of them, gathered with gradient,
    # as one process with the whole batch would; False: the rows of its own process.
    cfg.MODEL.LOSSES.GATHER_FEATURES = False


def _add_input(cfg: CN) -> None:
    # INPUT.SIZE_TRAIN and SIZE_TEST are (height, width) in pixels.
    # Rows of the batch that a training image becomes: its views, each with draws of its own.
    cfg.INPUT.NUM_VIEWS = CN({"VISIBLE": 1, "INFRARED": 1})
    # Every augmentation has ENABLED; MODALITIES: which images it touches; VIEWS: which of their
    # views, from 0, empty for all. They run in the order of data/chains.py; the docstrings of
    # data/transforms.py say what each does to both kinds of image.
    both = ("visible", "infrared")
    for node in (cfg.INPUT.FLIP, cfg.INPUT.PADDING, cfg.INPUT.CJ, cfg.INPUT.REA):
        node.MODALITIES = both
        node.VIEWS = ()
    # Random erasing: smallest and largest share of the area, 0..1; smallest aspect ratio.
    cfg.INPUT.REA.AREA = (0.02, 0.4)
    cfg.INPUT.REA.MIN_ASPECT = 0.3
    # Random grey: PROB of replacing an image by its luminance, in three equal channels.
    cfg.INPUT.GREY = CN({"ENABLED": False, "PROB": 0.1, "MODALITIES": ("visible",), "VIEWS": ()})
    # torchvision's TrivialAugmentWide: one random operation at a random strength.
    cfg.INPUT.TRIVIAL_AUGMENT = CN({"ENABLED": False, "PROB": 1.0, "MODALITIES": both, "VIEWS": ()})
    # Channel random erasing (CAJ), in normalised space. INFRARED_PROB: of infrared images,
    # negative: PROB; AREA, MIN_ASPECT: as of REA; VALUE: what fills, of each channel, in normalised
    # space; PER_CHANNEL: each channel has a rectangle of its own (paper), not one for all (code).
    cfg.INPUT.CHANNEL_ERASING = CN(
        {
            "ENABLED": False,
            "PROB": 0.5,
            "INFRARED_PROB": -1.0,
            "AREA": (0.02, 0.4),
            "MIN_ASPECT": 0.3,
            "VALUE": (0.4914, 0.4822, 0.4465),
            "PER_CHANNEL": False,
            "MODALITIES": both,
            "VIEWS": (),
        }
    )
    # Channel exchange (CAJ): one channel, at random, in all three. PROB: of exchanging at all;
    # GREY: luminance is a fourth choice.
    cfg.INPUT.CHANNEL_EXCHANGE = CN(
        {"ENABLED": False, "PROB": 1.0, "GREY": False, "MODALITIES": ("visible",), "VIEWS": ()}
    )
    # CAJ's step for infrared images: three of four times one channel in all three; else, with
    # PROB, luminance.
    cfg.INPUT.ADAPTIVE_GREY = CN(
        {"ENABLED": False, "PROB": 0.5, "MODALITIES": ("infrared",), "VIEWS": ()}
    )


def _add_data(cfg: CN) -> None:
    # Which of RegDB's ten splits to train and test on, 1..10. Ten models make a published row.
    cfg.DATASETS.REGDB_TRIAL = 1
    # CSVDataset: the file with columns path,pid,camid,modality,split. Relative: from
    # FASTREID_DATASETS.
    cfg.DATASETS.CSV_FILE = ""
    # CSVDataset: never compare images of one identity taken by one camera.
    cfg.DATASETS.CSV_SKIP_SAME_CAMERA = True
    # Train on a part of one modality's images, as of an unbalanced dataset. MODALITY: "visible" or
    # "infrared", empty: all images of both; KEEP: share of each identity's images that stays,
    # above 0 to 1, at least one image; SEED: of the choice, apart from the run's.
    cfg.DATASETS.THIN = CN({"MODALITY": "", "KEEP": 1.0, "SEED": 0})
    # Open every image once before training: "sizes" reads the file sizes only, "full" decodes.
    cfg.DATASETS.VERIFY_IMAGES = "full"
    # Keep decoded images on disk, as raw pixels: height * width * 3 bytes each. FOLDER, empty:
    # images/ in $VIREID_CACHE or in vireid_plugins/ of the user's cache folder; MAX_GB: GiB, above
    # 0, that all entries of the folder may take together.
    cfg.DATALOADER.CACHE = CN({"ENABLED": False, "FOLDER": "", "MAX_GB": 20.0})
    # DATALOADER.NUM_INSTANCE is K: images per identity in each modality.
    # DATALOADER.SAMPLER_TRAIN may name CrossModalityIdentitySampler.


def _add_solver(cfg: CN) -> None:
    # SOLVER.IMS_PER_BATCH = 2*P*K over all processes, before any extra views.
    # Batches of IMS_PER_BATCH images whose gradients are averaged for one update, 1 or more; an
    # epoch's last update takes what is left. An iteration (WARMUP_ITERS, FREEZE_ITERS, LOG_PERIOD)
    # is an update; epochs stay passes over the data. Losses compare the images of one batch only.
    cfg.SOLVER.ACCUMULATION = 1
    # Warm-up length in epochs; -1: use WARMUP_ITERS. WARMUP_METHOD also knows "epoch", which is
    # (epoch + 1) / WARMUP_EPOCHS for the whole epoch, as AGW's code.
    cfg.SOLVER.WARMUP_EPOCHS = -1
    # Factors on BASE_LR from each epoch of STEPS on, one each; empty: GAMMA at each step.
    cfg.SOLVER.STEP_FACTORS = ()
    # Factor on BASE_LR for everything in the backbone (AGW: 0.1); HEADS_LR_FACTOR is FastReID's.
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    # Number type of mixed precision: "float16" (GPU) or "bfloat16" (GPU, or a CPU that has it).
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Iterations between two progress lines in the log.
    cfg.SOLVER.LOG_PERIOD = 50


def _add_test(cfg: CN) -> None:
    protocol = cfg.TEST.PROTOCOL = CN()
    # SYSU-MM01: "all" (visible cameras 1, 2, 4, 5) and "indoor" (1, 2).
    protocol.MODES = ("all", "indoor")
    # SYSU-MM01: gallery images per identity and camera: 1 (single-shot), 10 (multi-shot).
    protocol.SHOTS = (1,)
    # Galleries drawn for one model (SYSU-MM01, LLCM).
    protocol.TRIALS = 10
    # SYSU-MM01: "random" (seeded draw of the AGW family) or "official" (rand_perm_cam.mat).
    protocol.GALLERY = "random"
    # Where rand_perm_cam.mat lies; empty: exp/rand_perm_cam.mat in the dataset's folder.
    protocol.PERMUTATION_FILE = ""
    # RegDB, LLCM and CSVDataset: query to gallery.
    protocol.DIRECTIONS = ("visible_to_infrared", "infrared_to_visible")
    # TEST.RERANK, FastReID's node. METHOD: "k_reciprocal" (Zhong et al.) or "aim" (affinity
    # inference of SAAI; LAMBDA is not used); DEFINITION of the former: "original", or "softmax" as
    # FastReID's and OpenUnReID's Jaccard distance; CROSS_MODALITY: its neighbours come from
    # queries and gallery in turn. TEST.AQE is FastReID's, too.
    cfg.TEST.RERANK.METHOD = "k_reciprocal"
    cfg.TEST.RERANK.DEFINITION = "original"
    cfg.TEST.RERANK.CROSS_MODALITY = False
    # Where similarities are computed and neighbours searched: "cpu", "cuda", "cuda:1", ...;
    # empty: MODEL.DEVICE.
    cfg.TEST.DEVICE = ""
    # Queries drawn with their ten nearest gallery images after the last evaluation, at most 100;
    # 0: none.
    cfg.TEST.RETRIEVAL_PICTURES = 8


def _add_runtime(cfg: CN) -> None:
    runtime = cfg.RUNTIME = CN()
    # A CPU run on Linux (glibc) keeps the memory it frees instead of fetching it anew each step;
    # the numbers are the same. False: give it back.
    runtime.KEEP_MEMORY = True
    # Images, maps and weights of convolutions in NHWC order; changes low-order bits.
    runtime.CHANNELS_LAST = False
    # Compile the backbone for training (PyTorch 2.6 and a compiler); evaluations run it plain.
    # Changes low-order bits.
    runtime.COMPILE = False
    # How the optimizer updates: "default" (PyTorch's choice for the device), "loop" (one parameter
    # at a time), "foreach" (many at once) or "fused" (in one pass over each).
    runtime.OPTIMIZER_STEP = "default"
