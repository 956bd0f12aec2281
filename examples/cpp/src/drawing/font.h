// A small font of our own: letters of 5 by 7 dots, so that drawing needs no font file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace d2serve {

inline constexpr int kGlyphWidth = 5, kGlyphHeight = 7;

/// Rows of a letter from the top, the leftmost dot in the highest of five bits; the letter is one of
/// `in_ascii`'s.
const std::array<std::uint8_t, kGlyphHeight>& glyph_of(char letter);

/// A text in UTF-8 with "?" for each character that the font has not.
std::string in_ascii(std::string_view text);

}  // namespace d2serve
