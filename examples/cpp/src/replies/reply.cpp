// The fields and their order are those of handlers/replies/encoding.py.
#include "d2serve_cpp/reply.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "d2serve_cpp/error.h"
#include "outputs/arrays.h"
#include "replies/extras.h"
#include "replies/json_text.h"
#include "replies/label_png.h"

namespace d2serve {
namespace {

using Names = std::optional<std::vector<std::string>>;

void write_name(JsonText& json, const Names& names, std::int64_t category) {
    if (!names) return;
    if (category < 0 || static_cast<std::size_t>(category) >= names->size()) {
        throw Error("The model answered the class " + std::to_string(category) + ", but " +
                    std::to_string(names->size()) +
                    " classes have names. Export the model again with its class names.");
    }
    json.key("category_name").text((*names)[static_cast<std::size_t>(category)]);
}

void write_floats(JsonText& json, const float* values, std::size_t count) {
    json.open('[');
    for (std::size_t i = 0; i < count; ++i) json.number(values[i]);
    json.close(']');
}

void write_size(JsonText& json, int height, int width) {
    json.key("size").open('[').whole(height).whole(width).close(']');
}

void write_instance(JsonText& json, const Instances& found, std::size_t i, const Spec& spec) {
    json.open('{').key("bbox");
    write_floats(json, found.boxes[i], found.boxes.sides);
    json.key("bbox_mode").text(spec.box_mode).key("score").number(found.scores[i]);
    json.key("category_id").whole(found.classes[i]);
    write_name(json, spec.class_names, found.classes[i]);
    if (found.masks) {
        const Rle& mask = (*found.masks)[i];
        json.key("segmentation").open('{');
        write_size(json, mask.height, mask.width);
        json.key("counts").text(mask.counts).close('}');
    }
    if (found.keypoints) {
        const std::size_t kinds = found.keypoints->kinds;
        json.key("keypoints").open('[');
        for (std::size_t kind = 0; kind < kinds; ++kind) {
            write_floats(json, found.keypoints->values.data() + (i * kinds + kind) * 3, 3);
        }
        json.close(']');
    }
    write_extra_of_instance(json, found.extra, i);
    json.close('}');
}

void write_proposals(JsonText& json, const Proposals& proposals) {
    json.key("proposals").open('[');
    for (std::size_t i = 0; i < proposals.count(); ++i) {
        json.open('{').key("bbox");
        write_floats(json, proposals.boxes[i], 4);
        json.key("bbox_mode").text("XYXY_ABS");
        json.key("objectness_logit").number(proposals.objectness_logits[i]).close('}');
    }
    json.close(']');
}

void write_map(JsonText& json, const LabelMap& map) {
    write_size(json, map.height, map.width);
    json.key("png").text(base64_of(png_of_labels(map)));
}

void write_sem_seg(JsonText& json, const LabelMap& map, const Names& names) {
    json.key("sem_seg").open('{');
    write_map(json, map);
    const std::vector<std::int64_t> areas = areas_of(map);
    json.key("classes").open('[');
    for (std::size_t label = 0; label < areas.size(); ++label) {
        if (areas[label] == 0) continue;
        json.open('{').key("category_id").whole(static_cast<std::int64_t>(label));
        write_name(json, names, static_cast<std::int64_t>(label));
        json.key("area").whole(areas[label]).close('}');
    }
    json.close(']').close('}');
}

void write_segment(JsonText& json, const Segment& segment, const Spec& spec) {
    // What made the segments itself tells all classes apart in one list.
    const bool by_class = segment.isthing && !spec.postprocessed;
    json.open('{').key("id").whole(segment.id).key("category_id").whole(segment.category_id);
    write_name(json, by_class ? spec.class_names : spec.stuff_class_names, segment.category_id);
    json.key("isthing").boolean(segment.isthing).key("area").whole(segment.area);
    if (segment.score) json.key("score").number(*segment.score);
    if (segment.instance_id) json.key("instance_id").whole(*segment.instance_id);
    if (segment.label) json.key("label").whole(*segment.label);
    json.close('}');
}

void write_panoptic(JsonText& json, const Panoptic& panoptic, const Spec& spec) {
    json.key("panoptic_seg").open('{');
    write_map(json, panoptic.map);
    json.key("segments_info").open('[');
    for (const Segment& segment : panoptic.segments) write_segment(json, segment, spec);
    json.close(']').close('}');
}

}  // namespace

std::string to_json(const Outputs& outputs, const Spec& spec, const ReplyHeader& header) {
    JsonText json;
    json.open('{').key("model").text(header.model).key("version").text(header.version);
    json.key("image").open('{').key("height").whole(outputs.height);
    json.key("width").whole(outputs.width);
    if (!header.converted.empty()) json.key("converted").text(header.converted);
    json.close('}');
    if (outputs.instances) {
        json.key("instances").open('[');
        for (std::size_t i = 0; i < outputs.instances->count(); ++i) {
            write_instance(json, *outputs.instances, i, spec);
        }
        json.close(']');
    }
    if (outputs.proposals) write_proposals(json, *outputs.proposals);
    if (outputs.sem_seg) write_sem_seg(json, *outputs.sem_seg, spec.stuff_class_names);
    if (outputs.panoptic_seg) write_panoptic(json, *outputs.panoptic_seg, spec);
    write_extra(json, outputs.extra);
    write_extra_fields(json, spec);
    json.close('}');
    return json.str();
}

}  // namespace d2serve
