// What a PNG's chunks say beside the pixels: palette, transparency, orientation, frames.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "images/file.h"
#include "images/orientation.h"

namespace d2serve {

struct PngChunks {
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    int bits = 0;
    int colour_type = 0;
    std::vector<std::uint8_t> palette;
    std::optional<std::string> transparency;
    std::int64_t frames = 1;
    std::size_t unpacked = 0;  ///< Bytes of compressed texts.
    Metadata metadata;
};

/// Walks over the chunks, in a bounded number of steps. Throws Error when the header is missing, or
/// there are more chunks than any software writes.
PngChunks chunks_of(const FileBytes& file);

}  // namespace d2serve
