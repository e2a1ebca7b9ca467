"""The order in which the parts of a person are painted, from far to near.

Parts on one layer are painted in the order in which they were added; limbs add a share of their
depth to the number of their layer.
"""

from __future__ import annotations

FAR_ARM = 0.0
FAR_LUGGAGE = 0.45
FAR_BAG = 0.5
LEGS = 1.0
SKIRT = 2.0
FAR_BACKPACK = 2.5
FAR_HAIR = 2.6
FAR_HOOD = 2.7
TORSO = 3.0
NECK = 3.2
SIDE_BACKPACK = 3.4
STRAP = 3.45
COLLAR = 3.95
HEAD = 4.0
FACE = 4.1
EYES = 4.15
NEAR_HAIR = 4.2
SCARF_END = 4.28
NEAR_HOOD = 4.35
HAT = 4.45
BRIM = 4.5
NEAR_ARM = 5.0
NEAR_BAG = 5.3
NEAR_BACKPACK = 5.4
LUGGAGE = 5.5
