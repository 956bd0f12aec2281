#include "outputs/instances.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "d2serve_cpp/error.h"
#include "outputs/arrays.h"

namespace d2serve {

RawInstances raw_instances(const RawOutputs& raw, const Spec& spec) {
    const Tensor& boxes = output_of(raw, "pred_boxes");
    const Tensor& scores = output_of(raw, "scores");
    const Tensor& classes = output_of(raw, "pred_classes");
    const std::int64_t sides = spec.box_mode == "XYWHA_ABS" ? 5 : 4;
    require_shape(scores, "scores", {-1});
    require_shape(boxes, "pred_boxes", {scores.shape[0], sides});
    require_shape(classes, "pred_classes", {scores.shape[0]});
    return {{static_cast<std::size_t>(sides), values_as<float>(boxes)},
            values_as<float>(scores),
            values_as<std::int64_t>(classes)};
}

Proposals raw_proposals(const RawOutputs& raw) {
    const Tensor& boxes = output_of(raw, "proposal_boxes");
    const Tensor& logits = output_of(raw, "objectness_logits");
    require_shape(logits, "objectness_logits", {-1});
    require_shape(boxes, "proposal_boxes", {logits.shape[0], 4});
    return {{4, values_as<float>(boxes)}, values_as<float>(logits)};
}

void require_finite(const std::vector<float>& values, const char* what) {
    if (std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return;
    throw Error(std::string("The model answered ") + what +
                " that is infinite or not a number. Its weights are probably damaged: compare it "
                "with `d2serve verify`.");
}

std::vector<std::size_t> by_score(std::vector<std::size_t> indices,
                                  const std::vector<float>& scores) {
    std::stable_sort(indices.begin(), indices.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    return indices;
}

Boxes boxes_at(const Boxes& boxes, const std::vector<std::size_t>& indices) {
    Boxes kept{boxes.sides, {}};
    kept.values.reserve(indices.size() * boxes.sides);
    for (std::size_t index : indices) {
        kept.values.insert(kept.values.end(), boxes[index], boxes[index] + boxes.sides);
    }
    return kept;
}

Keypoints keypoints_at(const Tensor& keypoints, std::size_t count,
                       const std::vector<std::size_t>& indices) {
    require_shape(keypoints, "pred_keypoints", {static_cast<std::int64_t>(count), -1, 3});
    return {static_cast<std::size_t>(keypoints.shape[1]),
            values_as<float>(rows_of(keypoints, indices))};
}

}  // namespace d2serve
