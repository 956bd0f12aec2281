"""A real TorchServe as a child process.

process -> startup, launch, settings, clients -> log_reader, directories, properties, ports
"""
