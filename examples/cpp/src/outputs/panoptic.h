// Instances and sem_seg, which overlap, as a map that gives each pixel to one of them.
#pragma once

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// `combine_semantic_and_instance_outputs` (detectron2/modeling/meta_arch/panoptic_fpn.py):
/// instances by falling score, each where no better one is; then stuff in what is left. Label 0 of
/// `sem_seg` is what the semantic head calls all things.
Panoptic merge(const Instances& instances, const LabelMap& sem_seg,
               const PanopticMerge& thresholds);

}  // namespace d2serve
