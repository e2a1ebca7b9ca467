"""The names and the order of the 17 joints of a person, as in COCO, and which are left and right.

This file needs no PyTorch.
"""

from typing import Tuple

#: the joints, in the order of COCO; left and right are the person's own
JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


def _other_side(name: str) -> str:
    side, _, part = name.partition("_")
    other = {"left": "right", "right": "left"}
    return f"{other[side]}_{part}" if part else name


#: for each joint the number of the joint on the other side; the nose has itself
OTHER_SIDE: Tuple[int, ...] = tuple(JOINTS.index(_other_side(name)) for name in JOINTS)

#: pairs of joints that a line joins in pictures
LIMBS: Tuple[Tuple[str, str], ...] = (
    ("left_ear", "left_eye"),
    ("left_eye", "nose"),
    ("nose", "right_eye"),
    ("right_eye", "right_ear"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
