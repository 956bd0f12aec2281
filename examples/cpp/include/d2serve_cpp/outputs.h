// What was found in an image: what detectron2's DefaultPredictor answers, in its terms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "d2serve_cpp/tensor.h"

namespace d2serve {

/// COCO's compressed run lengths of a mask of the whole image.
struct Rle {
    int height = 0;
    int width = 0;
    std::string counts;

    bool operator==(const Rle&) const = default;
};

/// N boxes in pixels: x0, y0, x1, y1 (XYXY_ABS), or centre, width, height and the angle in degrees,
/// counter-clockwise (XYWHA_ABS).
struct Boxes {
    std::size_t sides = 4;
    std::vector<float> values;
    /// (N, sides)

    std::size_t count() const { return values.size() / sides; }
    const float* operator[](std::size_t i) const { return values.data() + i * sides; }
    float* operator[](std::size_t i) { return values.data() + i * sides; }
};

/// x, y and score of K keypoints of each of N instances.
struct Keypoints {
    std::size_t kinds = 0;
    std::vector<float> values;
    /// (N, kinds, 3)
};

/// What a model answers beyond detectron2's own fields, by name, in the spec's order.
using Extras = std::vector<std::pair<std::string, Tensor>>;

/// Instances by falling score, in pixels of the image as it was sent.
struct Instances {
    Boxes boxes;
    std::vector<float> scores;
    std::vector<std::int64_t> classes;  // detectron2's contiguous class index
    std::optional<std::vector<Rle>> masks;
    std::optional<Keypoints> keypoints;
    Extras extra;  // (N, ...) each

    std::size_t count() const { return scores.size(); }
};

/// What a region proposal network sees, in pixels of the image as it was sent.
struct Proposals {
    Boxes boxes;
    std::vector<float> objectness_logits;  // falling

    std::size_t count() const { return objectness_logits.size(); }
};

/// A label for each pixel, row by row.
struct LabelMap {
    int height = 0;
    int width = 0;
    std::vector<std::int32_t> labels;
};

/// One thing, or all of one kind of stuff.
struct Segment {
    std::int64_t id = 0;           // its value in the map, from 1 on
    std::int64_t category_id = 0;  // of a thing the class of instances, of stuff that of sem_seg
    bool isthing = false;
    std::int64_t area = 0;
    std::optional<float> score;
    std::optional<std::int64_t> instance_id;  // of a thing, its index into the instances
    std::optional<std::int64_t> label;        // where detectron2 itself answers labels only
};

/// Things and stuff in one map; 0 belongs to no segment.
struct Panoptic {
    LabelMap map;
    std::vector<Segment> segments;
};

/// All that was found; what the model has not is empty.
struct Outputs {
    int height = 0;  // of the image as it was sent
    int width = 0;
    std::optional<Instances> instances;
    std::optional<LabelMap> sem_seg;
    std::optional<Panoptic> panoptic_seg;
    std::optional<Proposals> proposals;
    Extras extra;
};

}  // namespace d2serve
