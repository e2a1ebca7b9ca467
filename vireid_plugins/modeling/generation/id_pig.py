"""ID-PIG of Hi-CMD: generate persons, and learn from how well it succeeds.

S. Choi et al., CVPR 2020; bismex/HiCMD, ``trainer.py``, ``dis_update`` and ``gen_update``. Names of
images are those of ``swaps.py``. n pairs of images, (n, 3, H, W) of each modality.
"""

from typing import Any, Callable, Dict, Mapping, NamedTuple

import torch
from torch import Tensor, nn

from ..losses.adversarial import discriminator_loss, generator_loss, scores_and_penalty
from ..losses.reconstruction import distance, normal_code
from .codes import excluded_of, style_of
from .decoder import Decoder
from .discriminator import Discriminator
from .swaps import Codes, TwoImages, crossed, cycled, relit, restored

#: weights of the terms in the code (``set_option.py``), by the names that keys have in lower case
SCALES = ("same", "cross", "cycle", "code", "kl", "gan", "penalty")
Encode = Callable[[Tensor, Tensor], Codes]  # of visible and of infrared images, visible rows first


class Images(NamedTuple):
    """A pair's real images and what the encoders read from them."""

    real: TwoImages
    visible: Codes
    infrared: Codes


class ImageGeneration(nn.Module):
    """The decoder, a discriminator for each modality, and their losses.

    Args:
        channels: of a prototype.
        code_length: D, of an attribute code.
        hidden: width of the decoder's MLPs.
        width: of the discriminators.
        scales: weight of each term, by the names of ``SCALES``.
        paired_style, kept_codes: see ``swaps.restored`` and ``swaps.cycled``.
    """

    def __init__(
        self,
        *,
        channels: int,
        code_length: int,
        hidden: int,
        width: int,
        scales: Mapping[str, float],
        paired_style: bool = False,
        kept_codes: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = Decoder(channels, code_length, hidden)
        first = Discriminator(width)
        self.discriminators = nn.ModuleDict({"visible": first, "infrared": Discriminator(width)})
        self.discriminators["infrared"].load_state_dict(first.state_dict())  # a copy in the code
        self.scales = dict(scales)
        self.paired_style, self.kept_codes = paired_style, kept_codes

    def discriminator_terms(self, images: Images) -> Dict[str, Tensor]:
        """Compute what the discriminators learn from: real images, crossed ones and relit ones.

        The code adds one loss for the crossed and one for the relit images; each has the real ones.
        """
        with torch.no_grad():
            made = [maker(self.decoder, *images[1:]) for maker in (crossed, relit)]
        losses, penalties = [], []
        for place, judge in enumerate(self.discriminators.values()):
            real, penalty = scores_and_penalty(judge, images.real[place])
            losses += [discriminator_loss(judge(one[place]), real) for one in made]
            penalties.append(len(made) * penalty)
        scale = self.scales["gan"]
        return {
            "loss_discriminator": scale * torch.stack(losses).sum(),
            "loss_penalty": scale * self.scales["penalty"] * torch.stack(penalties).sum(),
        }

    def terms(self, images: Images, made: TwoImages, encode: Encode) -> Dict[str, Tensor]:
        """Compute what encoders and decoder learn from.

        Args:
            images: the pairs.
            made: their crossed images.
            encode: returns the codes of images of both modalities, visible rows first.
        """
        both = encode(*made)
        count = len(made[0])
        as_visible, as_infrared = both.rows(0, count), both.rows(count, 2 * count)
        v, i = images.visible, images.infrared
        again = restored(self.decoder, v, i, self.paired_style)
        back = cycled(self.decoder, v, i, as_visible, as_infrared, self.kept_codes)
        a_v, a_i = v.attributes, i.attributes
        terms = {
            "same": _apart(again, images.real),  # L_recon^same
            "cross": _apart(made, images.real),  # L_recon^cross
            "cycle": _apart(back, images.real),  # L_recon^cycle
            "code": distance(style_of(a_i), style_of(as_visible.attributes))  # L_recon^code
            + distance(style_of(a_v), style_of(as_infrared.attributes))
            + distance(excluded_of(a_v), excluded_of(as_visible.attributes))
            + distance(excluded_of(a_i), excluded_of(as_infrared.attributes)),
            "kl": normal_code(excluded_of(a_v)) + normal_code(excluded_of(a_i)),  # L^kl
            "gan": self._judged(made) + self._judged(relit(self.decoder, v, i)),  # L^adv
        }
        return {f"loss_{name}": self.scales[name] * term for name, term in terms.items()}

    def _judged(self, made: TwoImages) -> Tensor:
        judges: Any = self.discriminators.values()
        return torch.stack([generator_loss(judge(one)) for judge, one in zip(judges, made)]).sum()


def _apart(made: TwoImages, real: TwoImages) -> Tensor:
    return distance(made[0], real[0]) + distance(made[1], real[1])
