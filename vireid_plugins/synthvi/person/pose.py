"""Poses of an articulated 3-D skeleton that walks, and the camera's view of it.

Body frame, meters: x to the person's left, y up, z to the front; the origin is on the ground below
the pelvis. View frame: x right in the image, y up, z toward the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Dict

import numpy as np

from .identity import Body, Gait

Joints = Dict[str, np.ndarray]
SIDES = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class Skeleton:
    """Joints by name (3,), and the axes of torso and head: rows left, up, front."""

    joints: Joints
    torso_axes: np.ndarray
    head_axes: np.ndarray

    def turned(self, rotation: np.ndarray, origin: np.ndarray) -> Skeleton:
        """Return the skeleton turned by ``rotation`` (3, 3) about ``origin`` (3,)."""
        names = list(self.joints)
        points = (np.stack([self.joints[n] for n in names]) - origin) @ rotation.T
        return Skeleton(
            dict(zip(names, points)), self.torso_axes @ rotation.T, self.head_axes @ rotation.T
        )


def rotation_y(angle: float) -> np.ndarray:
    """Return the matrix (3, 3) that turns the front (z) to the left (x) by ``angle`` radians."""
    return np.array([[cos(angle), 0, sin(angle)], [0, 1, 0], [-sin(angle), 0, cos(angle)]])


def rotation_x(angle: float) -> np.ndarray:
    """Return the matrix (3, 3) of a camera that looks down by ``angle`` radians."""
    return np.array([[1, 0, 0], [0, cos(angle), -sin(angle)], [0, sin(angle), cos(angle)]])


def view_rotation(yaw: float, pitch: float) -> np.ndarray:
    """Return the matrix (3, 3) from the body frame to the view frame.

    The person is turned by ``yaw`` and seen from above by ``pitch``, both in radians.
    """
    return rotation_x(pitch) @ rotation_y(yaw)


def _down(angle: float, side_angle: float, length: float) -> np.ndarray:
    """Return a hanging bone (3,), swung forward by ``angle`` and toward +x by ``side_angle``."""
    return length * np.array(
        [sin(side_angle), -cos(angle) * cos(side_angle), sin(angle) * cos(side_angle)]
    )


def make_skeleton(body: Body, gait: Gait, rng: np.random.Generator, variety: float) -> Skeleton:
    """Return one moment of a person's walk, at the origin of the body frame.

    Args:
        variety: scales how much the moment differs from the person's own gait; 1 = as designed.
    """
    phase = rng.uniform(0.0, 2.0 * pi)
    stride = gait.stride * np.clip(1.0 + 0.25 * variety * rng.normal(), 0.1, 1.7)
    lean = gait.lean + 0.04 * variety * rng.normal()
    joints: Joints = {}
    pelvis = np.zeros(3)
    for name, sign in SIDES.items():
        _add_leg(joints, body, name, sign, pelvis, phase, stride)
    lowest = min(joints["left_heel"][1], joints["right_heel"][1])
    twist = 0.25 * stride * sin(phase)
    torso_axes = (rotation_y(-twist) @ _lean_rotation(lean)).T
    left, up, _ = torso_axes
    torso_length = body.height * 0.815 - body.hip_height
    neck = pelvis + torso_length * up
    joints["pelvis"], joints["neck"] = pelvis, neck
    for name, sign in SIDES.items():
        joints[f"{name}_shoulder"] = (
            neck + sign * body.shoulder_half * 0.86 * left - 0.012 * body.height * up
        )
        _add_arm(joints, body, gait, name, sign, phase, rng, variety)
    head_axes = _add_head(joints, body, neck, lean, rng, variety)
    lift = np.array([0.0, -lowest, 0.0])
    return Skeleton({n: p + lift for n, p in joints.items()}, torso_axes, head_axes)


def _lean_rotation(lean: float) -> np.ndarray:
    """Return the matrix (3, 3) whose columns are the axes of a torso bent forward by ``lean``."""
    return np.array([[1, 0, 0], [0, cos(lean), -sin(lean)], [0, sin(lean), cos(lean)]])


def _add_leg(
    joints: Joints,
    body: Body,
    name: str,
    sign: float,
    pelvis: np.ndarray,
    phase: float,
    stride: float,
) -> None:
    moment = phase if sign > 0 else phase + pi
    swing = stride * sin(moment)
    flex = 0.08 + 1.1 * stride * max(0.0, cos(moment))
    half = body.hip_height / 2
    hip = pelvis + np.array([sign * body.hip_half * 0.52, 0.0, 0.0])
    knee = hip + _down(swing, 0.02 * sign, half * 1.02)
    ankle = knee + _down(swing - flex, 0.0, half * 0.90)
    toe_dip = 0.35 * flex - 0.3 * max(0.0, swing)
    foot = body.height * 0.115
    joints[f"{name}_hip"], joints[f"{name}_knee"], joints[f"{name}_ankle"] = hip, knee, ankle
    joints[f"{name}_heel"] = ankle + np.array([0.0, -0.045 * body.height, -0.15 * foot])
    joints[f"{name}_toe"] = ankle + np.array(
        [sign * 0.12 * foot, -0.04 * body.height - foot * sin(toe_dip), foot * cos(toe_dip)]
    )


def _add_arm(
    joints: Joints,
    body: Body,
    gait: Gait,
    name: str,
    sign: float,
    phase: float,
    rng: np.random.Generator,
    variety: float,
) -> None:
    moment = phase + pi if sign > 0 else phase
    swing = gait.arm_swing * sin(moment) + 0.1 * variety * rng.normal()
    bend = gait.elbow + 0.5 * gait.arm_swing * max(0.0, sin(moment))
    bend = max(0.02, bend + 0.12 * variety * rng.normal())
    splay = sign * (0.06 + gait.splay * 0.5)
    elbow = joints[f"{name}_shoulder"] + _down(swing, splay, body.arm)
    wrist = elbow + _down(swing + bend, splay * 0.3, body.arm * 0.86)
    joints[f"{name}_elbow"], joints[f"{name}_wrist"] = elbow, wrist
    joints[f"{name}_hand"] = wrist + _down(swing + bend, 0.0, body.arm * 0.36)


def _add_head(
    joints: Joints,
    body: Body,
    neck: np.ndarray,
    lean: float,
    rng: np.random.Generator,
    variety: float,
) -> np.ndarray:
    turn, nod = 0.3 * variety * rng.normal(), 0.1 * variety * rng.normal() + 0.5 * lean
    axes = (rotation_y(turn) @ _lean_rotation(nod)).T
    left, up, front = axes
    head = neck + up * (body.height * 0.185 - body.head * 1.28) + front * 0.15 * body.head
    joints["head"] = head
    joints["nose"] = head + body.head * (0.98 * front - 0.15 * up)
    for name, sign in SIDES.items():
        joints[f"{name}_eye"] = head + body.head * (0.85 * front + 0.15 * up + 0.38 * sign * left)
        joints[f"{name}_ear"] = head + body.head * (0.85 * sign * left - 0.05 * up)
    return axes
