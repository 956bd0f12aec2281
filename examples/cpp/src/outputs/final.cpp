#include "outputs/final.h"

#include <numeric>
#include <string>

#include "d2serve_cpp/error.h"
#include "outputs/arrays.h"
#include "outputs/extras.h"
#include "outputs/instances.h"
#include "outputs/rle.h"

namespace d2serve {
namespace {

constexpr std::int32_t kMostLabel = 65535;  // that a label map of 16 bits holds

std::vector<Rle> encoded(const Tensor& masks, std::size_t count,
                         const std::vector<std::size_t>& kept, const ModelInput& image) {
    require_shape(masks, "pred_masks",
                  {static_cast<std::int64_t>(count), image.height, image.width});
    std::vector<Rle> rles;
    for (std::size_t index : kept) {
        const std::vector<bool> mask = values_as<bool>(rows_of(masks, {index}));
        rles.push_back(encode_whole(image.height, image.width, mask));
    }
    return rles;
}

Instances instances_of(const RawOutputs& raw, const ModelInput& image, const Spec& spec) {
    const RawInstances found = raw_instances(raw, spec);
    require_finite(found.scores, "a score");
    const std::size_t count = found.scores.size();
    std::vector<std::size_t> kept(count);
    std::iota(kept.begin(), kept.end(), std::size_t{0});
    kept = by_score(std::move(kept), found.scores);
    Instances made{boxes_at(found.boxes, kept),
                   values_at(found.scores, kept),
                   values_at(found.classes, kept),
                   {},
                   {},
                   instance_extras(raw, spec, count, kept)};
    if (spec.has("pred_masks")) {
        made.masks = encoded(output_of(raw, "pred_masks"), count, kept, image);
    }
    if (spec.has("pred_keypoints")) {
        made.keypoints = keypoints_at(output_of(raw, "pred_keypoints"), count, kept);
    }
    return made;
}

LabelMap labels_of(const RawOutputs& raw, const char* name, const ModelInput& image) {
    const Tensor& labels = output_of(raw, name);
    require_shape(labels, name, {image.height, image.width});
    LabelMap made{image.height, image.width, values_as<std::int32_t>(labels)};
    for (std::int32_t label : made.labels) {
        if (label >= 0 && label <= kMostLabel) continue;
        throw Error(std::string("The model answered the label ") + std::to_string(label) + " in " +
                    name + ", expected 0 to 65535. Check the archive with `d2serve verify`.");
    }
    return made;
}

Panoptic panoptic_of(const RawOutputs& raw, const ModelInput& image) {
    Panoptic made{labels_of(raw, "panoptic_seg", image), {}};
    const Tensor& infos = output_of(raw, "segments_info");
    const bool labelled = infos.shape.size() == 2 && infos.shape[1] == 4;
    require_shape(infos, "segments_info", {-1, labelled ? 4 : 3});
    const std::vector<std::int64_t> areas = areas_of(made.map);
    const std::vector<std::int64_t> values = values_as<std::int64_t>(infos);
    const std::size_t fields = labelled ? 4 : 3;
    for (std::size_t at = 0; at + fields <= values.size(); at += fields) {
        Segment segment{values[at], values[at + 1], values[at + 2] != 0, 0, {}, {}, {}};
        if (segment.id >= 0 && static_cast<std::size_t>(segment.id) < areas.size()) {
            segment.area = areas[static_cast<std::size_t>(segment.id)];
        }
        if (labelled) segment.label = values[at + 3];
        made.segments.push_back(segment);
    }
    return made;
}

}  // namespace

Outputs read_final(const RawOutputs& raw, const ModelInput& image, const Spec& spec) {
    Outputs made;
    made.height = image.height;
    made.width = image.width;
    if (spec.has("pred_boxes")) made.instances = instances_of(raw, image, spec);
    if (spec.has("sem_seg")) made.sem_seg = labels_of(raw, "sem_seg", image);
    if (spec.has("panoptic_seg")) made.panoptic_seg = panoptic_of(raw, image);
    if (spec.has("proposal_boxes")) {
        made.proposals = raw_proposals(raw);
        require_finite(made.proposals->objectness_logits, "a logit");
    }
    made.extra = image_extras(raw, spec);
    return made;
}

}  // namespace d2serve
