#include "plane.h"

namespace d2k {
namespace {

constexpr int64_t kWidest = 512;  // Columns of images side by side: a strip of them fits L1.

int64_t steps(int64_t length) { return (length + kStep - 1) / kStep; }

}  // namespace

Plane::Plane(int64_t count, int64_t height, int64_t width)
    : count(count), height(height), width(width), across(1), down(1), planes(count),
      tiles_across(steps(width)), tiles_down(steps(height)) {
  int64_t best = tiles();
  for (int64_t beside = 1; beside <= count && beside * (width + 1) - 1 <= kWidest; ++beside) {
    const int64_t below = (count + beside - 1) / beside;
    const int64_t wide = steps(beside * (width + 1) - 1);
    const int64_t high = steps(below * (height + 1) - 1);
    if (wide * high < best) {
      best = wide * high;
      across = beside, down = below, planes = 1;
      tiles_across = wide, tiles_down = high;
    }
  }
}

}  // namespace d2k
