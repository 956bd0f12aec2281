// JSON, piece by piece: numbers as short as they read back exactly, as orjson writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace d2serve {

/// JSON text in the making. Commas come by themselves.
class JsonText {
  public:
    JsonText& open(char bracket);  // '{' or '['
    JsonText& close(char bracket);
    JsonText& key(std::string_view name);
    JsonText& text(std::string_view value);
    JsonText& whole(std::int64_t value);
    JsonText& boolean(bool value);
    JsonText& null();
    /// One that is infinite or none becomes a text, as protobuf's JSON has it: "NaN", "Infinity".
    JsonText& number(float value);
    JsonText& number(double value);

    const std::string& str() const { return text_; }

  private:
    void next();
    void quoted(std::string_view value);
    template <class Float>
    void write(Float value);

    std::string text_;
    bool first_ = true;
};

/// The text of bytes in base64 (RFC 4648).
std::string base64_of(std::string_view bytes);

}  // namespace d2serve
