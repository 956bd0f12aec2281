// From what a program answers to detections in the image that was sent.
#pragma once

#include "d2serve_cpp/input.h"
#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"
#include "d2serve_cpp/tensor.h"

namespace d2serve {

/// Brings a program's outputs for one image to the size at which the image was sent, as
/// `detector_postprocess` and `sem_seg_postprocess` (detectron2/modeling/postprocessing.py) do, in
/// their order: scale the boxes, clip them, drop the empty ones, paste the masks, scale the
/// keypoints. What a program answers that holds the model's own postprocessing is read as it is.
/// Without `masks` instances have none. Throws Error where a number is infinite or none, or an output has another shape than the spec
/// says.
Outputs postprocess(const RawOutputs& raw, const ModelInput& image, const Spec& spec,
                    bool masks = true);

}  // namespace d2serve
