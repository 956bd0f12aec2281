// The picture is that of handlers/replies/drawing.py but for the font.
#include "d2serve_cpp/drawing.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "d2serve_cpp/error.h"
#include "drawing/pen.h"
#include "drawing/tinting.h"
#include "outputs/boxes.h"
#include "outputs/rle.h"

namespace d2serve {
namespace {

constexpr std::size_t kProposalsDrawn = 30;  // of a thousand: with more the picture is all boxes
constexpr Colour kProposalColour{255, 200, 0};
// Of the image: names of smaller regions would hide them.
constexpr double kLeastNamedShare = 0.002;
// Along either side: where the regions of a map are is looked up in so many of its rows and columns.
constexpr int kSamples = 256;

/// The map whose regions are tinted, and the stuff category of each label in it.
struct Regions {
    const LabelMap* map = nullptr;
    std::map<std::int64_t, std::int64_t> stuff;
};

std::string name_of_category(const std::optional<std::vector<std::string>>& names,
                             std::int64_t category) {
    const bool named = names && category >= 0 && static_cast<std::size_t>(category) < names->size();
    if (named) return (*names)[static_cast<std::size_t>(category)];
    return std::string("#").append(std::to_string(category));
}

/// A copy of what can be seen of an image: RGB.
Image viewable(const Image& image) {
    Image picture{image.height, image.width, 3, {}, {}};
    const std::size_t pixels = static_cast<std::size_t>(image.height) * image.width;
    picture.pixels.reserve(pixels * 3);
    for (std::size_t i = 0; i < pixels; ++i) {
        for (int channel = 0; channel < 3; ++channel) {
            const int from = image.channels < 3 ? 0 : channel;
            picture.pixels.push_back(image.pixels[i * image.channels + from]);
        }
    }
    return picture;
}

Regions regions_of(const Outputs& outputs) {
    Regions regions;
    if (outputs.panoptic_seg) {
        regions.map = &outputs.panoptic_seg->map;
        for (const Segment& segment : outputs.panoptic_seg->segments) {
            // Without a score, a thing is none of the instances: it is drawn as stuff is.
            if (!segment.score) regions.stuff[segment.id] = segment.category_id;
        }
    } else if (outputs.sem_seg) {
        regions.map = &*outputs.sem_seg;
        std::int32_t before = -1;
        for (std::int32_t label : regions.map->labels) {
            if (label != before) regions.stuff[label] = label;
            before = label;
        }
    }
    return regions;
}

/// The id in the panoptic map of each instance that is there.
std::map<std::size_t, std::int64_t> thing_ids(const Panoptic& panoptic) {
    std::map<std::size_t, std::int64_t> ids;
    for (const Segment& segment : panoptic.segments) {
        if (segment.instance_id) ids[static_cast<std::size_t>(*segment.instance_id)] = segment.id;
    }
    return ids;
}

bool shows_things_of_map(const Outputs& outputs) {
    if (!outputs.panoptic_seg) return false;
    const auto& segments = outputs.panoptic_seg->segments;
    return std::any_of(segments.begin(), segments.end(),
                       [](const Segment& each) { return each.score.has_value(); });
}

/// Indices of the instances that are drawn, the best first.
std::vector<std::size_t> shown_of(const Outputs& outputs) {
    std::vector<std::size_t> shown;
    if (!outputs.instances) return shown;
    if (shows_things_of_map(outputs)) {
        for (const auto& [index, id] : thing_ids(*outputs.panoptic_seg)) shown.push_back(index);
        return shown;
    }
    shown.resize(outputs.instances->count());
    std::iota(shown.begin(), shown.end(), std::size_t{0});
    return shown;
}

/// The pixels of an instance, of a panoptic model those that the merge has left; none if it has no
/// mask.
std::optional<Region> region_of(const Outputs& outputs, std::size_t index) {
    if (!outputs.instances->masks) return {};
    const Rle& rle = (*outputs.instances->masks)[index];
    const LabelMap* map = shows_things_of_map(outputs) ? &outputs.panoptic_seg->map : nullptr;
    const std::int64_t id = map ? thing_ids(*outputs.panoptic_seg).at(index) : 0;
    std::vector<std::pair<int, int>> pixels;
    std::int64_t at = 0;
    bool set = false;
    for (std::int64_t length : run_lengths(rle)) {
        for (std::int64_t pixel = at; set && pixel < at + length; ++pixel) {
            const int y = static_cast<int>(pixel % rle.height);
            const int x = static_cast<int>(pixel / rle.height);
            const std::size_t place = static_cast<std::size_t>(y) * rle.width + x;
            if (!map || map->labels[place] == id) pixels.emplace_back(y, x);
        }
        at += length;
        set = !set;
    }
    if (pixels.empty()) return {};
    const auto [top, bottom] = std::minmax_element(pixels.begin(), pixels.end());
    Region region{top->first, pixels.front().second, bottom->first - top->first + 1,
                  pixels.back().second - pixels.front().second + 1, {}};
    region.set.resize(static_cast<std::size_t>(region.height) * region.width);
    for (const auto& [y, x] : pixels) {
        const std::size_t row = static_cast<std::size_t>(y - region.top);
        region.set[row * region.width + (x - region.left)] = 1;
    }
    return region;
}

void draw_boxes(Pen& pen, const Instances& found, const std::vector<std::size_t>& shown,
                const Spec& spec, bool thin) {
    for (auto i = shown.rbegin(); i != shown.rend(); ++i) {  // the best on top
        pen.box(corners(found.boxes, *i), colour_of(found.classes[*i]), thin);
    }
    for (auto i = shown.rbegin(); found.keypoints && i != shown.rend(); ++i) {
        const std::size_t kinds = found.keypoints->kinds;
        const float* points = found.keypoints->values.data() + *i * kinds * 3;
        for (std::size_t kind = 0; kind < kinds; ++kind) {
            pen.dot(points[kind * 3], points[kind * 3 + 1]);
        }
    }
    for (std::size_t i : shown) {  // the best has its place first
        char score[16];
        std::snprintf(score, sizeof score, " %.2f", static_cast<double>(found.scores[i]));
        pen.label_of_box(name_of_category(spec.class_names, found.classes[i]) + score,
                         corners(found.boxes, i), colour_of(found.classes[i]));
    }
}

/// Writes the names of all regions but the smallest at the pixel nearest to their middle.
void name_regions(Pen& pen, const Regions& regions, const Spec& spec) {
    const LabelMap& map = *regions.map;
    const int down = std::max(1, map.height / kSamples), along = std::max(1, map.width / kSamples);
    std::map<std::int64_t, std::vector<std::pair<int, int>>> places;
    int sampled = 0;
    for (int y = down / 2; y < map.height; y += down) {
        for (int x = along / 2; x < map.width; x += along, ++sampled) {
            places[map.labels[static_cast<std::size_t>(y) * map.width + x]].emplace_back(x, y);
        }
    }
    for (const auto& [label, category] : regions.stuff) {
        const auto& points = places[label];
        if (static_cast<double>(points.size()) < std::max(1.0, kLeastNamedShare * sampled)) {
            continue;
        }
        double x_mean = 0, y_mean = 0;
        for (const auto& [x, y] : points) {
            x_mean += x / static_cast<double>(points.size());
            y_mean += y / static_cast<double>(points.size());
        }
        const auto distance = [&](const std::pair<int, int>& at) {
            const double x = at.first - x_mean, y = at.second - y_mean;
            return x * x + y * y;
        };
        const auto nearest =
            *std::min_element(points.begin(), points.end(), [&](const auto& a, const auto& b) {
                return distance(a) < distance(b);
            });
        pen.label_at(name_of_category(spec.stuff_class_names, category), nearest.first,
                     nearest.second, colour_of(category, true));
    }
}

void check(const Image& image, const Outputs& outputs, const Spec& spec) {
    if (image.height != outputs.height || image.width != outputs.width) {
        throw Error("Asked to draw what was found in an image of " + std::to_string(outputs.width) +
                    "x" + std::to_string(outputs.height) + " pixels onto one of " +
                    std::to_string(image.width) + "x" + std::to_string(image.height) +
                    ". Give the image that was answered.");
    }
    const std::int64_t pixels = static_cast<std::int64_t>(image.height) * image.width;
    if (pixels > spec.limits.max_drawn_pixels) {
        throw Error("Asked to draw on an image of " + std::to_string(pixels) +
                    " pixels, expected at most " + std::to_string(spec.limits.max_drawn_pixels) +
                    " (max_drawn_pixels). Scale it down, or leave the picture out.");
    }
}

}  // namespace

Image drawn(const Image& image, const Outputs& outputs, const Spec& spec) {
    check(image, outputs, spec);
    Image picture = viewable(image);
    const Regions regions = regions_of(outputs);
    if (regions.map) {
        std::map<std::int64_t, Colour> colours;
        for (const auto& [label, category] : regions.stuff) {
            colours[label] = colour_of(category, true);
        }
        tint_labels(picture, *regions.map, colours);
    }
    const std::vector<std::size_t> shown = shown_of(outputs);
    const int line = line_for(picture.width, picture.height);
    bool has_masks = false;
    for (auto i = shown.rbegin(); i != shown.rend(); ++i) {
        if (const auto region = region_of(outputs, *i)) {
            has_masks = true;
            tint(picture, *region, colour_of(outputs.instances->classes[*i]), line);
        }
    }
    Pen pen(picture);
    if (outputs.proposals) {
        const std::size_t count = std::min(outputs.proposals->count(), kProposalsDrawn);
        for (std::size_t i = 0; i < count; ++i) {
            pen.box(corners(outputs.proposals->boxes, i), kProposalColour, true);
        }
    }
    if (outputs.instances) draw_boxes(pen, *outputs.instances, shown, spec, has_masks);
    if (regions.map) name_regions(pen, regions, spec);
    pen.write_labels();
    return picture;
}

}  // namespace d2serve
