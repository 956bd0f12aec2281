#include "images/orientation.h"

#include <array>
#include <bit>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

namespace d2serve {
namespace {

constexpr std::uint16_t kOrientation = 0x0112;
constexpr std::string_view kMark{"Exif\0\0", 6};
constexpr int kUpright = 1;

/// Bytes of one value, by TIFF's number of its type; 0 of those that Pillow does not know.
std::size_t size_of_type(unsigned type) {
    constexpr std::array<std::size_t, 17> sizes = {0, 1, 1, 2, 4, 8, 1, 1, 2,
                                                   4, 8, 4, 8, 4, 0, 0, 8};
    return type < sizes.size() ? sizes[type] : 0;
}

/// The TIFF inside EXIF.
class Tiff {
  public:
    Tiff(std::string_view data, bool little) : data_(data), little_(little) {}

    bool has(std::size_t at, std::size_t count) const {
        return at <= data_.size() && count <= data_.size() - at;
    }
    std::size_t size() const { return data_.size(); }

    std::uint64_t number(std::size_t at, std::size_t bytes) const {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            const std::size_t from = little_ ? at + bytes - 1 - i : at + i;
            value = value << 8 | static_cast<unsigned char>(data_[from]);
        }
        return value;
    }

    /// The first value of a tag as a number; nothing where it is text, bytes or no number.
    std::optional<double> value(unsigned type, std::size_t at) const {
        const auto two = [&](std::size_t from) { return number(from, 4); };
        switch (type) {
            case 3:
                return static_cast<double>(number(at, 2));
            case 4:
            case 13:
                return static_cast<double>(two(at));
            case 5:
                return static_cast<double>(two(at)) / static_cast<double>(two(at + 4));
            case 6:
                return static_cast<std::int8_t>(number(at, 1));
            case 8:
                return static_cast<std::int16_t>(number(at, 2));
            case 9:
                return static_cast<std::int32_t>(two(at));
            case 10:
                return static_cast<double>(static_cast<std::int32_t>(two(at))) /
                       static_cast<std::int32_t>(two(at + 4));
            case 11:
                return std::bit_cast<float>(static_cast<std::uint32_t>(two(at)));
            case 12:
                return std::bit_cast<double>(number(at, 8));
            case 16:
                return static_cast<double>(number(at, 8));
            default:
                return std::nullopt;
        }
    }

  private:
    std::string_view data_;
    bool little_;
};

enum class Said { nothing, broken, orientation };

struct Found {
    Said said = Said::nothing;
    int orientation = kUpright;
};

int orientation_in(std::optional<double> value) {
    for (int each = 2; each <= 8; ++each) {
        if (value == each) return each;
    }
    return kUpright;
}

/// What the first directory says, up to where it is broken; of a tag that is there twice the first.
Found in_directory(const Tiff& tiff, std::size_t at) {
    if (!tiff.has(at, 2)) return {};
    const std::uint64_t entries = tiff.number(at, 2);
    at += 2;
    std::set<std::uint64_t> seen;
    std::uint64_t beside = 0;
    for (std::uint64_t i = 0; i < entries && tiff.has(at, 12); ++i, at += 12) {
        const std::uint64_t tag = tiff.number(at, 2), count = tiff.number(at + 4, 4);
        const auto type = static_cast<unsigned>(tiff.number(at + 2, 2));
        const std::uint64_t bytes = count * size_of_type(type);
        if (seen.contains(tag) || bytes == 0) continue;
        std::size_t value_at = at + 8;
        if (bytes > 4) {
            value_at = static_cast<std::size_t>(tiff.number(at + 8, 4));
            beside += bytes;
            if (beside > tiff.size()) continue;
            if (!tiff.has(value_at, bytes)) return {};
        }
        seen.insert(tag);
        if (tag == kOrientation) {
            return {Said::orientation, orientation_in(tiff.value(type, value_at))};
        }
    }
    return {};
}

Found in_exif(std::string_view data) {
    for (int i = 0; i < 2 && data.starts_with(kMark); ++i) data.remove_prefix(kMark.size());
    if (data.empty()) return {};
    using namespace std::string_view_literals;
    constexpr std::array starts = {"MM\0\x2a"sv, "II\x2a\0"sv, "MM\x2a\0"sv,
                                   "II\0\x2a"sv, "MM\0\x2b"sv, "II\x2b\0"sv};
    const std::string_view start = data.substr(0, 4);
    bool known = false;
    for (const auto& each : starts) known |= start == each;
    // Of the format for large files (0x2b) Pillow reads the numbers of the other, where it does.
    if (!known || data.size() < 8 || data[2] == '\x2b') return {Said::broken, kUpright};
    const Tiff tiff(data, start.starts_with("II"));
    return in_directory(tiff, static_cast<std::size_t>(tiff.number(4, 4)));
}

std::optional<std::string> from_hexadecimal(std::string_view text) {
    for (int line = 0; line < 3; ++line) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return "";
        text.remove_prefix(end + 1);
    }
    std::string bytes;
    int waiting = -1;
    for (const char c : text) {
        if (c == '\n' || c == ' ' || c == '\r' || c == '\t') {
            if (waiting >= 0 && c != '\n') return std::nullopt;  // lines are joined, blanks are not
            continue;
        }
        const std::size_t digit = std::string_view("0123456789abcdef").find(c | 0x20);
        const bool is_digit = digit != std::string_view::npos && (c >= 'A' || digit < 10);
        if (!is_digit) return std::nullopt;
        if (waiting < 0) {
            waiting = static_cast<int>(digit);
        } else {
            bytes += static_cast<char>(waiting << 4 | static_cast<int>(digit));
            waiting = -1;
        }
    }
    if (waiting >= 0) return std::nullopt;
    return bytes;
}

int in_xmp(std::string_view xmp) {
    constexpr std::string_view name = "tiff:Orientation";
    for (std::size_t at = xmp.find(name); at != std::string_view::npos;
         at = xmp.find(name, at + 1)) {
        std::string_view after = xmp.substr(at + name.size(), 3);
        if (after.starts_with("=\"")) {
            after.remove_prefix(2);
        } else if (after.starts_with(">")) {
            after.remove_prefix(1);
        } else {
            continue;
        }
        if (after.empty() || after.front() < '0' || after.front() > '9') continue;
        return orientation_in(after.front() - '0');
    }
    return kUpright;
}

}  // namespace

int orientation_of(const Metadata& metadata) {
    Found found;
    if (metadata.exif) {
        found = in_exif(*metadata.exif);
    } else if (metadata.raw_profile) {
        const auto bytes = from_hexadecimal(*metadata.raw_profile);
        if (!bytes) return kUpright;
        found = in_exif(*bytes);
    }
    if (found.said == Said::nothing) return in_xmp(metadata.xmp);
    return found.orientation;
}

Image upright(Image image, int orientation) {
    if (orientation <= 1 || orientation > 8) return image;
    const bool swapped = orientation >= 5;
    Image made;
    made.height = swapped ? image.width : image.height;
    made.width = swapped ? image.height : image.width;
    made.channels = image.channels;
    made.converted = std::move(image.converted);
    made.pixels.resize(image.pixels.size());
    const auto channels = static_cast<std::size_t>(image.channels);
    // By EXIF's number: whether the source is read from its bottom, or its right.
    const bool from_bottom =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const bool from_right =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    std::uint8_t* out = made.pixels.data();
    for (int y = 0; y < made.height; ++y) {
        for (int x = 0; x < made.width; ++x) {
            const int row = swapped ? x : y, column = swapped ? y : x;
            const auto from_row =
                static_cast<std::size_t>(from_bottom ? image.height - 1 - row : row);
            const auto from_column =
                static_cast<std::size_t>(from_right ? image.width - 1 - column : column);
            const std::uint8_t* in =
                image.pixels.data() +
                (from_row * static_cast<std::size_t>(image.width) + from_column) * channels;
            for (std::size_t c = 0; c < channels; ++c) *out++ = in[c];
        }
    }
    return made;
}

}  // namespace d2serve
