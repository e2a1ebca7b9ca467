"""Draw a person: limbs, garments, head and carried things become parts of a sketch.

`layers` holds the order in which they are painted. Whether things on the back or at the side are
painted before or after the body depends on the view.
"""

from __future__ import annotations

from typing import List, Tuple, TypeVar

import numpy as np

from . import layers
from .identity import Identity, Lower
from .looks import Material
from .patterns import Paint, paint_limb, paint_tube
from .pose import SIDES, Skeleton
from .shapes import Ring, Sketch, Tube, capsule, hull, segment
from .wear import add_carried, add_head, add_torso_pattern

Value = TypeVar("Value", float, np.ndarray)
# pieces of a trouser leg: start, end, radius at start, radius at end
Cloth = List[Tuple[np.ndarray, np.ndarray, float, float]]
ARM_BEHIND = -0.07  # meters: an arm farther back than this is painted before the torso is


def sketch_person(identity: Identity, skeleton: Skeleton) -> Sketch:
    """Return the sketch of ``identity`` in the pose of ``skeleton``, which is in the view frame."""
    sketch = Sketch()
    _add_legs(sketch, identity, skeleton)
    torso = _add_torso(sketch, identity, skeleton)
    for name in SIDES:
        _add_arm(sketch, identity, skeleton, name)
    add_head(sketch, identity, skeleton)
    add_carried(sketch, identity, skeleton, torso)
    return sketch


def _mix(start: Value, end: Value, part: float) -> Value:
    """Return the value at ``part`` of the way from ``start`` (0) to ``end`` (1)."""
    return start + (end - start) * part


def _leg_radii(identity: Identity) -> Tuple[float, float, float]:
    """Return the radii of a leg at hip, knee and ankle, in meters."""
    scale = identity.body.height * identity.body.girth
    return 0.049 * scale, 0.034 * scale, 0.022 * scale


def _leg_point(skeleton: Skeleton, name: str, part: float) -> np.ndarray:
    """Return the point of a leg at ``part`` of its length: 0 hip, 0.5 knee, 1 ankle."""
    hip, knee, ankle = (skeleton.joints[f"{name}_{j}"] for j in ("hip", "knee", "ankle"))
    return _mix(hip, knee, 2 * part) if part < 0.5 else _mix(knee, ankle, 2 * part - 1)


def _add_legs(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> None:
    thigh, knee, ankle = _leg_radii(identity)
    for name in SIDES:
        joints = skeleton.joints
        hip_at, knee_at, ankle_at = (joints[f"{name}_{j}"] for j in ("hip", "knee", "ankle"))
        depth = float(knee_at[2])
        layer = layers.LEGS + 0.4 * float(np.clip(depth, -1, 1))
        sketch.add(layer, capsule(hip_at, knee_at, thigh, knee), Material.SKIN, depth=depth)
        calf = _mix(knee_at, ankle_at, 0.35)
        sketch.add(layer, capsule(knee_at, calf, knee, knee), Material.SKIN, depth=depth)
        sketch.add(layer, capsule(calf, ankle_at, knee, ankle), Material.SKIN, depth=depth)
        _add_shoe(sketch, identity, skeleton, name, layer, depth)
        if identity.lower.kind != "skirt":
            _add_trouser_leg(sketch, identity, skeleton, name, layer, depth)
    _add_hips(sketch, identity, skeleton)


def _add_shoe(
    sketch: Sketch,
    identity: Identity,
    skeleton: Skeleton,
    name: str,
    layer: float,
    depth: float,
) -> None:
    _, knee, ankle = _leg_radii(identity)
    joints = skeleton.joints
    at, toe, heel = (joints[f"{name}_{j}"] for j in ("ankle", "toe", "heel"))
    size = identity.body.height * 0.020
    outline = np.concatenate([capsule(heel, toe, size, size * 0.9), capsule(at, heel, ankle, size)])
    sketch.add(layer, hull(outline), Material.SHOES, depth=depth, raised=0.02)
    if identity.lower.boot > 0.05:
        top = _leg_point(skeleton, name, 1 - 0.5 * identity.lower.boot)
        wide = ankle + (knee - ankle) * min(1.0, identity.lower.boot * 1.4)
        sketch.add(layer, segment(at, top, ankle * 1.2, wide * 1.12), Material.SHOES, depth=depth)


def _add_trouser_leg(
    sketch: Sketch,
    identity: Identity,
    skeleton: Skeleton,
    name: str,
    layer: float,
    depth: float,
) -> None:
    lower = identity.lower
    thigh, knee, ankle = _leg_radii(identity)
    slack = lower.width
    hem = ankle + (knee - ankle) * 0.45 if slack > 1.05 else ankle  # cloth hangs off the ankle
    if lower.kind == "wide":
        hem = knee * 1.05
    joints = skeleton.joints
    hip_at, knee_at = joints[f"{name}_hip"], joints[f"{name}_knee"]
    end_at = _leg_point(skeleton, name, lower.length)
    if lower.length <= 0.5:
        part = lower.length * 2
        radius = _mix(thigh, knee, part) * slack
        cloth = [(hip_at, end_at, thigh * 1.05 * min(slack, 1.3), radius)]
    else:
        part = lower.length * 2 - 1
        radius = _mix(knee, hem, part) * slack
        cloth = [
            (hip_at, knee_at, thigh * 1.05 * min(slack, 1.3), knee * slack),
            (knee_at, end_at, knee * slack, radius),
        ]
    for start, end, start_radius, end_radius in cloth:
        joint = capsule(start, start + 1e-4, start_radius, start_radius)
        leg = segment(start, end, start_radius, end_radius)
        for outline in (joint, leg):
            sketch.add(layer, outline, Material.LOWER, depth=depth)
    _add_leg_pattern(sketch, lower, skeleton, name, layer, depth, cloth)


def _add_leg_pattern(
    sketch: Sketch,
    lower: Lower,
    skeleton: Skeleton,
    name: str,
    layer: float,
    depth: float,
    cloth: Cloth,
) -> None:
    kind, pattern = lower.pattern.kind, Material.LOWER_PATTERN
    start, end, start_radius, end_radius = cloth[-1]
    if kind == "hem" or (kind == "half" and len(cloth) == 1):
        part = 0.65 if kind == "hem" else 0.4
        radius = _mix(start_radius, end_radius, part)
        band = segment(_mix(start, end, part), end, radius, end_radius)
        sketch.add(layer, band, pattern, depth=depth)
    elif kind == "half":
        sketch.add(layer, segment(start, end, start_radius, end_radius), pattern, depth=depth)
    elif kind == "knee" and len(cloth) == 2:
        top = _mix(cloth[0][0], cloth[0][1], 0.78)
        radius = cloth[0][3] * 1.02
        sketch.add(layer, segment(top, _mix(start, end, 0.3), radius, radius), pattern, depth=depth)
    elif kind == "side":
        outward = skeleton.torso_axes[0] * SIDES[name]
        if outward[2] > -0.35:
            for first, last, first_radius, last_radius in cloth:
                a, b = first + outward * first_radius * 0.7, last + outward * last_radius * 0.7
                strip = segment(a, b, first_radius * 0.3, last_radius * 0.3)
                sketch.add(layer, strip, pattern, depth=depth)
    else:
        rows = max(2, round(lower.pattern.count * 0.7))
        paint = Paint(sketch, layer, pattern, depth)
        for first, last, *radii in cloth:
            paint_limb(paint, first, last, radii, lower.pattern, rows)


def _ring_around_legs(identity: Identity, skeleton: Skeleton, part: float, slack: float) -> Ring:
    """Return a ring of cloth around both legs at ``part`` of their length."""
    left, _, front = skeleton.torso_axes
    a, b = (_leg_point(skeleton, name, part) for name in SIDES)
    thigh, knee, ankle = _leg_radii(identity)
    radius = _mix(thigh, knee, 2 * part) if part < 0.5 else _mix(knee, ankle, 2 * part - 1)
    apart = a - b
    across = max(abs(float(apart @ left)) / 2 + radius, identity.body.hip_half * 0.92)
    deep = max(abs(float(apart @ front)) / 2 + radius, identity.body.depth_half)
    return (a + b) / 2, across * slack, deep * slack


def _add_hips(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> None:
    body, lower = identity.body, identity.lower
    left, up, front = skeleton.torso_axes
    pelvis = skeleton.joints["pelvis"]
    length, slack = (lower.length, lower.width) if lower.kind == "skirt" else (0.07, 1.0)
    rings: List[Ring] = []
    for step in range(4):
        part = length * (1 - step / 4)
        rings.append(_ring_around_legs(identity, skeleton, part, 1 + (slack - 1) * (1 - step / 4)))
    rings.append((pelvis + up * 0.02, body.hip_half, body.depth_half * 1.1))
    rings.append((pelvis + up * 0.075 * body.height, body.waist_half, body.depth_half))
    tube = Tube.of_rings(rings, left, front)
    depth = float(pelvis[2])
    sketch.add(layers.SKIRT, tube.outline(), Material.LOWER, depth=depth, raised=0.03)
    if lower.kind == "skirt":
        paint = Paint(sketch, layers.SKIRT, Material.LOWER_PATTERN, depth, 0.03)
        bands = {"hem": (0.0, 0.16), "half": (0.0, 0.4), "knee": (0.2, 0.34)}
        if lower.pattern.kind in bands:
            paint.add(tube.band(*bands[lower.pattern.kind]))
        else:
            paint_tube(paint, tube, lower.pattern, 0.4 + lower.length)


def _add_torso(sketch: Sketch, identity: Identity, skeleton: Skeleton) -> Tube:
    body, upper = identity.body, identity.upper
    left, up, front = skeleton.torso_axes
    pelvis, neck = skeleton.joints["pelvis"], skeleton.joints["neck"]
    slack, thick = upper.looseness, body.depth_half
    rings: List[Ring] = []
    if upper.hem > 0.02:
        flare = upper.flare * 0.6
        for step in range(3):
            part = upper.hem * (1 - step / 3)
            widening = slack * (1 + flare * upper.hem * (1 - step / 3))
            rings.append(_ring_around_legs(identity, skeleton, part, widening))
    fitted = 0.5 * (slack - 1) + 1
    top = body.shoulder_half
    trunk = (
        (0.0, body.hip_half * fitted, thick * 1.1),
        (0.33, body.waist_half * slack, thick),
        (0.68, top * 0.86 * fitted, thick * 1.12),
        (0.90, top * 0.92 * fitted, thick * 1.0),
        (0.985, top * 0.72, thick * 0.7),
        (1.03, body.head * 0.62, thick * 0.5),
    )
    rings += [(_mix(pelvis, neck, part), a, b * slack) for part, a, b in trunk]
    tube = Tube.of_rings(rings, left, front)
    depth = float(_mix(pelvis, neck, 0.6)[2])
    sketch.add(layers.TORSO, tube.outline(), Material.UPPER, depth=depth, raised=0.05)
    add_torso_pattern(sketch, identity, tube, depth, 1 + 1.5 * max(0.0, upper.hem))
    return tube


def _add_arm(sketch: Sketch, identity: Identity, skeleton: Skeleton, name: str) -> None:
    upper, scale = identity.upper, identity.body.height * identity.body.girth
    shoulder, elbow, wrist, hand = (
        skeleton.joints[f"{name}_{j}"] for j in ("shoulder", "elbow", "wrist", "hand")
    )
    depth = float(_mix(shoulder, wrist, 0.4)[2])
    reference = float(skeleton.joints["neck"][2])
    near = depth - reference > ARM_BEHIND
    layer = (layers.NEAR_ARM if near else layers.FAR_ARM) + 0.1 * depth
    wide, middle, thin = 0.029 * scale, 0.023 * scale, 0.0165 * scale
    surface = {"depth": depth, "raised": 0.09}
    for start, end, a, b in (
        (shoulder, elbow, wide, middle),
        (elbow, wrist, middle, thin),
        (wrist, hand, thin, thin * 1.15),
    ):
        sketch.add(layer, capsule(start, end, a, b), Material.SKIN, **surface)
    if upper.sleeve <= 0.02:
        return
    material = Material.UPPER_PATTERN if upper.pattern.kind == "sleeves" else Material.UPPER
    slack = upper.looseness * 1.08
    part = min(1.0, upper.sleeve * 2)
    end = _mix(shoulder, elbow, part)
    sleeve = segment(shoulder, end, wide * slack, _mix(wide, middle, part) * slack)
    cap = capsule(shoulder, shoulder + 1e-4, wide * slack, wide * slack)
    sketch.add(layer, cap, material, **surface)
    sketch.add(layer, sleeve, material, **surface)
    if upper.sleeve > 0.5:
        cuff = _mix(elbow, wrist, upper.sleeve * 2 - 1)
        forearm = capsule(elbow, cuff, middle * slack, thin * slack * 1.25)
        sketch.add(layer, forearm, material, **surface)
    paint = Paint(sketch, layer, Material.UPPER_PATTERN, **surface)
    if upper.pattern.kind == "yoke":
        paint.add(cap)
        paint.add(segment(shoulder, _mix(shoulder, elbow, 0.35), wide * slack, wide * slack))
    rows = max(2, round(upper.pattern.count * 0.6))
    radii = (wide * slack, middle * slack)
    paint_limb(paint, shoulder, end, radii, upper.pattern, max(1, round(rows * part)))
    if upper.sleeve > 0.5:
        paint_limb(paint, elbow, cuff, (middle * slack, thin * slack * 1.2), upper.pattern, rows)
