// model_spec.json: every number that shapes an answer, as `d2serve export` wrote it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace d2serve {

inline constexpr std::string_view kSpecFile = "model_spec.json";

/// What images a model takes.
struct ImageForm {
    std::string image_format = "RGB";
    /// "BGR", "RGB", "L", "RGBA", or "bands": the file's own channels, as they are.
    int channels = 3;
    std::string sixteen_bit = "opencv";
    /// How samples of 16 bits become 8: "opencv" (the upper byte) or "read_image" (cut off at 255).
};

/// The most that one image may bring or cost.
struct RequestLimits {
    std::int64_t max_image_bytes = 33'554'432;
    std::int64_t max_image_pixels = 50'000'000;
    std::int64_t max_frames = 1000;
    double max_decode_seconds = 5.0;
    std::int64_t max_input_pixels = 16'000'000;
    std::int64_t max_drawn_pixels = 16'000'000;
    std::int64_t max_detections = 1000;
    std::int64_t max_reply_bytes = 6'553'500;
};

/// Thresholds by which instances and sem_seg become one map.
struct PanopticMerge {
    double overlap_thresh = 0;
    std::int64_t stuff_area_limit = 0;
    double instances_confidence_thresh = 0;
};

/// A field or key that a model answers beyond detectron2's own.
struct Extra {
    std::string name;
    std::string per;  // "instance" or "image"
    std::string kind;
    std::string dtype;
    std::vector<std::optional<std::int64_t>> shape;

    /// The program's name of it.
    std::string output() const;
};

/// All that is known of a program, in detectron2's terms; the fields are those of the file.
struct Spec {
    std::string name;
    std::string family;
    std::string method;
    std::string runtime;
    std::string precision;
    std::string program;
    std::map<std::string, std::string> sha256;
    std::string image_format;
    int min_size_test = 0;
    int max_size_test = 0;
    int size_divisibility = 0;
    std::vector<std::string> outputs;
    std::string box_mode;
    std::optional<std::vector<std::string>> class_names;
    std::optional<std::vector<std::string>> stuff_class_names;
    std::optional<PanopticMerge> panoptic;
    std::optional<double> score_thresh;
    std::optional<double> nms_thresh;
    std::optional<std::int64_t> detections_per_image;
    double mask_threshold = 0.5;
    bool dynamic_batch = false;
    std::map<std::string, std::string> versions;
    RequestLimits limits;
    int channels = 3;
    bool postprocessed = false;
    std::vector<Extra> extras;
    std::string sixteen_bit = "opencv";
    std::optional<std::int64_t> detail_classes;

    /// The form of the images that the model takes.
    ImageForm image_form() const;

    /// Names of what the program takes, in its order: "image"; "height" and "width" (int64 scalars)
    /// of a program with `postprocessed`; "detail_scores" (float32, one for each class) and
    /// "detail_most" (int64 scalar) of one with `detail_classes`, which makes masks and keypoints
    /// where they are wanted.
    std::vector<std::string> inputs() const;

    /// Whether the program answers an output.
    bool has(std::string_view output) const;

    /// Whether instances have keypoints.
    bool has_keypoints() const;

    /// Reads the text of a model_spec.json. Throws Error when it is no JSON, of a schema that this
    /// version does not read, incomplete, or says what cannot be.
    static Spec from_json(std::string_view text);
};

/// Reads the spec of an extracted archive. Throws Error as `Spec::from_json`, and when it is not
/// there.
Spec read_spec(const std::filesystem::path& folder);

}  // namespace d2serve
