"""Programs of torch.export: a graph of torch operators, without Python or TorchScript."""
