"""What moves before a background. Oracles: arithmetic on plain gray pictures."""

import numpy as np

from vireid_plugins.video.foreground import Background, _boxes, _sampled


def gray(level, height=60, width=40):
    return np.full((height, width, 3), level, np.uint8)


def test_samples_are_spread_evenly_over_all_frames():
    for number in (0, 1, 119, 120, 1000, 2399):
        found = [int(f[0, 0, 0]) for f in _sampled(np.full((1, 1, 3), n) for n in range(number))]
        step = found[1] if len(found) > 1 else 1
        assert found == list(range(0, number, step))
        assert len(found) == number if number < 120 else 60 <= len(found) < 120


def test_a_frame_that_has_changed_by_more_than_half_has_no_boxes():
    background = Background(np.stack([gray(100)] * 3))
    for columns, whole in ((24, True), (16, False)):  # of 40
        frame = gray(100)
        frame[:, :columns] = 200
        found = _boxes(background, frame, 20)
        assert (found is None) == whole
    assert len(found) == 1 and np.abs(found[0] - [0, 0, 16, 60]).max() <= 2


def test_boxes_are_in_pixels_of_the_video():
    """A frame of 1152 rows is reduced to 576."""
    background = Background(np.stack([gray(100, 576, 20)] * 3))
    frame = gray(100, 1152, 40)
    frame[200:600, 10:30] = 200
    found = _boxes(background, frame, 100)
    assert found.shape == (1, 4) and np.abs(found[0] - [10, 200, 20, 400]).max() <= 8


def test_restless_pixels_must_change_more_than_others():
    """Left: 60 and 140 in turn, 6 * 40 = 240 of noise, of which 120 count; right: 25.

    The two columns beside the left part are judged like it.
    """
    samples = np.stack([gray(100)] * 4)
    samples[::2, :, :20], samples[1::2, :, :20] = 60, 140
    background = Background(samples)
    assert not background.changed(gray(100)).any() and not background.changed(gray(124)).any()
    mask = background.changed(gray(160))  # 60 from the median
    assert not mask[:, :22].any() and mask[:, 22:].all()
    assert background.changed(gray(221)).all() and background.restless == 0.5
