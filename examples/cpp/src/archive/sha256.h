// SHA-256 (FIPS 180-4), which an archive's spec names for each file of its program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace d2serve {

class Sha256 {
  public:
    void add(std::span<const std::byte> bytes);

    /// In hexadecimal; of all that was added. Nothing may be added afterwards.
    std::string hex();

  private:
    void take(const std::uint8_t* block);

    std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> waiting_{};
    std::size_t waits_ = 0;
    std::uint64_t bytes_ = 0;
};

/// Of a file's bytes. Throws Error when it cannot be read.
std::string sha256_of(const std::filesystem::path& file);

}  // namespace d2serve
