#include "replies/json_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace d2serve {

void JsonText::next() {
    if (!first_) text_ += ',';
    first_ = false;
}

void JsonText::quoted(std::string_view value) {
    text_ += '"';
    for (const char each : value) {
        const auto byte = static_cast<unsigned char>(each);
        switch (each) {
            case '"': text_ += "\\\""; break;
            case '\\': text_ += "\\\\"; break;
            case '\n': text_ += "\\n"; break;
            case '\r': text_ += "\\r"; break;
            case '\t': text_ += "\\t"; break;
            default:
                if (byte < 0x20) {
                    const char* digits = "0123456789abcdef";
                    text_ += "\\u00";
                    text_ += digits[byte >> 4];
                    text_ += digits[byte & 15];
                } else {
                    text_ += each;
                }
        }
    }
    text_ += '"';
}

template <class Float>
void JsonText::write(Float value) {
    next();
    if (std::isnan(value)) {
        text_ += "\"NaN\"";
        return;
    }
    if (std::isinf(value)) {
        text_ += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
        return;
    }
    char digits[64];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    const std::string_view written(digits, static_cast<std::size_t>(end - digits));
    text_ += written;
    if (written.find_first_of(".e") == std::string_view::npos) text_ += ".0";
}

JsonText& JsonText::open(char bracket) {
    next();
    text_ += bracket;
    first_ = true;
    return *this;
}

JsonText& JsonText::close(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
}

JsonText& JsonText::key(std::string_view name) {
    next();
    quoted(name);
    text_ += ':';
    first_ = true;
    return *this;
}

JsonText& JsonText::text(std::string_view value) {
    next();
    quoted(value);
    return *this;
}

JsonText& JsonText::whole(std::int64_t value) {
    next();
    text_ += std::to_string(value);
    return *this;
}

JsonText& JsonText::boolean(bool value) {
    next();
    text_ += value ? "true" : "false";
    return *this;
}

JsonText& JsonText::null() {
    next();
    text_ += "null";
    return *this;
}

JsonText& JsonText::number(float value) {
    write(value);
    return *this;
}

JsonText& JsonText::number(double value) {
    write(value);
    return *this;
}

std::string base64_of(std::string_view bytes) {
    constexpr std::string_view letters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::size_t there = std::min<std::size_t>(3, bytes.size() - at);
        std::uint32_t three = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            const auto byte = i < there ? static_cast<unsigned char>(bytes[at + i]) : 0U;
            three = three << 8 | byte;
        }
        for (std::size_t i = 0; i < 4; ++i) {
            text += i <= there ? letters[three >> (18 - 6 * i) & 63] : '=';
        }
    }
    return text;
}

}  // namespace d2serve
