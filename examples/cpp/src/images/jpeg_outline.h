// What a JPEG's markers declare of the work that decoding it makes, before any of it is done.
#pragma once

#include <cstddef>
#include <string>

#include "images/file.h"

namespace d2serve {

struct JpegOutline {
    std::string kind;
    /// In words, where it is one that is not read.
    std::size_t scans = 1;
    /// Passes over the whole picture.
    bool fragmented = false;
};

JpegOutline outline_of(const FileBytes& file);

/// Throws Error when so many scans take longer than the limit.
void check_scans(std::size_t scans, std::uint32_t width, std::uint32_t height,
                 const RequestLimits& limits);

}  // namespace d2serve
