"""Videos of drawn people, whose places are known: a fixed background, and who walks in front."""

from typing import NamedTuple, Tuple

import cv2
import numpy as np

HEIGHT, WIDTH, FPS = 150, 240, 10.0
TALL, WIDE = 40, 14


class Walker(NamedTuple):
    """A person who walks on a straight line; places are those of the top left corner."""

    color: Tuple[int, int, int]  # of the coat: blue, green, red
    start: Tuple[float, float]
    speed: Tuple[float, float]  # pixels in a frame
    tall: int = TALL

    def box(self, frame):
        """Return left, top, width and height in a frame."""
        left, top = (int(s + v * frame) for s, v in zip(self.start, self.speed))
        return left, top, round(WIDE * self.tall / TALL), self.tall


RED = Walker((40, 40, 220), (20.0, 10.0), (2.0, 0.0))
BLUE = Walker((220, 60, 30), (180.0, 95.0), (-2.0, 0.0))
GREEN = Walker((40, 200, 40), (20.0, 95.0), (1.5, 0.0))  # meets BLUE


def frames(walkers, number=60, seed=0, noise=2):
    """Return (number, H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(
        generator.integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8), (0, 0), 3
    )
    return np.array([_frame(ground, walkers, n, generator, noise) for n in range(number)])


def _frame(ground, walkers, number, generator, noise):
    picture = ground.copy()
    for walker in walkers:
        left, top, width, height = walker.box(number)
        belt, head = top + height * 6 // 10, top + height * 2 // 10
        skin = (top, head, (120, 150, 200))
        coat, trousers = (head, belt, walker.color), (belt, top + height, (30, 30, 30))
        for begin, end, color in (skin, coat, trousers):
            picture[max(begin, 0) : max(end, 0), max(left, 0) : max(left + width, 0)] = color
    grain = generator.normal(0, noise, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def write_video(path, pictures, codec="MJPG", fps=FPS):
    """Write pictures as a video; motion JPEG needs no library but OpenCV."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def write_frames(folder, pictures):
    """Write pictures as PNG files ``1.png``, ``2.png``, ..., whose natural order is theirs."""
    folder.mkdir()
    for number, picture in enumerate(pictures, start=1):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def walker_at(walkers, frame, box):
    """Return the numbers of the walkers whose middle is inside ``box``."""
    left, top, width, height = box
    found = []
    for number, walker in enumerate(walkers):
        x, y, w, h = walker.box(frame)
        if left <= x + w / 2 <= left + width and top <= y + h / 2 <= top + height:
            found.append(number)
    return found
