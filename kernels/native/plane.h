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

// Columns of an image that a run touches, and where each row of the run's strip begins there.
struct Piece {
  int64_t at, width;    // In the strip.
  int64_t image[8];     // For each row; -1 where zeros lie.
  int64_t offset[8];    // Of the row's first column that is meant, within a channel of the image.
};

// The pieces of columns `left` to `right` and `rows` rows from `top` on. Returns how many there are;
// `pieces` has room for kMostPieces.
constexpr int64_t kWidest = 512;  // Columns of images side by side: a strip of them fits L1.
constexpr int64_t kMostPieces = kWidest / 2 + 1;
int64_t find_pieces(const Plane& plane, int64_t which, int64_t top, int64_t rows, int64_t left,
                    int64_t right, Piece* pieces);

}  // namespace d2k
