"""Models as ONNX files that answer for a film of any size, and what a graph of them needs."""
