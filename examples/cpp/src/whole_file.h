// Writes a file whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace d2serve {

/// Writes beside the place first, then renames. Throws Error when it cannot be written; then
/// nothing is left, and what was there before is as it was.
void write_whole(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace d2serve
