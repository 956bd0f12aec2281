// What reading of a file means for both formats: bytes with bounds, limits, and one kind of error.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "d2serve_cpp/image.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// A file in memory. Reading beyond its end gives nothing, or false.
class FileBytes {
  public:
    explicit FileBytes(std::span<const std::byte> file)
        : data_(reinterpret_cast<const std::uint8_t*>(file.data())), size_(file.size()) {}

    const std::uint8_t* data() const { return data_; }
    std::size_t size() const { return size_; }
    bool has(std::size_t at, std::size_t count) const { return at <= size_ && count <= size_ - at; }
    std::uint8_t operator[](std::size_t at) const { return data_[at]; }
    std::uint16_t u16(std::size_t at) const {
        return static_cast<std::uint16_t>(data_[at] << 8 | data_[at + 1]);
    }
    std::uint32_t u32(std::size_t at) const {
        return static_cast<std::uint32_t>(u16(at)) << 16 | u16(at + 2);
    }
    /// Some bytes as text; fewer where the file ends.
    std::string_view text(std::size_t at, std::size_t count) const;
    bool starts_with(std::string_view start) const { return text(0, start.size()) == start; }

  private:
    const std::uint8_t* data_;
    std::size_t size_;
};

/// When decoding is given up.
class Deadline {
  public:
    explicit Deadline(const RequestLimits& limits);
    bool is_over() const;
    /// Throws the Error that the image took too long.
    [[noreturn]] void refuse() const;

  private:
    double seconds_;
    std::chrono::steady_clock::time_point end_;
};

/// Throws Error when an image has no pixels, or more than the limit.
void check_pixel_count(std::uint32_t width, std::uint32_t height, const RequestLimits& limits);

/// Throws the Error for a file in more pieces than any software writes.
[[noreturn]] void refuse_pieces();

/// Throws the Error for a file that cannot be decoded.
[[noreturn]] void refuse_damaged(const FileBytes& file, const char* format,
                                 const std::string& reason);

/// Throws the Error for a kind of a format that is not read.
[[noreturn]] void refuse_kind(const FileBytes& file, const std::string& kind);

}  // namespace d2serve
