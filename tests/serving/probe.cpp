// What the sample's headers make of bytes, for the tests: probe half|sha256|json, stdin to stdout.
#include <cstdio>
#include <iostream>
#include <iterator>

#include "json.hpp"
#include "preprocess.hpp"
#include "sha256.hpp"

namespace {

using namespace edgedense;

void hex(const std::string& text) {
  for (const char c : text) std::printf("%02x", static_cast<unsigned char>(c));
}

// Depth first, one token a value: compared with the same walk in Python.
void walk(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      std::printf("null ");
      break;
    case Json::Kind::kBool:
      std::printf("bool ");
      break;
    case Json::Kind::kNumber:
      std::printf("%.17g ", value.number());
      break;
    case Json::Kind::kString:
      hex(value.text()), std::printf("s ");
      break;
    case Json::Kind::kArray:
      std::printf("[%zu ", value.items().size());
      for (const Json& item : value.items()) walk(item);
      break;
    case Json::Kind::kObject:
      std::printf("{ ");
      break;
  }
}

}  // namespace

int main(int, char** words) {
  const std::string mode = words[1];
  const std::vector<char> data{std::istreambuf_iterator<char>(std::cin), {}};
  if (mode == "sha256") {
    std::printf("%s", sha256({data.begin(), data.end()}).c_str());
  } else if (mode == "half") {
    for (std::size_t at = 0; at + 4 <= data.size(); at += 4) {
      float value;
      std::memcpy(&value, data.data() + at, 4);
      const std::uint16_t half = to_half(value);
      const float back = from_half(half);
      std::fwrite(&half, 2, 1, stdout);
      std::fwrite(&back, 4, 1, stdout);
    }
  } else {
    try {
      const Json value = Json::parse({data.data(), data.size()});
      if (value.kind() == Json::Kind::kObject && value.has("x"))
        walk(value.at("x"));
      else
        walk(value);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s", error.what());
      return 2;
    }
  }
  return 0;
}
