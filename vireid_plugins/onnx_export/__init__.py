"""Trained models as ONNX files that are compared with PyTorch before they are written."""

from .export import Exported, ExportError, export_onnx

__all__ = ["ExportError", "Exported", "export_onnx"]
