"""The archive in the tools with which people label and look: CVAT, Label Studio and FiftyOne.

cvat_function | label_studio_server -> label_studio | fiftyone_model -> regions -> asking

Each tool's own package is imported in its module alone.
"""
