"""A batch of images of mixed sizes in one program, where a trace would hold one image's loop."""
