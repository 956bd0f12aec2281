#include "d2serve_cpp/postprocess.h"

#include <cmath>

#include "d2serve_cpp/error.h"
#include "outputs/arrays.h"
#include "outputs/boxes.h"
#include "outputs/extras.h"
#include "outputs/final.h"
#include "outputs/instances.h"
#include "outputs/keypoints.h"
#include "outputs/masks.h"
#include "outputs/panoptic.h"
#include "outputs/semantic.h"

namespace d2serve {
namespace {

double scale_x(const ModelInput& image) {
    return static_cast<double>(image.width) / image.resized_width;
}
double scale_y(const ModelInput& image) {
    return static_cast<double>(image.height) / image.resized_height;
}

/// Brings boxes to the image as it was sent, and says which of them are not empty.
std::vector<std::size_t> bring(Boxes& boxes, const std::vector<float>& scores,
                               const ModelInput& image) {
    scale(boxes, scale_x(image), scale_y(image));
    require_finite(boxes.values, "a box");
    require_finite(scores, "a score");
    clip(boxes, image.height, image.width);
    return nonempty(boxes);
}

std::vector<Rle> masks_of(const Tensor& masks, std::size_t count, const Boxes& boxes,
                          const std::vector<std::size_t>& kept, const ModelInput& image,
                          double threshold) {
    require_shape(masks, "pred_masks", {static_cast<std::int64_t>(count), 1, -1, -1});
    require_shape(masks, "pred_masks",
                  {static_cast<std::int64_t>(count), 1, masks.shape[2], masks.shape[2]});
    const std::size_t cells = static_cast<std::size_t>(masks.shape[2]);
    const std::vector<float> values = values_as<float>(rows_of(masks, kept));
    std::vector<Rle> rles;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        rles.push_back(encode_mask(values.data() + i * cells * cells, cells, boxes[i], image.height,
                                   image.width, static_cast<float>(threshold)));
    }
    return rles;
}

/// Those that the program answers, or off its heatmaps, in pixels of the image that it got.
Keypoints keypoints_in_program(const RawOutputs& raw, const Spec& spec, const Boxes& boxes,
                               const std::vector<std::size_t>& kept) {
    if (spec.has("pred_keypoints")) {
        return keypoints_at(output_of(raw, "pred_keypoints"), boxes.count(), kept);
    }
    const char* name = "pred_keypoint_heatmaps";
    const Tensor& maps = output_of(raw, name);
    require_shape(maps, name, {static_cast<std::int64_t>(boxes.count()), -1, -1, -1});
    require_shape(maps, name, {-1, -1, maps.shape[2], maps.shape[2]});
    const std::size_t kinds = static_cast<std::size_t>(maps.shape[1]);
    const std::size_t side = static_cast<std::size_t>(maps.shape[2]);
    if (side == 0) {
        throw Error("The model answered " + std::string(name) + " of the shape " +
                    shape_text(maps.shape) + ", expected heatmaps with pixels. " +
                    "Check the archive with `d2serve verify` on this image.");
    }
    const std::vector<float> values = values_as<float>(rows_of(maps, kept));
    Keypoints made{kinds, std::vector<float>(kept.size() * kinds * 3)};
    for (std::size_t i = 0; i < kept.size(); ++i) {
        keypoints_of(values.data() + i * kinds * side * side, kinds, side, boxes[kept[i]],
                     made.values.data() + i * kinds * 3);
    }
    return made;
}

Instances instances_of(const RawOutputs& raw, const ModelInput& image, const Spec& spec,
                       bool masks) {
    const RawInstances in_program = raw_instances(raw, spec);
    Boxes boxes = in_program.boxes;
    const std::vector<std::size_t> not_empty = bring(boxes, in_program.scores, image);
    const std::vector<std::size_t> kept = by_score(not_empty, in_program.scores);
    const std::size_t count = in_program.scores.size();
    Instances made{boxes_at(boxes, kept),
                   values_at(in_program.scores, kept),
                   values_at(in_program.classes, kept),
                   {},
                   {},
                   instance_extras(raw, spec, count, kept)};
    if (spec.has("pred_masks") && masks) {
        made.masks = masks_of(output_of(raw, "pred_masks"), count, made.boxes, kept, image,
                              spec.mask_threshold);
    }
    if (spec.has("pred_keypoints") || spec.has("pred_keypoint_heatmaps")) {
        made.keypoints = keypoints_in_program(raw, spec, in_program.boxes, kept);
        const float x = static_cast<float>(scale_x(image)), y = static_cast<float>(scale_y(image));
        std::vector<float>& values = made.keypoints->values;
        for (std::size_t i = 0; i + 2 < values.size(); i += 3) {
            values[i] *= x;
            values[i + 1] *= y;
        }
    }
    return made;
}

LabelMap sem_seg_of(const RawOutputs& raw, const ModelInput& image) {
    const Tensor& logits = output_of(raw, "sem_seg");
    require_shape(logits, "sem_seg", {-1, -1, -1});
    const std::vector<float> values = values_as<float>(logits);
    Logits made{values.data(),
                static_cast<std::size_t>(logits.shape[0]),
                static_cast<std::size_t>(logits.shape[1]),
                static_cast<std::size_t>(logits.shape[2]),
                static_cast<std::size_t>(image.resized_height),
                static_cast<std::size_t>(image.resized_width)};
    if (made.classes == 0 || made.height < made.used_height || made.width < made.used_width) {
        throw Error("The model answered sem_seg of the shape " + shape_text(logits.shape) +
                    ", expected at least the resized image, " +
                    shape_text({1, image.resized_height, image.resized_width}) +
                    ". Check the archive with `d2serve verify` on this image.");
    }
    return label_map(made, image.height, image.width);
}

Proposals proposals_of(const RawOutputs& raw, const ModelInput& image) {
    Proposals found = raw_proposals(raw);
    const std::vector<std::size_t> kept = bring(found.boxes, found.objectness_logits, image);
    return {boxes_at(found.boxes, kept), values_at(found.objectness_logits, kept)};
}

Outputs brought(const RawOutputs& raw, const ModelInput& image, const Spec& spec, bool masks) {
    Outputs made;
    made.height = image.height;
    made.width = image.width;
    if (spec.has("pred_boxes")) made.instances = instances_of(raw, image, spec, masks);
    if (spec.has("sem_seg")) made.sem_seg = sem_seg_of(raw, image);
    if (made.instances && made.sem_seg && spec.panoptic) {
        made.panoptic_seg = merge(*made.instances, *made.sem_seg, *spec.panoptic);
    }
    if (spec.has("proposal_boxes")) made.proposals = proposals_of(raw, image);
    made.extra = image_extras(raw, spec);
    return made;
}

}  // namespace

Outputs postprocess(const RawOutputs& raw, const ModelInput& image, const Spec& spec, bool masks) {
    Outputs made = spec.postprocessed
                       ? read_final(raw, image, spec)
                       : brought(raw, image, spec, masks || spec.panoptic.has_value());
    if (!masks && made.instances) made.instances->masks.reset();
    return made;
}

}  // namespace d2serve
