// What each way writes in its own instructions: RoiAlign of a channel, and the steps of Winograd's
// convolution F(6x6, 3x3).
//
// A tile is a window of 8x8 of a channel, which overlaps the next by 2, and gives 6x6 results. Its
// two transforms are one along columns and one along rows. The one along columns runs over whole
// strips of an image, eight rows high; the one along rows then over each tile, by which it turns:
// of a tile there are eight planes, one for each horizontal frequency, of eight vertical ones.
//
// Layouts, float32, the last index fastest. A block has 64 channels, the last one fewer.
//   weights  [plane 8][block][outs / 8][channel of the block][out 8][8]
//   tiles    [plane 8][block][tiles / 6][channel of the block][tile 6][8]
//   sums     [plane 8][tiles / 6][outs / 8][tile 6][out 8][8]
#pragma once

#include <cstdint>

#include "roi_align.h"

namespace d2k {

constexpr int64_t kWindow = 8;    // A tile's edge, and how many planes it has.
constexpr int64_t kStep = 6;      // Results along an edge of a tile.
constexpr int64_t kTiles = 6;     // Tiles whose sums are formed together.
constexpr int64_t kOuts = 8;      // Outputs whose sums are formed together.
constexpr int64_t kChannels = 64; // Channels that are summed from zero, for the sum's exactness.

struct Steps {
  // Along columns. rows: eight, of which a null one is zeros. strip: eight rows, `stride` apart.
  // Writes `width` columns and none beyond. Asks for what lies `ahead` of each row, as the next channel.
  void (*input_rows)(const float* const* rows, float* strip, int64_t stride, int64_t width,
                     int64_t ahead);

  // Along rows. strip: begins at the first tile's window, and can be read 8 columns beyond the last
  // one's. tiles: the channel's place in the first group of plane 0; `first` is the tile's number.
  void (*input_tiles)(const float* strip, int64_t stride, int64_t count, float* tiles,
                      int64_t first, int64_t group_stride, int64_t plane_stride);

  // sums (+)= weights * tiles for 8 outputs and up to 6 tiles; `first` overwrites the sums. Meanwhile
  // asks for what is needed next: as many cache lines as channels from either address on.
  void (*product)(const float* weights, const float* tiles, float* sums, int64_t channels,
                  int64_t count, bool first, const float* next_tiles,
                  const float* next_weights);

  // Along rows. sums: of an output, in the first group of plane 0. strip: eight rows; writes 8
  // columns from each tile's first one, of which the last two are for the next tile.
  void (*output_tiles)(const float* sums, int64_t first, int64_t count, int64_t group_stride,
                       int64_t plane_stride, float* strip, int64_t stride);

  // Along columns. rows: six results of `width` columns, of which a null one is left out.
  // Asks for what lies `ahead`, where the next output goes.
  void (*output_rows)(const float* strip, int64_t stride, float* const* rows, int64_t width,
                      float bias, bool relu, int64_t ahead);

  // RoiAlign of one channel.
  AlignRoi align_roi;
};

const Steps& portable_steps();
const Steps* avx2_steps();   // Null where the build has none.
const Steps* avx512_steps();

}  // namespace d2k
