// How a picture is to be turned upright, by its EXIF or XMP: as Pillow reads them.
#pragma once

#include <optional>
#include <string>

#include "d2serve_cpp/image.h"

namespace d2serve {

/// What a file says beside its pixels, where Pillow looks for an orientation.
struct Metadata {
    std::optional<std::string> exif;
    /// With "Exif\0\0" before it or without.
    std::optional<std::string> raw_profile;
    /// EXIF as ImageMagick writes it into PNG: three lines, then hexadecimal.
    std::string xmp;
};

/// 1 to 8, as EXIF numbers them; 1 where there is none, or what is there is broken.
int orientation_of(const Metadata& metadata);

/// The picture upright.
Image upright(Image image, int orientation);

}  // namespace d2serve
