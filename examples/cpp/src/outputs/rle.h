// COCO's compressed run lengths, as pycocotools writes them (cocoapi/common/maskApi.c).
#pragma once

#include <cstdint>
#include <vector>

#include "d2serve_cpp/outputs.h"

namespace d2serve {

/// Run lengths of one mask while it is seen pixel by pixel, down the columns of the image.
class RunLengths {
  public:
    /// From this pixel on, `x * height + y`, the mask has this value; pixels come in rising order.
    void set(std::int64_t pixel, bool value);

    /// The RLE of an image of this size, as which the runs end.
    Rle rle(int height, int width) const;

  private:
    std::vector<std::int64_t> changes_;
    bool value_ = false;
};

/// The RLE of a mask, (height, width) row by row.
Rle encode_whole(int height, int width, const std::vector<bool>& mask);

/// Lengths of the runs of an RLE, down the columns of the image; the first is of zeros.
std::vector<std::int64_t> run_lengths(const Rle& rle);

}  // namespace d2serve
