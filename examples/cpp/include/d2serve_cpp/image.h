// Image files and pixels: the same pixels as the Python library reads, byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "d2serve_cpp/spec.h"

namespace d2serve {

/// Pixels of 8 bits, row by row, channels beside each other; colours in RGB order, also for a model
/// that takes BGR.
struct Image {
    int height = 0;
    int width = 0;
    int channels = 0;
    std::vector<std::uint8_t> pixels;
    std::string converted;
    /// What was done to the file's values beyond reading them, as replies have it; mostly empty.
};

/// Decodes a JPEG or PNG file, upright by its EXIF orientation. Throws Error when it is of another
/// format or kind, damaged, or larger than the limits say.
Image read_image(std::span<const std::byte> file, const ImageForm& form = {},
                 const RequestLimits& limits = {});

/// Reads and decodes a file; see `read_image`.
Image read_image_file(const std::filesystem::path& path, const ImageForm& form = {},
                      const RequestLimits& limits = {});

/// The bytes of a PNG file of an image of 1 to 4 channels (grey, grey and alpha, RGB, RGBA).
std::vector<std::byte> png_of(const Image& image);

/// Writes a PNG file, whole or not at all. Throws Error when it cannot be written.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace d2serve
