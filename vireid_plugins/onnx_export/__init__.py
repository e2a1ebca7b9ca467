"""Write trained models as ONNX files, after comparing them with PyTorch."""

from .export import DifferentFeaturesError, Exported, ExportError, export_onnx

__all__ = ["DifferentFeaturesError", "ExportError", "Exported", "export_onnx"]
