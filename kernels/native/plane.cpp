#include "plane.h"

namespace d2k {
namespace {

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

int64_t find_pieces(const Plane& plane, int64_t which, int64_t top, int64_t rows, int64_t left,
                    int64_t right, Piece* pieces) {
  const int64_t across_pitch = plane.width + 1, down_pitch = plane.height + 1;
  int64_t found = 0;
  for (int64_t i = left > 0 ? left / across_pitch : 0;
       i < plane.across && i * across_pitch < right; ++i) {
    const int64_t from = i * across_pitch > left ? i * across_pitch : left;
    const int64_t end = i * across_pitch + plane.width;
    const int64_t stop = end < right ? end : right;
    if (from >= stop) continue;
    Piece& piece = pieces[found++];
    piece.at = from - left;
    piece.width = stop - from;
    for (int64_t y = 0; y < rows; ++y) {
      const int64_t below = top + y < 0 ? plane.down : (top + y) / down_pitch;
      const int64_t row = (top + y) % down_pitch;
      const int64_t image = (which * plane.down + below) * plane.across + i;
      const bool is_there = below < plane.down && row < plane.height && image < plane.count;
      piece.image[y] = is_there ? image : -1;
      piece.offset[y] = row * plane.width + from - i * across_pitch;
    }
  }
  return found;
}

}  // namespace d2k
