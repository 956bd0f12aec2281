"""Which of detectron2's model-zoo configurations export, by each method and to each runtime."""
