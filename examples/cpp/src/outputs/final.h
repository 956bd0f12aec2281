// What a program answers that holds the model's own postprocessing.
#pragma once

#include "d2serve_cpp/input.h"
#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// A program's final answer for one image: nothing is scaled, clipped or dropped. Masks become run
/// lengths, and instances are put in the order of their scores. Throws Error where a score is
/// infinite or none, or a map is not of the size of the image.
Outputs read_final(const RawOutputs& raw, const ModelInput& image, const Spec& spec);

}  // namespace d2serve
