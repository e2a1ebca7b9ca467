"""A disk that is full at any moment: one sentence, nothing broken, and --resume tells one story.

Oracle: the files of a run that was never interrupted.
"""

import errno
import os

import pytest

from vireid_plugins.errors import UnwritableError

from tests.engine.tiny import run_tiny, story


def full_at(patch, point):
    """Let the disk be full at the synchronization of number ``point``; return what is left."""
    left, fsync = [point], os.fsync

    def refuse(number):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        fsync(number)

    patch.setattr(os, "fsync", refuse)
    return left


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return the story of a run, and how many files and lines it synchronizes."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        left = full_at(patch, 1000)
        run_tiny(folder)
    return story(folder), 1000 - left[0]


@pytest.mark.slow
def test_the_disk_may_be_full_at_any_moment(unbroken, tmp_path):
    expected, writes = unbroken
    assert writes > 20
    messages = []
    for point in range(0, writes, 4):
        folder = tmp_path / str(point)
        with pytest.MonkeyPatch.context() as patch:
            full_at(patch, point)
            with pytest.raises(UnwritableError, match=r"/\S+ cannot be written: No space") as told:
                run_tiny(folder)
        messages.append(str(told.value))
        assert not list(folder.glob(".*.partial"))
        run_tiny(folder, resume=True)
        assert story(folder) == expected, point
    assert all("MB are free on that disk" in one for one in messages)
    of_weights = [one for one in messages if ".pth cannot be written" in one]
    assert of_weights and all("takes 0.0 MB. Then run" in one for one in of_weights)
