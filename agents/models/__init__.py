"""Reads and writes trained models: part, manifest, full model, ONNX, scorer, scores."""
