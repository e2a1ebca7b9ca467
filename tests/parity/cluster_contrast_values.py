"""Print what the public codes of ADCA, PGM and BMIL compute on the rows of ``test_clusters``.

    python -m tests.parity.cluster_contrast_values ADCA PGM BMIL

The arguments are folders with checkouts of yangbincv/ADCA (commit 8d0a8cb), zesenwu23/USL-VI-ReID
(ed4a7df) and Terminator8758/BMIL (79cc647). Their parts are run as they stand: the memories of
``clustercontrast/models/cm.py``, the matching between two comments of ``adca_sysu_train.py`` and of
``train_sysu.py``, and ``compute_jaccard_distance_xmodal``. What they only import is replaced.
"""

import importlib.util
import re
import sys
import textwrap
import types
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tests.modeling.cluster_rows import BATCH, CENTERS, FEATURES, IMAGES, TARGETS


class Holder:
    """Stands for a trainer, and for a memory."""


def load(path, name):
    """Import a file of a checkout by its path."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(path, first, last):
    """Return the code between two texts of a file, without indentation and calls of print."""
    text = path.read_text(encoding="utf-8")
    begin = text.index(first) + len(first)
    part = text[begin : text.index(last, begin)]
    part = re.sub(r"^\s*print\(.*$", "", part, flags=re.M)
    return textwrap.dedent(part[part.index("\n") + 1 :])


def memories(folder, name, **options):
    """Return a function that computes a loss, its gradient and the memory after the step."""
    module = load(folder / "clustercontrast/models/cm.py", name)

    def step(more=()):
        tables = 2 if options.get("mode") == "CMhybrid" else 1
        memory = module.ClusterMemory(CENTERS.shape[1], len(CENTERS), temp=0.05, **options)
        memory.features = F.normalize(CENTERS, dim=1).repeat(tables, 1)
        for key, value in dict(more).items():
            setattr(memory, key, value)
        rows = FEATURES.clone().requires_grad_()
        loss = memory(rows, TARGETS)
        loss.backward()
        return loss.item(), rows.grad.abs().sum().item(), memory.features.sum(dim=1).tolist()

    return step


def pgm(folder):
    """Return the matches of PGM's stage 2."""
    from scipy.optimize import linear_sum_assignment

    code = between(
        folder / "train_sysu.py",
        "######################## PGM",
        'print("Progressive Graph Matching Done")',
    )
    names = dict(torch=torch, F=F, linear_sum_assignment=linear_sum_assignment)
    names["cluster_features_rgb"], names["cluster_features_ir"] = CENTERS[:5], CENTERS[5:]
    names["num_cluster_rgb"], names["num_cluster_ir"] = 5, len(CENTERS) - 5
    exec(code, names)
    return [{int(k): int(v) for k, v in names[n].items()} for n in ("r2i", "i2r")]


def adca(folder):
    """Return the pairs that ADCA merges, and its visible memory."""
    path = folder / "adca_sysu_train.py"
    visible, infrared = IMAGES["visible"], IMAGES["infrared"]
    names = dict(np=np, torch=torch, Counter=Counter, epoch=0, num_cluster_ir=3, trainer=Holder())
    text = path.read_text(encoding="utf-8")
    select = text[text.index("def select_merge_data") : text.index("def main()")]
    exec(re.sub(r"^\s*print\(.*$", "", select, flags=re.M), names)
    for place, (features, labels) in (("rgb", visible), ("ir", infrared)):
        names[f"features_{place}"] = features
        names[f"pseudo_labels_{place}"] = labels.numpy()
        names[f"{place}_label"] = [n for n in labels.tolist() if n >= 0]
        memory = Holder()
        own = [features[labels == n].mean(0) for n in range(int(labels.max()) + 1)]
        memory.features = F.normalize(torch.stack(own), dim=1)
        setattr(names["trainer"], f"memory_{place}", memory)
    code = between(path, "###################################CMA", "########################\n")
    exec(code, names)
    pairs = list(zip(map(int, names["in_rgb_label"]), map(int, names["in_ir_label"])))
    return pairs, names["trainer"].memory_rgb.features.sum(dim=1).tolist()


def bmil_distances(folder):
    """Return some Jaccard distances with balanced neighbors."""
    faiss = types.SimpleNamespace(get_num_gpus=lambda: 0)
    sys.modules.setdefault("faiss", faiss)
    package = types.ModuleType("bmil_utils")
    package.__path__ = [str(folder / "clustercontrast/utils")]
    sys.modules["bmil_utils"] = package
    stub = types.ModuleType("bmil_utils.faiss_utils")
    for name in (
        "search_index_pytorch",
        "search_raw_array_pytorch",
        "index_init_gpu",
        "index_init_cpu",
    ):
        setattr(stub, name, None)
    sys.modules["bmil_utils.faiss_utils"] = stub
    module = importlib.import_module("bmil_utils.faiss_rerank_xmodal")
    found = module.compute_jaccard_distance_xmodal(
        BATCH, k1=8, k2=3, search_option=5, rgbNum=len(BATCH) // 2, print_flag=False
    )
    return found


def main(folders):
    """Print everything."""
    torch.Tensor.cuda = lambda self, *_: self
    torch.nn.Module.cuda = lambda self, *_: self
    sys.modules["IPython"] = types.SimpleNamespace(embed=None)
    first, second, third = map(Path, folders)
    show = sys.stdout.write
    show(f"rows: {memories(first, 'adca_cm', momentum=0.1)()}\n")
    show(f"hard: {memories(second, 'pgm_cm', momentum=0.2, use_hard=True)()}\n")
    package = types.ModuleType("bmil_models")
    package.__path__ = [str(third / "clustercontrast/models")]
    sys.modules["bmil_models"] = package
    sys.modules["bmil_models.losses"] = types.SimpleNamespace(CrossEntropyLabelSmooth=None)
    hybrid = memories(third, "bmil_models.cm", momentum=0.1, mode="CMhybrid")
    show(f"hybrid: {hybrid()}\n")
    several = memories(
        third, "bmil_models.cm2", momentum=0.1, mode="CMhybrid", has_multi_pos_loss=True
    )
    groups = torch.tensor([0, 0, 1, 1, 2, 3, 4, 4])
    topk = torch.topk
    torch.topk = lambda row, k: topk(row, 6)  # instead of 50: there are eight prototypes
    show(f"several: {several({'proxy_pseudo_labels': groups})}\n")
    torch.topk = topk
    show(f"pgm: {pgm(second)}\n")
    show(f"adca: {adca(first)}\n")
    distances = bmil_distances(third)
    show(f"bmil: {distances.sum(axis=1, dtype=np.float64).tolist()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
