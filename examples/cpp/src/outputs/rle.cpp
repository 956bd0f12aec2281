#include "outputs/rle.h"

#include <algorithm>

namespace d2serve {
namespace {

/// Adds a signed number: groups of five bits, each with a sixth that says whether more follow.
void write(std::int64_t number, std::string& text) {
    for (bool more = true; more;) {
        std::int64_t five_bits = number & 31;
        number >>= 5;
        more = (five_bits & 16) ? number != -1 : number != 0;
        text.push_back(static_cast<char>(48 + (more ? five_bits | 32 : five_bits)));
    }
}

}  // namespace

void RunLengths::set(std::int64_t pixel, bool value) {
    if (value == value_) return;
    value_ = value;
    if (!changes_.empty() && changes_.back() == pixel) {
        changes_.pop_back();  // there and back at one place is no change
    } else {
        changes_.push_back(pixel);
    }
}

Rle RunLengths::rle(int height, int width) const {
    const std::int64_t pixels = static_cast<std::int64_t>(height) * width;
    std::vector<std::int64_t> counts;
    counts.reserve(changes_.size() + 1);
    std::int64_t before = 0;
    for (std::int64_t change : changes_) {
        if (change >= pixels) break;
        counts.push_back(change - before);
        before = change;
    }
    counts.push_back(pixels - before);
    Rle made{height, width, {}};
    for (std::size_t i = 0; i < counts.size(); ++i) {
        write(i > 2 ? counts[i] - counts[i - 2] : counts[i], made.counts);
    }
    return made;
}

Rle encode_whole(int height, int width, const std::vector<bool>& mask) {
    RunLengths runs;
    for (int x = 0; x < width; ++x) {
        for (int y = 0; y < height; ++y) {
            runs.set(static_cast<std::int64_t>(x) * height + y,
                     mask[static_cast<std::size_t>(y) * width + x]);
        }
    }
    return runs.rle(height, width);
}

std::vector<std::int64_t> run_lengths(const Rle& rle) {
    std::vector<std::int64_t> lengths;
    for (std::size_t at = 0; at < rle.counts.size();) {
        std::int64_t number = 0;
        int shift = 0;
        bool more = true;
        while (more && at < rle.counts.size()) {
            const std::int64_t group = rle.counts[at++] - 48;
            number |= (group & 31) << shift;
            shift += 5;
            more = group & 32;
            if (!more && (group & 16)) number |= -(std::int64_t{1} << shift);
        }
        if (lengths.size() > 2) number += lengths[lengths.size() - 2];
        lengths.push_back(number);
    }
    return lengths;
}

}  // namespace d2serve
