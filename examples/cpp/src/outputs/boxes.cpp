// `scale`, `clip` and `nonempty` of detectron2/structures/boxes.py and rotated_boxes.py, step by
// step and in float32.
#include "outputs/boxes.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace d2serve {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;
constexpr float kHalfTurn = 180.0F;
// A rotated box is clipped where it is turned by no more degrees than this.
constexpr float kClippedUpTo = 1.0F;

/// The remainder with the sign of the divisor, as Python has it.
float modulo(float value, float divisor) {
    const float rest = std::fmod(value, divisor);
    if (rest == 0.0F) return 0.0F;
    return rest < 0.0F ? rest + divisor : rest;
}

/// A rotated box becomes a parallelogram; what detectron2 takes for it is the rectangle that keeps
/// the lengths and one direction of its axes.
void scale_rotated(float* box, float x, float y) {
    box[0] *= x;
    box[1] *= y;
    const float angle = box[4] * kPi / kHalfTurn;
    const float cosine = std::cos(angle), sine = std::sin(angle);
    const auto length = [](float one, float other) {
        return std::sqrt(one * one + other * other);
    };
    box[2] *= length(x * cosine, y * sine);
    box[3] *= length(x * sine, y * cosine);
    box[4] = std::atan2(x * sine, y * cosine) * kHalfTurn / kPi;
}

void clip_rotated(float* box, const float (&limits)[2]) {
    box[4] = modulo(box[4] + kHalfTurn, 2 * kHalfTurn) - kHalfTurn;
    if (!(std::abs(box[4]) <= kClippedUpTo)) return;
    for (int axis = 0; axis < 2; ++axis) {
        const float centre = box[axis], size = box[2 + axis], half = size / 2.0F;
        const float low = std::clamp(centre - half, 0.0F, limits[axis]);
        const float high = std::clamp(centre + half, 0.0F, limits[axis]);
        box[axis] = (low + high) / 2.0F;
        box[2 + axis] = std::min(size, high - low);
    }
}

}  // namespace

void scale(Boxes& boxes, double scale_x, double scale_y) {
    const float x = static_cast<float>(scale_x), y = static_cast<float>(scale_y);
    for (std::size_t i = 0; i < boxes.count(); ++i) {
        float* box = boxes[i];
        if (boxes.sides == 5) {
            scale_rotated(box, x, y);
            continue;
        }
        for (int side = 0; side < 4; ++side) box[side] *= side % 2 ? y : x;
    }
}

void clip(Boxes& boxes, int height, int width) {
    const float limits[2] = {static_cast<float>(width), static_cast<float>(height)};
    for (std::size_t i = 0; i < boxes.count(); ++i) {
        float* box = boxes[i];
        if (boxes.sides == 5) {
            clip_rotated(box, limits);
            continue;
        }
        for (int side = 0; side < 4; ++side) {
            box[side] = std::clamp(box[side], 0.0F, limits[side % 2]);
        }
    }
}

std::vector<std::size_t> nonempty(const Boxes& boxes) {
    std::vector<std::size_t> kept;
    for (std::size_t i = 0; i < boxes.count(); ++i) {
        const float* box = boxes[i];
        const bool there = boxes.sides == 5 ? box[2] > 0 && box[3] > 0
                                            : box[2] > box[0] && box[3] > box[1];
        if (there) kept.push_back(i);
    }
    return kept;
}

Corners corners(const Boxes& boxes, std::size_t index) {
    const float* box = boxes[index];
    if (boxes.sides != 5) return {{box[0], box[2], box[2], box[0]}, {box[1], box[1], box[3], box[3]}};
    const float angle = box[4] * kPi / kHalfTurn;
    const float cosine = std::cos(angle) / 2, sine = std::sin(angle) / 2;
    const float along[2] = {box[2] * cosine, -box[2] * sine};
    const float down[2] = {box[3] * sine, box[3] * cosine};
    Corners made{};
    const int around[4][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};
    for (int i = 0; i < 4; ++i) {
        const auto [a, d] = around[i];
        made.x[i] = box[0] + static_cast<float>(a) * along[0] + static_cast<float>(d) * down[0];
        made.y[i] = box[1] + static_cast<float>(a) * along[1] + static_cast<float>(d) * down[1];
    }
    return made;
}

}  // namespace d2serve
