// JSON as RFC 8259 has it, nothing more: what a manifest needs, and refuses what is damaged.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace edgedense {

class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  static Json parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }

  // The member `key` of an object. Throws where there is none.
  const Json& at(const std::string& key) const {
    expect(Kind::kObject, "an object");
    const auto found = members_.find(key);
    if (found == members_.end()) throw std::runtime_error("key \"" + key + "\" is missing");
    return found->second;
  }
  bool has(const std::string& key) const { return members_.count(key) != 0; }
  const std::vector<Json>& items() const { return expect(Kind::kArray, "a list").items_; }
  const std::string& text() const { return expect(Kind::kString, "a string").text_; }
  double number() const { return expect(Kind::kNumber, "a number").number_; }

  // A whole number in [least, most].
  std::int64_t whole(std::int64_t least, std::int64_t most) const {
    const double value = number();
    if (value != std::floor(value) || !(value >= static_cast<double>(least)) ||
        !(value <= static_cast<double>(most)))
      throw std::runtime_error("a whole number from " + std::to_string(least) + " to " +
                               std::to_string(most) + " is wanted");
    return static_cast<std::int64_t>(value);
  }

 private:
  friend class JsonReader;

  const Json& expect(Kind kind, const char* name) const {
    if (kind_ != kind) throw std::runtime_error(std::string(name) + " is wanted");
    return *this;
  }

  Kind kind_ = Kind::kNull;
  bool truth_ = false;
  double number_ = 0.0;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json whole_text() {
    Json value = this->value(0);
    skip_space();
    if (at_ != text_.size()) fail("text after the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("not JSON at byte " + std::to_string(at_) + ": " + what);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(peek()) != std::string_view::npos)
      ++at_;
  }

  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void need(char c) {
    if (!take(c)) fail(std::string("'") + c + "' is wanted");
  }

  bool word(std::string_view name) {
    if (text_.substr(at_, name.size()) != name) return false;
    at_ += name.size();
    return true;
  }

  Json value(int depth) {
    if (depth > 64) fail("nested too deeply");
    skip_space();
    Json result;
    if (peek() == '{') return object(depth);
    if (peek() == '[') return array(depth);
    if (peek() == '"') {
      result.kind_ = Json::Kind::kString;
      result.text_ = string();
    } else if (word("true") || word("false")) {
      result.kind_ = Json::Kind::kBool;
      result.truth_ = text_[at_ - 2] == 'u';
    } else if (!word("null")) {
      result.kind_ = Json::Kind::kNumber;
      result.number_ = number();
    }
    return result;
  }

  Json object(int depth) {
    Json result;
    result.kind_ = Json::Kind::kObject;
    need('{');
    if (take('}')) return result;
    do {
      skip_space();
      const std::string key = string();
      need(':');
      if (!result.members_.emplace(key, value(depth + 1)).second) fail("key twice: " + key);
    } while (take(','));
    need('}');
    return result;
  }

  Json array(int depth) {
    Json result;
    result.kind_ = Json::Kind::kArray;
    need('[');
    if (take(']')) return result;
    do result.items_.push_back(value(depth + 1));
    while (take(','));
    need(']');
    return result;
  }

  bool digits() {
    const std::size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  double number() {
    const std::size_t start = at_;
    if (peek() == '-') ++at_;
    const bool zero = peek() == '0';
    const std::size_t first = at_;
    if (!digits() || (zero && at_ != first + 1)) fail("a value is wanted");
    if (peek() == '.') {
      ++at_;
      if (!digits()) fail("digits are wanted");
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!digits()) fail("digits are wanted");
    }
    const double value =
        std::strtod(std::string(text_.substr(start, at_ - start)).c_str(), nullptr);
    if (!std::isfinite(value)) fail("the number is too large");
    return value;
  }

  std::string string() {
    if (peek() != '"') fail("a string is wanted");
    ++at_;
    std::string result;
    while (at_ < text_.size() && peek() != '"') {
      const char c = text_[at_++];
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '\\')
        escape(result);
      else
        result += c;
    }
    if (at_ >= text_.size()) fail("the string does not end");
    ++at_;
    return result;
  }

  void escape(std::string& into) {
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (const auto which = from.find(c); c != '\0' && which != std::string_view::npos) {
      into += to[which];
      return;
    }
    if (c != 'u') fail("an unknown escape");
    std::uint32_t code = unit();
    if (code >= 0xd800 && code < 0xdc00 && word("\\u")) {
      const std::uint32_t low = unit();
      if (low < 0xdc00 || low > 0xdfff) fail("half a character");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code >= 0xd800 && code <= 0xdfff) fail("half a character");
    utf8(code, into);
  }

  std::uint32_t unit() {
    std::uint32_t code = 0;
    for (int k = 0; k < 4; ++k) {
      const auto digit = std::string_view("0123456789abcdef")
                             .find(static_cast<char>(peek() | (peek() >= 'A' ? 0x20 : 0)));
      if (peek() == '\0' || digit == std::string_view::npos) fail("four hex digits are wanted");
      code = code << 4 | static_cast<std::uint32_t>(digit);
      ++at_;
    }
    return code;
  }

  static void utf8(std::uint32_t code, std::string& into) {
    if (code < 0x80) {
      into += static_cast<char>(code);
      return;
    }
    const int extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static constexpr std::uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    into += static_cast<char>(lead[extra] | code >> 6 * extra);
    for (int k = extra - 1; k >= 0; --k) into += static_cast<char>(0x80 | (code >> 6 * k & 0x3f));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

inline Json Json::parse(std::string_view text) { return JsonReader(text).whole_text(); }

}  // namespace edgedense
