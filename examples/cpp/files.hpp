// Images as PPM or PGM (8 bit, binary), tensors as .npy: formats without a library.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "preprocess.hpp"

namespace edgedense {

// .npy and the network's ends are little-endian, and so are all machines with TensorRT.
static_assert(sizeof(float) == 4, "float is IEEE single precision");

struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

inline std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream || std::filesystem::is_directory(path))
    throw std::runtime_error(path.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

namespace detail {

// The next whole number of a PNM header; comments run from # to the end of the line.
inline int header_number(const std::vector<std::uint8_t>& data, std::size_t& at) {
  while (at < data.size() && (std::isspace(data[at]) || data[at] == '#')) {
    if (data[at] == '#')
      while (at < data.size() && data[at] != '\n' && data[at] != '\r') ++at;
    else
      ++at;
  }
  int value = 0, digits = 0;
  for (; at < data.size() && std::isdigit(data[at]) && ++digits <= 5; ++at)
    value = value * 10 + (data[at] - '0');
  if (digits == 0 || digits > 5) throw std::runtime_error("the header of the image is damaged");
  return value;
}

inline std::string between(const std::string& text, const std::string& from, char to) {
  const auto start = text.find(from);
  const auto end = start == std::string::npos ? start : text.find(to, start + from.size());
  if (end == std::string::npos) throw std::runtime_error("the header of the .npy is damaged");
  return text.substr(start + from.size(), end - start - from.size());
}

}  // namespace detail

// A P6 (RGB) or P5 (grey) image of 8 bits.
inline Image read_image(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> data = read_file(path);
  if (data.size() < 2 || data[0] != 'P' || (data[1] != '5' && data[1] != '6'))
    throw std::runtime_error(path.string() +
                             ": no binary PPM or PGM; convert it: python -c \"from PIL import "
                             "Image; Image.open('a.jpg').convert('RGB').save('a.ppm')\"");
  Image image;
  std::size_t at = 2;
  image.channels = data[1] == '6' ? 3 : 1;
  image.width = detail::header_number(data, at);
  image.height = detail::header_number(data, at);
  if (detail::header_number(data, at) != 255)
    throw std::runtime_error(path.string() + ": not 8 bits a value");
  ++at;  // one blank, then pixels
  const std::size_t count = std::size_t(image.width) * image.height * image.channels;
  if (count == 0 || data.size() < at || data.size() - at < count)
    throw std::runtime_error(path.string() + ": truncated");
  image.pixels.assign(data.begin() + at, data.begin() + at + count);
  return image;
}

// A .npy of float32 in C order.
inline Tensor read_npy(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> data = read_file(path);
  if (data.size() < 10 || std::memcmp(data.data(), "\x93NUMPY\x01", 7) != 0)
    throw std::runtime_error(path.string() + ": no .npy of version 1");
  const std::size_t start = 10 + (data[8] | std::size_t{data[9]} << 8);
  if (start > data.size()) throw std::runtime_error(path.string() + ": truncated");
  const std::string header(data.begin() + 10, data.begin() + start);
  if (detail::between(header, "'descr': '", '\'') != "<f4" ||
      detail::between(header, "'fortran_order': ", ',') != "False")
    throw std::runtime_error(path.string() + ": float32 in C order is wanted");
  Tensor tensor;
  std::size_t count = 1;
  const std::string shape = detail::between(header, "'shape': (", ')');
  constexpr const char* kDigits = "0123456789";
  for (auto at = shape.find_first_of(kDigits); at != std::string::npos;) {
    const auto end = std::min(shape.find_first_not_of(kDigits, at), shape.size());
    if (end - at > 8) throw std::runtime_error(path.string() + ": too large");
    const std::int64_t size = std::stoll(shape.substr(at, end - at));
    tensor.shape.push_back(size);
    count *= static_cast<std::size_t>(size);
    if (count > (std::size_t{1} << 30)) throw std::runtime_error(path.string() + ": too large");
    at = shape.find_first_of(kDigits, end);
  }
  if (data.size() - start != count * sizeof(float))
    throw std::runtime_error(path.string() + ": truncated, or longer than its shape");
  tensor.values.resize(count);
  std::memcpy(tensor.values.data(), data.data() + start, count * sizeof(float));
  return tensor;
}

// Writes `bytes` of the numpy type `descr` ("<f4", "<f2") as .npy.
inline void write_npy(const std::filesystem::path& path, const std::string& descr,
                      const std::vector<std::int64_t>& shape, const void* bytes,
                      std::size_t count) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (const std::int64_t size : shape) header += std::to_string(size) + ",";
  header += "), }";
  header.resize((10 + header.size() + 64) / 64 * 64 - 11, ' ');
  header += '\n';
  std::ofstream stream(path, std::ios::binary);
  const char sizes[] = {char(header.size() & 0xff), char(header.size() >> 8)};
  stream.write("\x93NUMPY\x01\x00", 8).write(sizes, 2).write(header.data(), header.size());
  stream.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
  if (!stream.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

}  // namespace edgedense
