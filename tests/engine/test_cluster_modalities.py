"""Methods that cluster each modality for itself need images of both."""

from types import SimpleNamespace

import pytest

from vireid_plugins.engine.clusters.checks import check_modalities
from vireid_plugins.errors import UserError
from vireid_plugins.modeling.meta_arch import MMT, ClusterContrast


def without_weights(method):
    return method.__new__(method)


@pytest.mark.parametrize("own,missing", [(0, "infrared"), (1, "visible")])
def test_a_dataset_of_one_modality_is_refused(own, missing):
    items = [SimpleNamespace(modality=own)] * 3
    with pytest.raises(UserError, match=f"DATASETS.NAMES has no {missing} training image"):
        check_modalities(without_weights(ClusterContrast), items)
    check_modalities(without_weights(MMT), items)
    check_modalities(without_weights(ClusterContrast), [*items, SimpleNamespace(modality=1 - own)])
