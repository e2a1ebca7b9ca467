"""What Hi-CMD makes of a pair of images: crossed, restored, cycled and relit ones.

Of a visible image v and an infrared one i of the same person, p is the prototype (what is where),
a^s the style (the person's clothes), a^p the pose and a^c the illumination; a^ex = [a^p; a^c].
G(p, a) is the decoder. n pairs, (C, H, W) a prototype, D the length of an attribute code.
"""

from typing import Any, NamedTuple, Tuple

from torch import Tensor

from .codes import mixed

TwoImages = Tuple[Tensor, Tensor]  # of the visible and of the infrared modality, (n, 3, H, W) each


class Codes(NamedTuple):
    """What the encoders read from images."""

    prototypes: Tensor  # (n, C, H, W)
    attributes: Tensor  # (n, D)

    def rows(self, start: int, stop: int) -> "Codes":
        """Return the codes of some of the images."""
        return Codes(self.prototypes[start:stop], self.attributes[start:stop])


def crossed(decoder: Any, v: Codes, i: Codes) -> TwoImages:
    """Return G(p_i, a_i^s, a_v^ex) and G(p_v, a_v^s, a_i^ex): pose and illumination swapped."""
    a_v, a_i = v.attributes, i.attributes
    return (
        decoder(i.prototypes, mixed(a_i, a_v, a_v)),
        decoder(v.prototypes, mixed(a_v, a_i, a_i)),
    )


def relit(decoder: Any, v: Codes, i: Codes) -> TwoImages:
    """Return G(p_i, a_i^s, a_i^p, a_v^c) and G(p_v, a_v^s, a_v^p, a_i^c): illumination swapped."""
    a_v, a_i = v.attributes, i.attributes
    return (
        decoder(i.prototypes, mixed(a_i, a_i, a_v)),
        decoder(v.prototypes, mixed(a_v, a_v, a_i)),
    )


def restored(decoder: Any, v: Codes, i: Codes, paired_style: bool = False) -> TwoImages:
    """Return G(p_v, a_v) and G(p_i, a_i), which should be the images themselves.

    Args:
        paired_style: take the style from the other image of the pair, as the public code does.
    """
    a_v, a_i = v.attributes, i.attributes
    if paired_style:
        a_v, a_i = mixed(a_i, a_v, a_v), mixed(a_v, a_i, a_i)
    return decoder(v.prototypes, a_v), decoder(i.prototypes, a_i)


def cycled(
    decoder: Any, v: Codes, i: Codes, as_visible: Codes, as_infrared: Codes, kept: bool = False
) -> TwoImages:
    """Return the images that swapping back gives, which should be the first ones again.

    Args:
        as_visible: what the encoders read from the first crossed image: the infrared image's
            prototype and style, the visible one's pose and illumination.
        as_infrared: from the second: the visible image's prototype and style.
        kept: take the attributes from the images of the pair, as the public code does, and not
            from the crossed ones.
    """
    of_v, of_i = as_infrared.attributes, as_visible.attributes  # the style's owners
    if kept:
        a_v, a_i = v.attributes, i.attributes
        codes = mixed(a_i, a_v, a_v), mixed(a_v, a_i, a_i)
    else:
        codes = mixed(of_v, of_i, of_i), mixed(of_i, of_v, of_v)
    return decoder(as_infrared.prototypes, codes[0]), decoder(as_visible.prototypes, codes[1])
