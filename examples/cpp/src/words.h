// How messages write numbers and what others said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace d2serve {

/// "1,234,567".
std::string grouped(std::int64_t number);

/// On one line, and no longer than `most` characters, of which the last are kept.
std::string one_line(std::string_view text, std::size_t most = 300);

}  // namespace d2serve
