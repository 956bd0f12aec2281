// Where the tiles lie: images of one channel beside and below each other, a row of zeros apart.
//
// Small images share tiles that way: 100 of 14x14 take 625 tiles together, and 900 each by itself.
#pragma once

#include <cstdint>

#include "winograd.h"

namespace d2k {

struct Plane {
  int64_t count, height, width;  // Of the images.
  int64_t across, down;          // Images in a plane.
  int64_t planes;
  int64_t tiles_across, tiles_down;

  Plane(int64_t count, int64_t height, int64_t width);

  int64_t tiles() const { return planes * tiles_down * tiles_across; }
};

// Tiles of one row of a plane.
struct Run {
  int64_t plane, row, column;  // Of the first.
  int64_t first, count;        // The first one's number within what was asked for.
};

// Calls each(Run) for tiles `begin` to `end`, numbered row by row and plane by plane.
template <typename Each>
void for_runs(const Plane& plane, int64_t begin, int64_t end, const Each& each) {
  for (int64_t at = begin; at < end;) {
    const int64_t row = at / plane.tiles_across, column = at % plane.tiles_across;
    int64_t count = plane.tiles_across - column;
    if (count > end - at) count = end - at;
    each(Run{row / plane.tiles_down, row % plane.tiles_down, column, at - begin, count});
    at += count;
  }
}

// Calls each(image's column in the plane, its first column that is meant, how many, the column's
// place from `begin`) for the images that columns `begin` to `end` of a plane touch.
template <typename Each>
void for_columns(const Plane& plane, int64_t begin, int64_t end, const Each& each) {
  const int64_t pitch = plane.width + 1;
  for (int64_t i = begin > 0 ? begin / pitch : 0; i < plane.across && i * pitch < end; ++i) {
    const int64_t left = i * pitch > begin ? i * pitch : begin;
    const int64_t stop = i * pitch + plane.width < end ? i * pitch + plane.width : end;
    if (left < stop) each(i, left - i * pitch, stop - left, left - begin);
  }
}

// The image and its row for row `y` of a plane, at column `across` of its images; -1 where zeros lie.
struct Place {
  int64_t image, row;
};
inline Place place(const Plane& plane, int64_t which, int64_t across, int64_t y) {
  if (y < 0) return {-1, 0};
  const int64_t down = y / (plane.height + 1), row = y % (plane.height + 1);
  if (down >= plane.down || row == plane.height) return {-1, 0};
  const int64_t image = (which * plane.down + down) * plane.across + across;
  return {image < plane.count ? image : -1, row};
}

}  // namespace d2k
