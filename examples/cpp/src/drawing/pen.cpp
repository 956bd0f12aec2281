#include "drawing/pen.h"

#include <algorithm>
#include <cmath>

#include "drawing/font.h"

namespace d2serve {
namespace {

constexpr Colour kBlack{0, 0, 0}, kWhite{255, 255, 255};
constexpr float kFarAway = 1e6F;
// Of the picture: on a thumbnail, names of regions would hide them.
constexpr double kWidestName = 0.4;

/// 1 for a picture of 640 x 640 pixels.
double scale_of(int width, int height) {
    return std::sqrt(static_cast<double>(width) * height) / 640;
}

int at_least(int least, double value) { return std::max(least, static_cast<int>(std::lround(value))); }

/// A number that can be drawn: NaN becomes 0.
float near(float value) {
    return std::isnan(value) ? 0.0F : std::clamp(value, -kFarAway, kFarAway);
}

}  // namespace

Colour colour_of(std::int64_t number, bool stuff) {
    // Hues are a golden ratio of a turn apart, so that neighbouring categories differ most.
    const double turns = 0.58 + static_cast<double>(number) * 0.618033988749895;
    const double hue = (turns - std::floor(turns)) * 6;
    const double saturation = stuff ? 0.45 : 0.85, value = stuff ? 0.75 : 0.85;
    const auto channel = [&](double shift) {  // of HSV, as a wave along the hue
        const double at = std::fmod(shift + hue, 6);
        const double dip = std::max(0.0, std::min({at, 4 - at, 1.0}));
        return static_cast<std::uint8_t>(std::lround(255 * value * (1 - saturation * dip)));
    };
    return {channel(5), channel(3), channel(1)};
}

int line_for(int width, int height) { return at_least(1, 2.5 * scale_of(width, height)); }

Pen::Pen(Image& picture)
    : picture_(picture),
      line_(line_for(picture.width, picture.height)),
      radius_(at_least(2, 3 * scale_of(picture.width, picture.height))),
      padding_(at_least(1, 3 * scale_of(picture.width, picture.height))),
      dots_(at_least(1, 1.5 * scale_of(picture.width, picture.height))) {}

void Pen::fill(int left, int top, int right, int bottom, const Colour& colour) {
    left = std::max(left, 0);
    right = std::min(right, picture_.width);
    for (int y = std::max(top, 0); y < std::min(bottom, picture_.height); ++y) {
        for (int x = left; x < right; ++x) {
            const std::size_t place = static_cast<std::size_t>(y) * picture_.width + x;
            std::copy(colour.begin(), colour.end(), picture_.pixels.begin() + place * 3);
        }
    }
}

void Pen::line(float x0, float y0, float x1, float y1, int width, const Colour& colour) {
    const bool steep = std::abs(y1 - y0) > std::abs(x1 - x0);
    if (steep) {
        std::swap(x0, y0);
        std::swap(x1, y1);
    }
    if (x0 > x1) {
        std::swap(x0, x1);
        std::swap(y0, y1);
    }
    const float slope = x1 > x0 ? (y1 - y0) / (x1 - x0) : 0.0F;
    // Across the line it is as wide as wanted, so along the other axis a little wider.
    const int across = at_least(1, width * std::sqrt(1.0 + slope * slope));
    const int last = steep ? picture_.height : picture_.width;
    const int from = std::max(static_cast<int>(std::lround(x0)) - width / 2, -1);
    const int to = std::min(static_cast<int>(std::lround(x1)) - width / 2 + width, last + 1);
    for (int step = from; step < to; ++step) {
        const float along = std::clamp(static_cast<float>(step), x0, x1);
        const float middle = y0 + (along - x0) * slope;
        const int low = static_cast<int>(std::lround(middle)) - across / 2;
        if (steep) {
            fill(low, step, low + across, step + 1, colour);
        } else {
            fill(step, low, step + 1, low + across, colour);
        }
    }
}

void Pen::disc(float x, float y, int radius, const Colour& colour) {
    const int middle_x = static_cast<int>(std::lround(x)), middle_y = static_cast<int>(std::lround(y));
    const double reach = radius + 0.3;  // rounder than the radius itself
    for (int row = -radius; row <= radius; ++row) {
        const int half = static_cast<int>(std::sqrt(reach * reach - row * row));
        fill(middle_x - half, middle_y + row, middle_x + half + 1, middle_y + row + 1, colour);
    }
}

void Pen::box(const Corners& corners, const Colour& colour, bool thin) {
    const int width = thin ? std::max(1, line_ / 2) : line_;
    for (int i = 0; i < 4; ++i) {
        const int next = (i + 1) % 4;
        line(near(corners.x[i]), near(corners.y[i]), near(corners.x[next]), near(corners.y[next]),
             width, colour);
    }
}

void Pen::dot(float x, float y) {
    if (!(std::abs(x) < kFarAway && std::abs(y) < kFarAway)) return;
    disc(x, y, radius_ + 1, kBlack);
    disc(x, y, radius_, kWhite);
}

Pen::Label Pen::measured(const std::string& text, const Colour& colour) const {
    const std::string letters = in_ascii(text);
    const int count = static_cast<int>(letters.size());
    return {letters,
            0,
            0,
            std::max(count * (kGlyphWidth + 1) - 1, 0) * dots_ + 2 * padding_,
            kGlyphHeight * dots_ + 2 * padding_,
            colour};
}

void Pen::label_of_box(const std::string& text, const Corners& corners, const Colour& colour) {
    const auto [x0, x1] = std::minmax_element(corners.x, corners.x + 4);
    const auto [y0, y1] = std::minmax_element(corners.y, corners.y + 4);
    const double left = near(*x0), top = near(*y0), right = near(*x1), bottom = near(*y1);
    const Label label = measured(text, colour);
    place(label, {{left, top - label.height},
                  {left, top},
                  {right - label.width, top - label.height},
                  {left, bottom},
                  {left, bottom - label.height},
                  {right - label.width, bottom}});
}

void Pen::label_at(const std::string& text, int x, int y, const Colour& colour) {
    const Label label = measured(text, colour);
    if (label.width > kWidestName * picture_.width) return;
    const double left = x - label.width / 2.0, top = y - label.height / 2.0;
    std::vector<std::pair<double, double>> corners;
    for (int lines : {0, -1, 1, -2, 2}) corners.emplace_back(left, top + lines * label.height);
    place(label, corners);
}

bool Pen::Label::overlaps(const Label& other) const {
    return left < other.left + other.width && other.left < left + width &&
           top < other.top + other.height && other.top < top + height;
}

void Pen::place(Label label, const std::vector<std::pair<double, double>>& corners) {
    Label first = label;
    for (std::size_t i = 0; i < corners.size(); ++i) {
        const auto within = [](double at, int size, int whole) {
            return static_cast<int>(std::clamp(at, 0.0, std::max(whole - size, 0) * 1.0));
        };
        label.left = within(corners[i].first, label.width, picture_.width);
        label.top = within(corners[i].second, label.height, picture_.height);
        if (i == 0) first = label;
        const auto is_there = [&](const Label& each) { return label.overlaps(each); };
        if (std::none_of(labels_.begin(), labels_.end(), is_there)) {
            labels_.push_back(label);
            return;
        }
    }
    labels_.push_back(first);
}

void Pen::write(const Label& label) {
    fill(label.left, label.top, label.left + label.width, label.top + label.height, label.colour);
    // ITU-R BT.601
    const double luma =
        0.299 * label.colour[0] + 0.587 * label.colour[1] + 0.114 * label.colour[2];
    const Colour& ink = luma > 140 ? kBlack : kWhite;
    int left = label.left + padding_;
    for (const char letter : label.text) {
        const auto& rows = glyph_of(letter);
        for (int y = 0; y < kGlyphHeight; ++y) {
            for (int x = 0; x < kGlyphWidth; ++x) {
                if (!(rows[y] >> (kGlyphWidth - 1 - x) & 1)) continue;
                const int dot_x = left + x * dots_, dot_y = label.top + padding_ + y * dots_;
                fill(dot_x, dot_y, dot_x + dots_, dot_y + dots_, ink);
            }
        }
        left += (kGlyphWidth + 1) * dots_;
    }
}

void Pen::write_labels() {
    for (auto label = labels_.rbegin(); label != labels_.rend(); ++label) write(*label);
}

}  // namespace d2serve
