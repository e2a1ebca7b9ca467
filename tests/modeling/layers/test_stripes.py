"""Horizontal stripes. Oracle: row h of H belongs to stripe floor(h * R / H), row by row."""

import pytest
import torch

from vireid_plugins.modeling.layers import split_stripes, stripe_heights, stripe_means, stripe_rows


def rows_by_stripe(height, num_stripes):
    """The definition, by a loop over rows."""
    rows = [[] for _ in range(num_stripes)]
    for h in range(height):
        rows[h * num_stripes // height].append(h)
    return rows


@pytest.mark.parametrize("num_stripes", range(1, 8))
def test_heights_equal_the_loop_and_differ_by_one_at_most(num_stripes):
    for height in range(num_stripes, 40):
        heights = stripe_heights(height, num_stripes)
        assert heights == [len(rows) for rows in rows_by_stripe(height, num_stripes)]
        assert sum(heights) == height and max(heights) - min(heights) <= 1


@pytest.mark.parametrize("height,num_stripes", [(6, 6), (18, 6), (7, 3), (11, 6), (5, 1)])
def test_stripes_and_means_equal_the_loop(height, num_stripes):
    feature_map = torch.rand(2, 3, height, 4, dtype=torch.float64)
    stripes = split_stripes(feature_map, num_stripes)
    means = stripe_means(feature_map, num_stripes)
    assert len(stripes) == num_stripes and means.shape == (2, 3, num_stripes)
    for p, rows in enumerate(rows_by_stripe(height, num_stripes)):
        assert torch.equal(stripes[p], feature_map[:, :, rows])
        total = sum(feature_map[:, :, h, w] for h in rows for w in range(4))
        torch.testing.assert_close(means[:, :, p], total / (len(rows) * 4))


@pytest.mark.parametrize("height,num_stripes", [(5, 6), (3, 0)])
def test_more_stripes_than_rows_are_refused(height, num_stripes):
    with pytest.raises(ValueError, match=f"{height} rows cannot be cut into {num_stripes}"):
        split_stripes(torch.rand(1, 1, height, 1), num_stripes)


@pytest.mark.parametrize("height", range(1, 20))
def test_rows_of_a_stripe_are_those_of_the_rule(height):
    for stripes in range(1, height + 1):
        rows, valid = stripe_rows(height, stripes, torch.device("cpu"))
        assert rows.shape == valid.shape == (stripes, -(-height // stripes))
        assert rows.min() >= 0 and rows.max() < height  # also where they only fill up
        for stripe in range(stripes):
            expected = [h for h in range(height) if h * stripes // height == stripe]
            assert rows[stripe][valid[stripe]].tolist() == expected
