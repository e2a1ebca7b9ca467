"""SynthVI: a rendered visible-infrared person dataset in the layouts of the real ones.

Needs NumPy, OpenCV, SciPy and tqdm only. Start at `render_dataset`; one image comes from
`render.render_image`; who, where and how are drawn in ``identity``, ``camera``, ``scene`` and
``pose``.
"""

from .annotations import Annotations
from .dataset import render_dataset
from .preview import write_preview
from .settings import LAYOUT_FOLDERS, PRESETS, Settings, make_settings

__all__ = [
    "LAYOUT_FOLDERS",
    "PRESETS",
    "Annotations",
    "Settings",
    "make_settings",
    "render_dataset",
    "write_preview",
]
