"""Pieces of RBNet that act on training only: blocks, lambda_3, names of weights, averages."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vireid_plugins.modeling.layers.reverse_backbone import KeyPointMaps, ReverseBlock, stage_sizes
from vireid_plugins.modeling.maps import recorded_maps

from tests.modeling.layers.test_reverse_backbone import SMALL, made
from tests.modeling.test_rbnet import make_batch, small, students


def test_a_reverse_layer_has_as_many_blocks_as_the_layer():
    network, _ = made(SMALL, blocks=[1, 3, 2, 1])
    counts = {name: len(part.blocks) for name, part in network.parts.items() if name != "re_conv1"}
    assert counts == {"re_layer4": 1, "re_layer3": 2, "re_layer2": 3, "re_layer1": 1}
    stages = {
        n: SimpleNamespace(channels=10 * n, blocks=[nn.Identity()] * max(0, 2 * n - 4))
        for n in range(1, 6)
    }
    backbone = SimpleNamespace(network=SimpleNamespace(stages=stages))
    assert stage_sizes(backbone) == ([10, 20, 30, 40, 50], [1, 2, 4, 6])


@pytest.mark.parametrize("kind", [ReverseBlock, KeyPointMaps])
def test_the_groups_of_a_block_are_apart(kind):
    """What goes into group 3 of the 3 x 3 convolution comes out of group 3 alone."""
    torch.manual_seed(0)
    block = kind(6, 4, 2).eval() if kind is ReverseBlock else kind(6, 2).eval()
    inputs = torch.rand(1, 34, 5, 3)
    with torch.no_grad():
        before = block.separate(inputs)
        inputs[:, 6:8] += 1
        changed = (block.separate(inputs) != before).flatten(2).any(2)[0]
    assert changed.nonzero().flatten().tolist() == [6, 7]


def test_convolutions_of_a_block_are_normalized_over_the_batch():
    torch.manual_seed(0)
    block = ReverseBlock(6, 4, 2).train()
    with torch.no_grad():
        found = block.reduce(torch.rand(4, 6, 5, 3) * 9 + 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(34), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.var(dim=1, unbiased=False), torch.ones(34), atol=1e-2, rtol=0)


def test_a_fused_map_passes_a_relu():
    network, maps = made(SMALL)
    with torch.no_grad():
        network.change["conv1"][0].weight.zero_()
        network.change["conv1"][0].bias.fill_(-1)
        before = network(maps)["re_conv1"]
        network.change["conv1"][0].bias.fill_(-5)
        assert torch.equal(network(maps)["re_conv1"], before)


def test_lambda_3_has_a_greatest_value_no_gradient_and_its_scale_in_the_log():
    model = small(MODEL__RBNET__KEYPOINT_SCALE=3.0)
    metric = torch.tensor(1.0, requires_grad=True)
    weight = model.keypoint_loss.weight(metric, torch.tensor(1e-6, requires_grad=True))
    assert weight.item() == 3e4 and not weight.requires_grad
    model.after_step()
    assert model.measures()["keypoint_weight"].item() == 3e4
    assert not model.keypoint_loss.sizes.requires_grad


def test_a_step_that_overflows_leaves_lambda_3_as_it_was():
    model = small()
    for metric, error in ((1.0, 0.1), (float("inf"), 0.1), (1.0, float("nan"))):
        model.keypoint_loss.weight(torch.tensor(metric), torch.tensor(error))
        model.after_step()
    assert model.measures()["keypoint_weight"].item() == pytest.approx(10)


def test_an_evaluation_needs_no_lambda_3():
    """Nor what follows the map that is the mask, or a mask that the test leaves out."""
    assert "keypoint_loss" in small().training_only and "part_mask" not in small().training_only
    plain = small(MODEL__RBNET__TEST_VIEW="plain").training_only
    assert {"keypoint_loss", "part_mask", "reverse.parts.re_layer4"} <= set(plain)


def test_each_term_names_the_key_of_its_weight():
    keys = small().weight_keys
    assert keys["loss_keypoints"] == "MODEL.RBNET.KEYPOINT_SCALE"
    assert keys["loss_masked_id"] == "MODEL.RBNET.MASKED_ID_SCALE"
    assert keys["loss_masked_batch_hard"] == "MODEL.RBNET.MASKED_METRIC_SCALE"


def test_an_average_shares_no_tensor_with_its_student_and_has_its_pixel_values():
    model, batch = students()
    assert model.test_feature.endswith(", masked image")
    student, average = model.student_1, model.teacher_1
    own = {one.data_ptr() for one in (*student.parameters(), *student.buffers())}
    assert own.isdisjoint(one.data_ptr() for one in (*average.parameters(), *average.buffers()))
    torch.testing.assert_close(average.pixel_mean, student.pixel_mean)
    torch.testing.assert_close(average.pixel_std, student.pixel_std)
    assert not torch.equal(average.pixel_mean, average.pixel_std)
    model.train()(batch)
    model.after_step()  # and that of its students
    assert all(bool((one.keypoint_loss.sizes > 0).all()) for one in model.students)


def test_the_last_map_is_that_of_the_pass_whose_feature_is_tested():
    """Grad-CAM explains the last map: the one of the masked image, not the mask."""
    model, batch = small().eval(), make_batch(2)
    with torch.no_grad(), recorded_maps(model) as maps:
        model(batch)
        masked = model.masked(model.look(batch))
        expected = model.extract(masked, batch["modalities"])
    assert {"mask", "keypoints"} < set(maps) and list(maps)[-1] == model.map_tap.name
    assert torch.equal(maps[model.map_tap.name], expected)
