"""What each of Caffe2's operators does, on torch and torchvision: those that detectron2 writes."""
