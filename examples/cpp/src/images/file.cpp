#include "images/file.h"

#include <algorithm>
#include <sstream>

#include "d2serve_cpp/error.h"
#include "words.h"

namespace d2serve {

std::string_view FileBytes::text(std::size_t at, std::size_t count) const {
    if (at >= size_) return {};
    return {reinterpret_cast<const char*>(data_) + at, std::min(count, size_ - at)};
}

Deadline::Deadline(const RequestLimits& limits)
    : seconds_(limits.max_decode_seconds),
      end_(std::chrono::steady_clock::now() +
           std::chrono::duration_cast<std::chrono::steady_clock::duration>(
               std::chrono::duration<double>(limits.max_decode_seconds))) {}

bool Deadline::is_over() const {
    return std::chrono::steady_clock::now() > end_;
}

void Deadline::refuse() const {
    std::ostringstream seconds;
    seconds << seconds_;
    throw Error("Got an image that was not decoded within " + seconds.str() +
                " s. Scale it down, or save it again as PNG or baseline JPEG.");
}

void check_pixel_count(std::uint32_t width, std::uint32_t height, const RequestLimits& limits) {
    const std::string size = std::to_string(width) + "x" + std::to_string(height);
    if (width == 0 || height == 0) {
        throw Error("Got an image of " + size + " pixels, expected at least 1x1.");
    }
    if (static_cast<std::uint64_t>(width) * height >
        static_cast<std::uint64_t>(limits.max_image_pixels)) {
        throw Error("Got an image of " + size + " pixels, expected at most " +
                    grouped(limits.max_image_pixels) +
                    " pixels. Scale it down: the model resizes it anyway.");
    }
}

void refuse_pieces() {
    throw Error(
        "Got an image file in more pieces than any software writes. Save the image again, "
        "as PNG or JPEG.");
}

void refuse_damaged(const FileBytes& file, const char* format, const std::string& reason) {
    throw Error("Got " + std::to_string(file.size()) + " bytes that start as " + format +
                " but cannot be decoded (" + one_line(reason, 200) +
                "). The file is probably truncated or damaged: send it again whole.");
}

void refuse_kind(const FileBytes& file, const std::string& kind) {
    throw Error("Got " + std::to_string(file.size()) + " bytes that are " + kind +
                ", a kind that is not read. Save it as PNG, or as a JPEG of the usual kind.");
}

}  // namespace d2serve
