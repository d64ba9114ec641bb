"""Reads and writes trained models: model part, manifest, full model, ONNX, scorer, scores."""
