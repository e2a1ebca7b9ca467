"""Consecutive stages of a network, of which the first ones are separate for each modality.

B images; a stage turns a tensor (B, ...) into another. ``DualStreamBackbone`` passes maps from
stage to stage, ``DualStreamViT`` passes tokens.
"""

import copy
from typing import List, Mapping, Sequence, Tuple

from torch import Tensor, nn

from ...errors import UserError
from ...keys import check_values
from ...modality import apply_per_modality
from ..checkpointing import checkpoint_parts
from ..maps import Tap


class TwoStreams(nn.Module):
    """Stages in two streams, then in one.

    Both streams begin with the same weights.

    Args:
        stages: the stages by name, in the order in which they run.
        unshared_stages: stages with separate weights, 0 (none) to all, from the image on.
        frozen_stages: stages that never train, 0 to all, from the image on.
        meaning: what the recorded maps are.

    Raises:
        UserError: a number is out of its range.
    """

    takes_modalities = True
    #: whether stages pass tokens (B, T, D) to each other, and not maps (B, C, H, W)
    passes_tokens = False
    #: stages after which something shared follows, see ``after_stage``
    joins: Tuple[str, ...] = ()
    #: names of parameters that no pretrained file has: they learn at the rate of the head
    new_parameters: Tuple[str, ...] = ()

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        unshared_stages: int,
        frozen_stages: int,
        meaning: str = "(B, C, H, W)",
    ) -> None:
        super().__init__()
        names = tuple(stages)
        check_values("MODEL.BACKBONE", UNSHARED_STAGES=unshared_stages, FROZEN_STAGES=frozen_stages)
        for key, count in (("UNSHARED_STAGES", unshared_stages), ("FROZEN_STAGES", frozen_stages)):
            if count > len(names):
                raise UserError(
                    f"MODEL.BACKBONE.{key} is {count}; expected 0 to {len(names)}, the number of "
                    f"stages of this backbone: {_in_short(names)}."
                )
        self.stages = names
        self.unshared = names[:unshared_stages]
        self.frozen = names[:frozen_stages]
        self.visible = nn.ModuleDict({name: stages[name] for name in self.unshared})
        self.infrared = copy.deepcopy(self.visible)
        self.shared = nn.ModuleDict({n: stages[n] for n in names if n not in self.unshared})
        self.taps = nn.ModuleDict(
            {name: Tap(name, f"output of {name}, {meaning}") for name in names}
        )
        self._freeze()

    def forward_stages(self, inputs: Tensor, modalities: Tensor, stages: Sequence[str]) -> Tensor:
        """Run only ``stages``, for a method that works on what passes between two of them.

        Args:
            inputs: images, or the output of the stage before; (B, ...).
            modalities: (B,).
            stages: consecutive names of ``self.stages``, such as ``backbone.stages[:2]``; if there
                are none, ``inputs`` are returned.

        Returns:
            The last of these stages' output, (B, C, H', W') or tokens (B, T, D), rows in batch
            order.

        Raises:
            UserError: ``stages`` are not consecutive stages.
        """
        stages = self.consecutive(stages)
        outputs = inputs
        for names in self._segments([name for name in stages if name in self.unshared]):
            streams = [
                nn.Sequential(*(stream[name] for name in names))
                for stream in (self.visible, self.infrared)
            ]
            outputs = apply_per_modality(streams, outputs, modalities)
            outputs = self.after_stage(names[-1], outputs, modalities)
        for name in stages:
            if name in self.shared:
                outputs = self.after_stage(name, self.shared[name](outputs), modalities)
        return outputs

    def consecutive(self, stages: Sequence[str]) -> Tuple[str, ...]:
        """Return ``stages`` as a tuple.

        Raises:
            UserError: they are not consecutive stages of this backbone.
        """
        chosen, known = tuple(stages), self.stages
        if chosen not in {known[i : i + len(chosen)] for i in range(len(known))}:
            raise UserError(f"Expected consecutive stages of {known}; got {chosen}.")
        return chosen

    def after_stage(self, name: str, outputs: Tensor, modalities: Tensor) -> Tensor:
        """Return the outputs of a stage; a subclass adds what belongs to no stream."""
        return self.taps[name](outputs)

    def _segments(self, names: Sequence[str]) -> List[List[str]]:
        """Cut ``names`` into segments that end where streams must join; each sorts rows once."""
        segments: List[List[str]] = [[]]
        for name in names:
            segments[-1].append(name)
            if self.taps[name].wanted or name in self.joins:
                segments.append([])
        return [segment for segment in segments if segment]

    def train(self, mode: bool = True) -> "TwoStreams":
        """Set the mode; frozen stages stay in evaluation mode: constant batch norm, no dropout."""
        super().train(mode)
        for stage in self._frozen_modules():
            stage.eval()
        return self

    def checkpoint_activations(self, on: bool = True) -> None:
        """Keep only the inputs of stem and blocks for the backward pass; compute the rest again."""
        checkpoint_parts(self, on)

    def streams_of(self, stage: str) -> Tuple[str, ...]:
        """Return the names of the module dicts that hold a stage: one, or one for each modality."""
        return ("visible", "infrared") if stage in self.unshared else ("shared",)

    def _frozen_modules(self) -> List[nn.Module]:
        streams = (self.visible, self.infrared, self.shared)
        return [stream[name] for name in self.frozen for stream in streams if name in stream]

    def _freeze(self) -> None:
        for stage in self._frozen_modules():
            stage.requires_grad_(False)


def _in_short(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 7 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
