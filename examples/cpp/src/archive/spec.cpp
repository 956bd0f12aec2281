// Reads model_spec.json as handlers/spec/model_spec.py does, and refuses what that refuses: a field
// that is missing, unknown, of a wrong type, or of a value that cannot be. And the manifest, here
// since the JSON library takes long to compile.
#include "d2serve_cpp/spec.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "archive/fields.h"
#include "archive/manifest.h"
#include "archive/output_sets.h"
#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

constexpr int kSchema = 5, kOldestSchema = 2;
constexpr int kMostLevels = 100;

/// What later schemas added, and what an older archive has for each
/// (handlers/spec/older_schemas.py).
const std::map<int, Json>& added() {
    static const std::map<int, Json> by_schema = {
        {3, Json::parse(R"({"provenance": null})")},
        {4, Json::parse(R"({"channels": 3, "postprocessed": false, "sixteen_bit": "opencv",
                            "extras": []})")},
        {5, Json::parse(R"({"detail_classes": null})")},
    };
    return by_schema;
}

const std::set<std::string> kFields = {"name",
                                       "family",
                                       "method",
                                       "runtime",
                                       "precision",
                                       "program",
                                       "sha256",
                                       "image_format",
                                       "min_size_test",
                                       "max_size_test",
                                       "size_divisibility",
                                       "outputs",
                                       "box_mode",
                                       "class_names",
                                       "stuff_class_names",
                                       "panoptic",
                                       "rewrites",
                                       "score_thresh",
                                       "nms_thresh",
                                       "detections_per_image",
                                       "mask_threshold",
                                       "dynamic_batch",
                                       "versions",
                                       "verification",
                                       "accuracy",
                                       "limits",
                                       "provenance",
                                       "channels",
                                       "postprocessed",
                                       "extras",
                                       "sixteen_bit",
                                       "detail_classes",
                                       "schema_version"};

const std::map<std::string, int> kFormats = {
    {"BGR", 3}, {"RGB", 3}, {"L", 1}, {"RGBA", 4}, {"bands", 0}};

void check_schema(const Json& raw) {
    const auto found = raw.find("schema_version");
    const std::string version = found == raw.end() ? "none" : found->dump();
    const bool whole = found != raw.end() && found->is_number_integer();
    if (whole && found->get<std::int64_t>() > kSchema) {
        throw Error(
            "The archive was made by a newer d2serve: its model_spec.json has "
            "schema_version " +
            version + ", this program knows up to " + std::to_string(kSchema) +
            ". Build a newer examples/cpp.");
    }
    if (!whole || found->get<std::int64_t>() < kOldestSchema) {
        throw Error("model_spec.json has schema_version " + shortened(version) +
                    ", expected 2 to 5: export the model again.");
    }
}

void check_names(const Json& raw) {
    std::string missing, unknown;
    for (const std::string& name : kFields) {
        if (!raw.contains(name)) missing += (missing.empty() ? "" : ", ") + name;
    }
    for (const auto& [name, value] : raw.items()) {
        if (!kFields.contains(name)) unknown += (unknown.empty() ? "" : ", ") + shortened(name);
    }
    if (!missing.empty() || !unknown.empty()) {
        throw Error("model_spec.json does not follow its schema: missing [" + missing +
                    "], unknown [" + shortened(unknown) +
                    "]. It was edited or damaged: export the model again.");
    }
}

PanopticMerge merge_of(const Json& raw) {
    const Fields fields(raw, "panoptic");
    fields.only({"overlap_thresh", "stuff_area_limit", "instances_confidence_thresh"});
    return {fields.number("overlap_thresh"), fields.whole("stuff_area_limit"),
            fields.number("instances_confidence_thresh")};
}

Extra extra_of(const Json& raw) {
    const Fields fields(raw, "extras");
    fields.only({"name", "per", "kind", "dtype", "shape"});
    Extra made{
        fields.text("name"), fields.text("per"), fields.text("kind"), fields.text("dtype"), {}};
    for (const Json& side : fields.list("shape")) {
        if (!side.is_null() && !(side.is_number_integer() && side.get<std::int64_t>() >= 0)) {
            refuse("the shape of an extra holds " + shortened(side.dump()) +
                   ", expected sizes or null");
        }
        made.shape.push_back(side.is_null() ? std::nullopt
                                            : std::optional(side.get<std::int64_t>()));
    }
    return made;
}

RequestLimits limits_of(const Json& raw, bool complete) {
    const Fields fields(raw, "limits");
    RequestLimits made;
    const std::map<std::string, std::int64_t*> counts = {
        {"max_image_bytes", &made.max_image_bytes},
        {"max_image_pixels", &made.max_image_pixels},
        {"max_frames", &made.max_frames},
        {"max_input_pixels", &made.max_input_pixels},
        {"max_drawn_pixels", &made.max_drawn_pixels},
        {"max_detections", &made.max_detections},
        {"max_reply_bytes", &made.max_reply_bytes}};
    constexpr const char* seconds = "max_decode_seconds";
    for (const auto& [name, value] : raw.items()) {
        if (name != seconds && !counts.contains(name)) {
            refuse("limits has " + shortened(name) + ", which is no limit");
        }
    }
    for (const auto& [name, limit] : counts) {
        if (!complete && !raw.contains(name)) continue;
        const bool pixels = name.ends_with("_pixels");
        *limit = fields.whole(name.c_str(), 1, pixels ? 178'956'970 : 2'147'483'647);
    }
    if (complete || raw.contains(seconds)) made.max_decode_seconds = fields.number(seconds);
    if (!(made.max_decode_seconds > 0 && made.max_decode_seconds <= 3600)) {
        refuse("limits.max_decode_seconds is not above 0 and at most 3600");
    }
    return made;
}

/// Python writes NaN and Infinity into JSON, such as for the AP of a class that no image shows.
std::string without_non_numbers(std::string_view text) {
    std::string made;
    bool in_string = false;
    while (!text.empty()) {
        std::size_t some = 1;
        if (in_string && text[0] == '\\') {
            some = std::min<std::size_t>(2, text.size());
        } else if (text[0] == '"') {
            in_string = !in_string;
        } else if (!in_string) {
            for (const std::string_view name : {"NaN", "-Infinity", "Infinity"}) {
                if (!text.starts_with(name)) continue;
                made += "null";
                text.remove_prefix(name.size());
                some = 0;
                break;
            }
        }
        made += text.substr(0, some);
        text.remove_prefix(some);
    }
    return made;
}

void check_provenance(const Json& raw, std::int64_t schema) {
    const Fields fields(raw, "provenance");
    fields.only({"config", "config_sha256", "weights", "weights_sha256", "class_names",
                 "stuff_class_names"});
    for (const char* name : {"config", "config_sha256", "weights", "weights_sha256"}) {
        fields.text(name);
    }
    for (const char* name : {"class_names", "stuff_class_names"}) {
        if (schema == 3 && !raw.contains(name)) continue;  // it says where names come from since
        if (!fields.is_null(name)) fields.text(name);
    }
}

void check_form(const Spec& spec) {
    one_of("sixteen_bit", spec.sixteen_bit, {"opencv", "read_image"});
    const auto format = kFormats.find(spec.image_format);
    if (format == kFormats.end()) {
        refuse("image_format is \"" + shortened(spec.image_format) +
               "\", expected one of BGR, RGB, L, RGBA, bands");
    }
    if (spec.channels < 1 || (format->second != 0 && spec.channels != format->second)) {
        refuse("channels is " + std::to_string(spec.channels) + ", which does not go with " +
               spec.image_format);
    }
}

/// Whether a name leads to a file in the spec's folder or below, written in one way only.
bool is_beside(const std::string& name) {
    if (name.find_first_of(std::string("\\\0", 2)) != std::string::npos) return false;
    if (name.substr(0, name.find('/')).find(':') != std::string::npos) return false;
    for (std::size_t at = 0; at <= name.size();) {
        const std::size_t end = std::min(name.find('/', at), name.size());
        const std::string part = name.substr(at, end - at);
        if (part.empty() || part == "." || part == "..") return false;
        at = end + 1;
    }
    return true;
}

void check(const Spec& spec) {
    one_of("method", spec.method, {"tracing", "scripting", "torch_export"});
    one_of("precision", spec.precision, {"fp32", "bf16", "int8", "fp16"});
    one_of("box_mode", spec.box_mode, {"XYXY_ABS", "XYWHA_ABS"});
    check_form(spec);
    check_outputs(spec);
    for (const auto& [name, hash] : spec.sha256) {
        if (!is_beside(name)) {
            refuse("\"" + shortened(name) + "\" is no path of a file beside model_spec.json");
        }
    }
    if (!spec.sha256.contains(spec.program)) {
        refuse("sha256 has no hash of the program, " + shortened(spec.program));
    }
    if (!(spec.mask_threshold > 0 && spec.mask_threshold <= 1)) {
        refuse("mask_threshold is not above 0 and at most 1");
    }
    const bool merged = !spec.panoptic || (spec.panoptic->overlap_thresh >= 0 &&
                                           spec.panoptic->stuff_area_limit >= 0 &&
                                           spec.panoptic->instances_confidence_thresh >= 0);
    if (!merged) refuse("panoptic has a number below 0");
}

Spec spec_of(const Json& raw, std::int64_t schema) {
    const Fields fields(raw, "");
    Spec made;
    made.name = fields.text("name");
    made.family = fields.text("family");
    made.method = fields.text("method");
    made.runtime = fields.text("runtime");
    made.precision = fields.text("precision");
    made.program = fields.text("program");
    made.sha256 = fields.texts_by_name("sha256");
    made.image_format = fields.text("image_format");
    made.min_size_test = fields.size("min_size_test", 0);
    made.max_size_test = fields.size("max_size_test", 1);
    made.size_divisibility =
        static_cast<int>(fields.whole("size_divisibility", -(1 << 30), 1 << 30));
    made.outputs = fields.texts("outputs");
    made.box_mode = fields.text("box_mode");
    if (!fields.is_null("class_names")) made.class_names = fields.texts("class_names");
    if (!fields.is_null("stuff_class_names")) {
        made.stuff_class_names = fields.texts("stuff_class_names");
    }
    if (!fields.is_null("panoptic")) made.panoptic = merge_of(fields.object("panoptic"));
    fields.texts("rewrites");
    if (!fields.is_null("score_thresh")) made.score_thresh = fields.number("score_thresh");
    if (!fields.is_null("nms_thresh")) made.nms_thresh = fields.number("nms_thresh");
    if (!fields.is_null("detections_per_image")) {
        made.detections_per_image = fields.whole("detections_per_image");
    }
    made.mask_threshold = fields.number("mask_threshold");
    made.dynamic_batch = fields.flag("dynamic_batch");
    for (const auto& [name, version] : fields.object("versions").items()) {
        if (version.is_string()) made.versions[name] = version.get<std::string>();
    }
    fields.object("verification");
    fields.object("accuracy");
    made.limits = limits_of(fields.object("limits"), schema >= 3);
    if (!fields.is_null("provenance")) check_provenance(fields.object("provenance"), schema);
    made.channels = fields.size("channels", 1);
    made.postprocessed = fields.flag("postprocessed");
    for (const Json& each : fields.list("extras")) made.extras.push_back(extra_of(each));
    made.sixteen_bit = fields.text("sixteen_bit");
    if (!fields.is_null("detail_classes")) made.detail_classes = fields.whole("detail_classes");
    return made;
}

}  // namespace

std::string Extra::output() const {
    return (per == "image" ? "extra." : "instances.extra.") + name;
}

ImageForm Spec::image_form() const {
    return {image_format, channels, sixteen_bit};
}

std::vector<std::string> Spec::inputs() const {
    std::vector<std::string> names = {"image"};
    if (postprocessed) names.insert(names.end(), {"height", "width"});
    if (detail_classes) names.insert(names.end(), {"detail_scores", "detail_most"});
    return names;
}

bool Spec::has(std::string_view output) const {
    return std::find(outputs.begin(), outputs.end(), output) != outputs.end();
}

bool Spec::has_keypoints() const {
    return has("pred_keypoints") || has("pred_keypoint_heatmaps");
}

Spec Spec::from_json(std::string_view text) {
    // What quotes a wrong value goes down into it, a call for each level.
    const auto not_too_deep = [](int depth, Json::parse_event_t, Json&) {
        if (depth <= kMostLevels) return true;
        throw Error("model_spec.json is nested too deeply: export the model again.");
    };
    Json raw = Json::parse(without_non_numbers(text), not_too_deep, false);
    if (raw.is_discarded()) {
        throw Error("model_spec.json is not JSON: export the model again.");
    }
    if (!raw.is_object()) {
        throw Error("model_spec.json holds no object: export the model again.");
    }
    check_schema(raw);
    const auto version = raw["schema_version"].get<std::int64_t>();
    for (const auto& [schema, fields] : added()) {
        if (schema <= version) continue;
        for (const auto& [name, value] : fields.items()) {
            if (!raw.contains(name)) raw[name] = value;
        }
    }
    check_names(raw);
    Spec made = spec_of(raw, version);
    check(made);
    return made;
}

std::string in_manifest(std::string_view manifest, const char* name, const std::string& otherwise) {
    const Json parsed = Json::parse(manifest, nullptr, false);
    const auto model = parsed.is_object() ? parsed.find("model") : parsed.end();
    if (model == parsed.end() || !model->is_object()) return otherwise;
    const auto found = model->find(name);
    return found != model->end() && found->is_string() ? found->get<std::string>() : otherwise;
}

Spec read_spec(const std::filesystem::path& folder) {
    std::ifstream in(folder / kSpecFile, std::ios::binary);
    if (!in) {
        throw Error("No readable " + std::string(kSpecFile) + " in " + folder.string() +
                    ". Is this an archive made by `d2serve export`?");
    }
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return Spec::from_json(text);
}

}  // namespace d2serve
