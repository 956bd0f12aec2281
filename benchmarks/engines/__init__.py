"""One archive on TorchServe, Ray Serve, KServe's server and Triton, asked by the same clients."""
