//! ONNX models: import as a cost graph, cut into valid fragments, packages on disk.
