"""The kinds of pictures that people draw of trained models and of runs.

from vireid_plugins.plots import draw_kind, load_subject

model = load_subject("logs/demo/model_final.pth")
draw_kind("tsne", model, "figures", seed=1).paths
"""

from .kinds import Drawn, Kind, all_kinds, draw_kind, register_kind
from .options import option
from .subject import Subject, load_subject, load_subjects

__all__ = [
    "Drawn",
    "Kind",
    "Subject",
    "all_kinds",
    "draw_kind",
    "load_subject",
    "load_subjects",
    "option",
    "register_kind",
]
