// What both ways of postprocessing take from a program: boxes, scores, classes and their order.
#pragma once

#include <cstddef>
#include <vector>

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// Instances as a program answers them, in its order.
struct RawInstances {
    Boxes boxes;
    std::vector<float> scores;
    std::vector<std::int64_t> classes;
};

/// Reads `pred_boxes`, `scores` and `pred_classes`. Throws Error where their shapes are wrong.
RawInstances raw_instances(const RawOutputs& raw, const Spec& spec);

/// Reads `proposal_boxes` and `objectness_logits`. Throws Error likewise.
Proposals raw_proposals(const RawOutputs& raw);

/// Throws Error where a score is infinite or not a number.
void require_finite(const std::vector<float>& values, const char* what);

/// Some indices by falling score, those of equal scores in their order.
std::vector<std::size_t> by_score(std::vector<std::size_t> indices,
                                  const std::vector<float>& scores);

/// The boxes at some indices.
Boxes boxes_at(const Boxes& boxes, const std::vector<std::size_t>& indices);

/// The values at some indices.
template <class T>
std::vector<T> values_at(const std::vector<T>& values, const std::vector<std::size_t>& indices) {
    std::vector<T> kept;
    kept.reserve(indices.size());
    for (std::size_t index : indices) kept.push_back(values[index]);
    return kept;
}

/// `pred_keypoints` at some indices. Throws Error where their shape is wrong.
Keypoints keypoints_at(const Tensor& keypoints, std::size_t count,
                       const std::vector<std::size_t>& indices);

}  // namespace d2serve
