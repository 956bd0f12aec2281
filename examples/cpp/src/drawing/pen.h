// Lines, dots and words on a picture, as large as suits it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "d2serve_cpp/image.h"
#include "drawing/tinting.h"
#include "outputs/boxes.h"

namespace d2serve {

/// The colour of a category, wherever it appears. What can be counted stands out from stuff.
Colour colour_of(std::int64_t number, bool stuff = false);

/// How thick a line is on a picture of this size, in pixels.
int line_for(int width, int height);

/// Draws on one picture of three channels. Labels come last, when it is known where there is room.
class Pen {
  public:
    explicit Pen(Image& picture);

    /// A line around four corners.
    void box(const Corners& corners, const Colour& colour, bool thin);

    /// White in a black ring.
    void dot(float x, float y);

    /// Places a label at a box: above it, or where else no other label is yet.
    void label_of_box(const std::string& text, const Corners& corners, const Colour& colour);

    /// Places a label around a point, or a little above or below it, if it is not too large.
    void label_at(const std::string& text, int x, int y, const Colour& colour);

    /// Writes all labels that were placed, the first on top.
    void write_labels();

  private:
    struct Label {
        std::string text;
        int left, top, width, height;
        Colour colour;

        bool overlaps(const Label& other) const;
    };

    void fill(int left, int top, int right, int bottom, const Colour& colour);
    void line(float x0, float y0, float x1, float y1, int width, const Colour& colour);
    void disc(float x, float y, int radius, const Colour& colour);
    void write(const Label& label);
    Label measured(const std::string& text, const Colour& colour) const;
    void place(Label label, const std::vector<std::pair<double, double>>& corners);

    Image& picture_;
    int line_, radius_, padding_, dots_;  // dots_: pixels of a dot of the font
    std::vector<Label> labels_;
};

}  // namespace d2serve
