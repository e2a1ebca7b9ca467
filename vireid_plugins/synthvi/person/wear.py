"""What a person wears on torso and head, and carries: patterns, hair, hats, bags."""

from __future__ import annotations

from math import pi
from typing import Iterable

import numpy as np

from . import layers
from .identity import Identity
from .looks import Material
from .patterns import BACK, FRONT, Paint, add_strip, paint_tube
from .pose import SIDES, Skeleton
from .shapes import Sketch, Tube, capsule, head_patch, segment


def add_torso_pattern(
    sketch: Sketch, identity: Identity, tube: Tube, depth: float, length: float
) -> None:
    """Paint the pattern and the open front of the upper garment on its ``tube``.

    Args:
        length: the length of the garment, in torsos.
    """
    upper = identity.upper
    paint = Paint(sketch, layers.TORSO, Material.UPPER_PATTERN, depth, 0.05)
    paint_tube(paint, tube, upper.pattern, length)
    if upper.open_front:
        paint = Paint(sketch, layers.TORSO, Material.INNER, depth, 0.05)
        add_strip(paint, tube, 0.0, 0.97, FRONT, 0.33)


def add_head(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> None:
    """Add neck, head, hair, headwear, scarf and hood."""
    body, style, joints = identity.body, identity.head, skeleton.joints
    center, neck, axes = joints["head"], joints["neck"], skeleton.head_axes
    depth, facing = float(center[2]), float(axes[2, 2])
    throat = body.head * 0.52
    base = neck - 0.02 * axes[1]
    column = capsule(base, center, throat, throat)
    sketch.add(layers.NECK, column, Material.SKIN, depth=depth, raised=0.02)
    skull = body.head * np.array([0.98, 1.28, 1.08])
    bald = style.hair == "bald"
    volume = 1.0 if bald else style.volume
    _add_long_hair(sketch, identity, skeleton, facing)
    whole = head_outline(center + 0.06 * (volume - 1) * axes[1], skull * volume, axes)
    surface = Material.SKIN if bald else Material.HAIR
    sketch.add(layers.HEAD, whole, surface, depth=depth, raised=0.06)
    if not bald:
        wide = 1.15 if style.hair in ("bob", "long", "afro") else 1.4
        face = head_patch(center, skull, axes, wide, -1.45, 0.5)
        sketch.add(layers.FACE, face, Material.SKIN, depth=depth, raised=0.08)
    for side in (-1.0, 1.0):
        at = joints["nose"] + body.head * (0.32 * axes[1] + 0.36 * side * axes[0] - 0.18 * axes[2])
        if facing + 0.8 * side * float(axes[0, 2]) > 0.25:
            eye = capsule(at, at + 0.12 * body.head * side * axes[0], 0.01, 0.01, steps=2)
            sketch.add(layers.EYES, eye, Material.EYES, depth=depth, raised=0.08)
    _add_headwear(sketch, identity, skeleton, skull * max(volume, 1.05), facing)
    if style.scarf:
        wrap = head_outline(neck, body.head * np.array([1.1, 0.42, 0.95]), skeleton.torso_axes)
        end = neck + 0.1 * axes[0] + body.depth_half * axes[2]
        tail = segment(end, end - 0.16 * body.height * skeleton.torso_axes[1], 0.045, 0.05)
        if skeleton.torso_axes[2, 2] > -0.2:
            sketch.add(layers.SCARF_END, tail, Material.SCARF, depth=depth, raised=0.07)
        sketch.add(layers.COLLAR, wrap, Material.SCARF, depth=depth, raised=0.06)
    if identity.upper.hood:
        _add_hood(sketch, identity, skeleton, facing)


def head_outline(center: np.ndarray, radii: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the silhouette (16, 3) of an ellipsoid with half axes ``radii`` along ``axes``."""
    shape = (axes[:, :2] * radii[:, None]).T
    values, vectors = np.linalg.eigh(shape @ shape.T)
    angle = np.linspace(0, 2 * pi, 16, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)]) * np.sqrt(np.maximum(values, 0))[:, None]
    flat = (vectors @ circle).T
    return center + np.concatenate([flat, np.zeros((16, 1))], axis=1)


def _add_long_hair(sketch: Sketch, identity: Identity, skeleton: Skeleton, facing: float) -> None:
    style, size = identity.head, identity.body.head
    center, (left, up, front) = skeleton.joints["head"], skeleton.head_axes
    behind = facing > 0.1
    layer = layers.FAR_HAIR if behind else layers.NEAR_HAIR
    surface = {"depth": float(center[2]), "raised": 0.0 if behind else 0.08}
    back = center - 0.35 * size * front
    if style.hair in ("long", "bob"):
        fall = style.length if style.hair == "long" else 0.35
        wide = size * style.volume
        tube = Tube(
            [back - up * size * (1.0 + 1.5 * fall), back - up * size * 0.6, back + up * size * 0.4],
            [wide * 0.85, wide * 1.12, wide],
            [wide * 0.35, wide * 0.8, wide * 0.9],
            left,
            front,
        )
        sketch.add(layer, tube.outline(), Material.HAIR, **surface)
    elif style.hair == "ponytail":
        root = center - 1.1 * size * front + 0.4 * size * up
        tip = root - up * size * (0.9 + 1.1 * style.length) - 0.4 * size * front
        tail = capsule(root, tip, size * 0.42, size * 0.28)
        sketch.add(layer, tail, Material.HAIR, **surface)
    elif style.hair == "bun":
        at = center + 1.35 * size * up - 0.45 * size * front
        knot = capsule(at, at + 1e-4, size * 0.5, size * 0.5)
        sketch.add(layers.COLLAR, knot, Material.HAIR, **surface)


def _add_headwear(
    sketch: Sketch, identity: Identity, skeleton: Skeleton, skull: np.ndarray, facing: float
) -> None:
    kind, size = identity.head.headwear, identity.body.head
    if kind == "none":
        return
    center, axes = skeleton.joints["head"], skeleton.head_axes
    surface = {"depth": float(center[2]), "raised": 0.09}
    radii = skull * (1.12 if kind == "beanie" else 1.06)
    dome = head_patch(center, radii, axes, pi, 0.28 if kind == "beanie" else 0.42, 1.5)
    sketch.add(layers.HAT, dome, Material.HEADWEAR, **surface)
    if kind == "brim":
        wide = radii * np.array([1.7, 0.12, 1.7])
        brim = head_outline(center + axes[1] * radii[1] * 0.42, wide, axes)
        sketch.add(layers.BRIM, brim, Material.HEADWEAR, **surface)
    elif kind == "cap" and facing > -0.5:
        start = center + axes[1] * radii[1] * 0.42 + axes[2] * size * 0.5
        peak = capsule(start, start + axes[2] * size * 1.25, size * 0.62, size * 0.5)
        flat = peak.copy()
        flat[:, 1] = start[1] + (peak[:, 1] - start[1]) * 0.35
        sketch.add(layers.BRIM, flat, Material.HEADWEAR, **surface)


def _add_hood(sketch: Sketch, identity: Identity, skeleton: Skeleton, facing: float) -> None:
    size = identity.body.head
    neck, (left, up, front) = skeleton.joints["neck"], skeleton.torso_axes
    at = neck - front * size * 0.75 + up * size * 0.1
    radii = size * np.array([1.25, 0.8, 0.7])
    outline = head_outline(at, radii, np.stack([left, up, front]))
    layer = layers.FAR_HOOD if facing > 0 else layers.NEAR_HOOD
    raised = -0.02 if facing > 0 else 0.1
    sketch.add(layer, outline, Material.UPPER, depth=float(neck[2]), raised=raised)


def add_carried(sketch: Sketch, identity: Identity, skeleton: Skeleton, torso: Tube) -> None:
    """Add what the person carries."""
    kind = identity.carried.kind
    if kind == "backpack":
        _add_backpack(sketch, identity, skeleton, torso)
    elif kind == "crossbody":
        _add_crossbody(sketch, identity, skeleton)
    elif kind != "none":
        _add_hand_luggage(sketch, identity, skeleton)


def _box(
    at: np.ndarray,
    axes: Iterable[np.ndarray],
    half_width: float,
    half_height: float,
    half_depth: float,
) -> Tube:
    """Return a tube like a box around ``at``; its ``axes`` are left, up, front."""
    left, up, front = axes
    heights = (-1.0, -0.92, 0.85, 1.0)
    widths = (0.9, 1.0, 1.0, 0.75)
    centers = [at + up * half_height * h for h in heights]
    return Tube(
        centers, [half_width * w for w in widths], [half_depth * w for w in widths], left, front
    )


def _add_backpack(sketch: Sketch, identity: Identity, skeleton: Skeleton, torso: Tube) -> None:
    body, size = identity.body, identity.carried.size
    axes = skeleton.torso_axes
    pelvis, neck = skeleton.joints["pelvis"], skeleton.joints["neck"]
    thick = body.depth_half * (0.7 + 0.35 * size)
    at = pelvis + (neck - pelvis) * 0.62 - axes[2] * (body.depth_half + thick)
    tube = _box(at, axes, body.shoulder_half * 0.78 * size, body.height * 0.125 * size, thick)
    if axes[2, 2] < -0.25:
        layer = layers.NEAR_BACKPACK
    else:
        layer = layers.SIDE_BACKPACK if axes[2, 2] < 0 else layers.FAR_BACKPACK
    depth = float(at[2])
    sketch.add(layer, tube.outline(), Material.BAG, depth=depth, raised=0.06)
    for v0, v1 in ((0.12, 0.42), (0.8, 0.86)):
        pocket = Paint(sketch, layer + 0.01, Material.BAG_DETAIL, depth, 0.06)
        add_strip(pocket, tube, v0, v1, BACK, 0.9)
    strap = Paint(sketch, layers.STRAP, Material.BAG, float(neck[2]), 0.06)
    for side in (-1, 1):
        add_strip(strap, torso, 0.5, 0.97, FRONT + side * 0.75, 0.16)


def _add_crossbody(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> None:
    body, side, size = identity.body, identity.carried.side, identity.carried.size
    left, up, front = skeleton.torso_axes
    pelvis, neck = skeleton.joints["pelvis"], skeleton.joints["neck"]
    shoulder = neck - side * left * body.shoulder_half * 0.6
    at = pelvis + side * left * body.hip_half * 1.3 - up * 0.05 * body.height
    toward = float(side * left[2])
    layer = layers.NEAR_BAG if toward > -0.3 else layers.FAR_BAG
    bag = _box(at, (front, up, left), body.height * 0.075 * size, body.height * 0.06 * size, 0.05)
    depth = float(at[2])
    sketch.add(layer, bag.outline(), Material.BAG, depth=depth, raised=0.06)
    sketch.add(layer + 0.01, bag.band(0.55, 0.95), Material.BAG_DETAIL, depth=depth, raised=0.06)
    out = front if front[2] > 0 else -front
    lift = out * body.depth_half * 1.15
    strap = segment(shoulder + lift * 0.7, at + lift * 0.8, 0.022, 0.022)
    sketch.add(layers.STRAP, strap, Material.BAG, depth=float(neck[2]), raised=0.06)


def _add_hand_luggage(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> None:
    body, side = identity.body, identity.carried.side
    kind, size = identity.carried.kind, identity.carried.size
    name = next(n for n, s in SIDES.items() if s == side)
    hand = skeleton.joints[f"{name}_hand"]
    left, up, front = skeleton.torso_axes
    upright = np.array([0.0, up[1], up[2]])
    near = float(hand[2] - skeleton.joints["pelvis"][2]) > -0.05
    layer = layers.LUGGAGE if near else layers.FAR_LUGGAGE
    width, height, deep, drop = {
        "handbag": (0.085, 0.07, 0.035, 0.10),
        "box": (0.10, 0.055, 0.07, 0.02),
        "suitcase": (0.10, 0.155, 0.06, 0.2),
    }[kind]
    tall = body.height * size
    at = hand - upright * drop * tall
    tube = _box(at, (front, upright, left), width * tall, height * tall, deep * tall)
    depth = float(at[2])
    handle = segment(hand, at + upright * height * tall, 0.012, 0.03)
    sketch.add(layer, handle, Material.BAG_DETAIL, depth=depth, raised=0.06)
    sketch.add(layer + 0.01, tube.outline(), Material.BAG, depth=depth, raised=0.06)
    sketch.add(layer + 0.02, tube.band(0.4, 0.62), Material.BAG_DETAIL, depth=depth, raised=0.06)
