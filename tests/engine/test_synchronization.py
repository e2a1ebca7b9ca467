"""How often a training step would make a GPU wait, counted on a CPU by what would cause it.

Oracle: every operation whose result the program must know before it can continue: reading a number
(``item``, ``bool``, ``int``, ``tolist``) and shapes that follow from values (``nonzero``, masks as
indices, ``unique``). A CPU shows none of these as time; a GPU stands still for each.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vireid_plugins.engine.step import StepTrainer

from fastreid.utils.events import EventStorage

from tests.modeling.test_meta_arch import CONFIGS, make_batch, make_model, make_views

# The stem asks once for the number of rows of each modality (``modality_rows``), and a triplet loss
# once for that of its anchors; whatever comes on top stands beside each method. Means by identity
# need the number of identities (``unique``); losses that are public check their modalities again.
ACCEPTED = {
    "configs/agw/synthetic.yml": 2,
    "configs/adaptive_triplet/synthetic.yml": 2,
    "configs/baseline/synthetic.yml": 2,
    "configs/caj/synthetic.yml": 2,
    "configs/convnext/synthetic.yml": 2,
    "configs/vit/synthetic.yml": 2,
    # the pairs; rows of each modality for both encoders, three times to generate and twice for the
    # features, and for the shared layers twice
    "configs/hicmd/synthetic.yml": 13,
    # no stem asks; the check of the modalities by which embeddings are chosen, and the means of
    # identities, beside the triplet loss
    "configs/cmtr/synthetic.yml": 3,
    # two hetero-center losses (means, anchors, check); mined pairs, of which there are any number
    "configs/cm_lsp_ge/synthetic.yml": 13,
    # one network for both modalities
    "configs/crossvit_csa/synthetic.yml": 1,
    # four are one_hot's own check, which it leaves out on a GPU; counters of both memories are
    # buffers, for the checkpoint; rows of each modality, for either classifier; two only once, when
    # the proxies of the first snapshot are judged
    "configs/maum/synthetic.yml": 17,
    # means for the centers and for the correlation, whose shared identities are masks; pairs of
    # the regional center loss
    "configs/mrda/synthetic.yml": 13,
    # means on four levels of the cascade and for both complements; pairs of an identity; the
    # anchors of the triplet loss
    "configs/msclnet/synthetic.yml": 19,
    # rows of each modality for the classifiers of each, and the check of its losses
    "configs/mutual_prediction/synthetic.yml": 7,
    # first stage: rows of each modality for two losses, their checks, and anchors of each modality
    "configs/pmt/synthetic.yml": 6,
    # rows of both views and their check; anchors of two triplet losses for each student; updates
    "configs/mmt/synthetic.yml": 8,
    # rows of each modality and their check; the count of a memory for each term; views by turns
    "configs/adca/synthetic.yml": 7,
    # the same; rows with a partner for the loss and for the memory, and the hardest of a cluster
    "configs/pgm/synthetic.yml": 12,
    # two tables at once
    "configs/bmil/synthetic.yml": 7,
    # anchors of the triplet loss of each pass
    "configs/rbnet/synthetic.yml": 2,
    # the anchors of four triplet losses, and the rows of each modality in the stem
    "configs/spot/synthetic.yml": 5,
    # the search for neighbors, which asks which rows are full and where rounding could decide; the
    # largest number of neighbors
    "configs/nformer/synthetic.yml": 11,
}


class Waits(TorchDispatchMode):
    """Counts what a GPU would be waited for, by operation."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = Counter()
        tolist = torch.Tensor.tolist  # reads memory, without an operation

        def counted(tensor):
            self.found["tolist"] += 1
            return tolist(tensor)

        monkeypatch.setattr(torch.Tensor, "tolist", counted)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.found["mask" if by_mask else name] += 1
        elif "unique" in name:
            self.found["unique"] += 1
        return function(*args, **(kwargs or {}))


class Loader:
    batch_sampler = type("Sampler", (), {"set_epoch": lambda self, epoch: None})()

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch] * 3)


def waits_of_a_step(config, monkeypatch):
    """The most of any phase, in the second of two steps, whose terms are read late."""
    most = Counter()
    model = make_model(config)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    for phase in model.phases:
        model.phase = phase
        stepper = StepTrainer(model, Loader(make_views(config, make_batch())), optimizer)
        stepper.reads_late = True
        stepper.start_epoch(0)
        with EventStorage(), monkeypatch.context() as patch:
            stepper.run_step()
            model.after_step()
            with Waits(patch) as waits:
                stepper.run_step()
                model.after_step()
        waits.found["tolist"] -= 2  # of the step before, long since arrived: see loss_report.py
        if sum(waits.found.values()) > sum(most.values()):
            most = waits.found
    return +most


@pytest.mark.slow
@pytest.mark.skipif(
    int(torch.__version__.split(".")[0]) < 2,
    reason="the smoothed cross-entropy of PyTorch 1.13 itself indexes by masks",
)
@pytest.mark.parametrize("config", [c for c in CONFIGS if c.endswith("synthetic.yml")])
def test_a_step_waits_for_no_more_than_its_shapes_need(config, monkeypatch):
    found = waits_of_a_step(config, monkeypatch)
    assert sum(found.values()) == ACCEPTED[config], dict(found)


def test_the_count_sees_what_it_should(monkeypatch):
    numbers = torch.tensor([0.0, 1.0, 1.0])
    with monkeypatch.context() as patch, Waits(patch) as waits:
        numbers.sum().item()
        bool(numbers.any())
        numbers[numbers > 0]
        numbers.unique()
        torch.nonzero(numbers)
        numbers.tolist()
    assert waits.found == {
        "_local_scalar_dense": 2,
        "mask": 1,
        "unique": 1,
        "nonzero": 1,
        "tolist": 1,
    }
