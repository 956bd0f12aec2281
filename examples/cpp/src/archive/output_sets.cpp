#include "archive/output_sets.h"

#include <algorithm>
#include <set>
#include <string>

#include "archive/refusing.h"

namespace d2serve {
namespace {

using Names = std::set<std::string>;

const Names kInstances = {"pred_boxes", "scores", "pred_classes"};
const Names kProposals = {"proposal_boxes", "objectness_logits"};
const Names kPanoptic = {"panoptic_seg", "segments_info"};

bool within(const Names& some, const Names& all) {
    return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

bool is_name(const std::string& name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    const auto more = [&](char c) {
        return letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-';
    };
    return !name.empty() && name.size() <= 100 && letter(name.front()) &&
           std::all_of(name.begin(), name.end(), more);
}

Names possible_outputs(const Spec& spec) {
    Names possible = {"sem_seg"};
    possible.insert(kProposals.begin(), kProposals.end());
    if (spec.postprocessed) possible.insert(kPanoptic.begin(), kPanoptic.end());
    if (spec.has("pred_boxes")) {
        possible.insert(kInstances.begin(), kInstances.end());
        possible.insert({"pred_masks", "pred_keypoints"});
        if (!spec.postprocessed) possible.insert("pred_keypoint_heatmaps");
    }
    return possible;
}

void check_extras(const Spec& spec) {
    Names seen;
    for (const Extra& each : spec.extras) {
        if (!is_name(each.name)) {
            refuse("an extra is called \"" + shortened(each.name) +
                   "\", expected letters, digits and _ . -");
        }
        one_of("per of an extra", each.per, {"instance", "image"});
        one_of("kind of an extra", each.kind, {"Tensor", "Boxes", "RotatedBoxes", "Keypoints"});
        one_of(
            "dtype of an extra", each.dtype,
            {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"});
        if (!spec.has(each.output())) {
            refuse("outputs lack " + each.output() + ", which is among the extras");
        }
        if (each.per == "instance" && !spec.has("pred_boxes")) {
            refuse("the extra " + each.name + " is of instances, which are not among outputs");
        }
        if (!seen.insert(each.output()).second) refuse("two extras have the same name");
    }
}

}  // namespace

void check_outputs(const Spec& spec) {
    check_extras(spec);
    Names own(spec.outputs.begin(), spec.outputs.end());
    bool known = own.size() == spec.outputs.size();
    for (const Extra& each : spec.extras) own.erase(each.output());
    known = known && !own.empty() && within(own, possible_outputs(spec));
    for (const Names* group : {&kInstances, &kProposals, &kPanoptic}) {
        const bool some = std::any_of(group->begin(), group->end(),
                                      [&](const std::string& each) { return own.contains(each); });
        known = known && (!some || within(*group, own));
    }
    if (!known) {
        refuse(
            "outputs are none that go together, expected boxes, scores and classes (with masks "
            "and keypoints or not), sem_seg, proposals, or several of these");
    }
    if (spec.box_mode == "XYWHA_ABS" && own != kInstances && !spec.postprocessed) {
        refuse("box_mode is XYWHA_ABS, which does not go with these outputs");
    }
    if (spec.panoptic && (spec.postprocessed || !within({"pred_masks", "sem_seg"}, own))) {
        refuse(
            "panoptic is given, expected pred_masks and sem_seg among the outputs, to be merged");
    }
    const bool in_detail = own.contains("pred_masks") || own.contains("pred_keypoints") ||
                           own.contains("pred_keypoint_heatmaps");
    const std::int64_t classes = spec.detail_classes.value_or(1);
    if (classes < 1 || classes > 1'000'000 ||
        (spec.detail_classes && (!in_detail || spec.postprocessed || spec.panoptic))) {
        refuse(
            "detail_classes is given, expected 1 to 1,000,000, of a program with masks or "
            "keypoints that is neither postprocessed nor panoptic");
    }
}

}  // namespace d2serve
