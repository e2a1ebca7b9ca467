"""SynthVI: a rendered visible-infrared person dataset in the layouts of the real ones.

Start at `render_dataset`. `render.render_image` renders one image: the package ``person`` decides
who is drawn and in which pose, ``place`` decides where and by which camera.

Rendering needs NumPy, OpenCV and tqdm, and SciPy for SYSU-MM01's file of permutations. Importing
this package imports ``vireid_plugins``, which loads PyTorch and FastReID; the processes that render
load neither (see ``workers``).
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
