"""Files with which other platforms run an archive: images and manifests, from templates.

writing -> targets
"""
