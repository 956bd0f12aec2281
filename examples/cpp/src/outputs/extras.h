// What a model answers beyond detectron2's own fields: it stays as the program answers it.
#pragma once

#include <cstddef>
#include <vector>

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// The fields of the model's own of the instances that are kept, each (N, ...); `count` is how many
/// the program answered. Throws Error where one has not the shape that the spec says.
Extras instance_extras(const RawOutputs& raw, const Spec& spec, std::size_t count,
                       const std::vector<std::size_t>& kept);

/// The keys of the model's own. Throws Error likewise.
Extras image_extras(const RawOutputs& raw, const Spec& spec);

}  // namespace d2serve
