#include <png.h>

#include "d2serve_cpp/error.h"
#include "d2serve_cpp/image.h"
#include "whole_file.h"

namespace d2serve {

std::vector<std::byte> png_of(const Image& image) {
    constexpr png_uint_32 formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB,
                                       PNG_FORMAT_RGBA};
    if (image.channels < 1 || image.channels > 4) {
        throw Error("An image of " + std::to_string(image.channels) +
                    " channels cannot be written as PNG, which has 1 to 4.");
    }
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<png_uint_32>(image.width);
    png.height = static_cast<png_uint_32>(image.height);
    png.format = formats[image.channels - 1];
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
    std::vector<std::byte> bytes(size);
    if (png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr) ==
        0) {
        throw Error("The image cannot be written as PNG (" + std::string(png.message) + ").");
    }
    bytes.resize(size);
    return bytes;
}

void write_png(const std::filesystem::path& path, const Image& image) {
    write_whole(path, png_of(image));
}

}  // namespace d2serve
