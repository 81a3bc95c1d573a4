// How an image becomes the network's input, to the last bit as edgedense does it in Python:
// colour, resize of the shorter side, centre crop, (x / 255 - mean) / std.
//
// The resize gives Pillow's bytes (Image.resize of 8-bit images): antialiased, one direction after
// the other, weights in double precision rounded to 22 fractional bits. Nearest takes pixel
// centres. Compile with -ffp-contract=off: a fused multiply-add rounds once where Pillow rounds
// twice.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgedense {

// 8-bit pixels, row by row, `channels` values each: 3 (RGB) or 1 (grey).
struct Image {
  int width = 0, height = 0, channels = 0;
  std::vector<std::uint8_t> pixels;
};

// The object `preprocess` of a manifest. `resize` is the length of the shorter side, 0 for none.
// Until 12 Pillow resized every image horizontally first; from 13 on (its #9549) vertically first
// where the height shrinks by far more pixels than the width, which moves some bytes by one.
struct Preprocess {
  int height = 0, width = 0, resize = 0, pillow = 13;
  std::vector<double> mean, std;
  std::string interpolation, colour;
};

namespace detail {

constexpr double kPi = 3.14159265358979323846;
constexpr int kPrecision = 32 - 8 - 2;  // fractional bits of a weight
constexpr std::int64_t kLargestArea = std::int64_t{1} << 26;

inline double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

inline double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

inline double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

inline double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

inline double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;  // in source pixels, where nothing shrinks
};

inline Filter filter_of(const std::string& name) {
  if (name == "box") return {box, 0.5};
  if (name == "bilinear") return {bilinear, 1.0};
  if (name == "bicubic") return {bicubic, 2.0};
  if (name == "lanczos") return {lanczos, 3.0};
  throw std::runtime_error("interpolation " + name + " is not known");
}

// The source pixels from `first` on that make one destination pixel, and their weights.
struct Taps {
  int first = 0;
  std::vector<std::int32_t> weights;
};

inline Taps taps_of(int position, double scale, int size, const Filter& filter) {
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch, inverse = 1.0 / stretch;
  const double centre = (position + 0.5) * scale;
  const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
  const int count = std::min(static_cast<int>(centre + support + 0.5), size) - first;
  std::vector<double> exact(static_cast<std::size_t>(count));
  double sum = 0.0;
  for (int k = 0; k < count; ++k) {
    exact[k] = filter.weight((k + first - centre + 0.5) * inverse);
    sum += exact[k];
  }
  Taps taps{first, std::vector<std::int32_t>(exact.size())};
  for (std::size_t k = 0; k < exact.size(); ++k) {
    const double share = sum != 0.0 ? exact[k] / sum : exact[k];
    const double fixed = share * (1 << kPrecision);
    taps.weights[k] = static_cast<std::int32_t>(share < 0 ? fixed - 0.5 : fixed + 0.5);
  }
  return taps;
}

// Resizes rows: `lines` of them, of `in` pixels each that lie `stride` bytes apart.
inline void resample(const std::uint8_t* from, std::uint8_t* to, int in, int out, int lines,
                     std::ptrdiff_t stride, std::ptrdiff_t from_line, std::ptrdiff_t to_line,
                     const Filter& filter) {
  for (int x = 0; x < out; ++x) {
    const Taps taps = taps_of(x, static_cast<double>(in) / out, in, filter);
    for (int line = 0; line < lines; ++line) {
      const std::uint8_t* source = from + line * from_line + taps.first * stride;
      std::int32_t sum = 1 << (kPrecision - 1);
      for (const std::int32_t weight : taps.weights) {
        sum += *source * weight;
        source += stride;
      }
      to[line * to_line + x * stride] =
          static_cast<std::uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
    }
  }
}

inline Image resize_nearest(const Image& image, int width, int height) {
  Image result{width, height, image.channels, {}};
  result.pixels.reserve(static_cast<std::size_t>(width) * height * image.channels);
  const double step_x = static_cast<double>(image.width) / width;
  const double step_y = static_cast<double>(image.height) / height;
  double y = step_y * 0.5;  // added up as Pillow does: a product would round otherwise
  for (int row = 0; row < height; ++row, y += step_y) {
    double x = step_x * 0.5;
    for (int column = 0; column < width; ++column, x += step_x) {
      const auto line = static_cast<std::size_t>(y) * image.width + static_cast<std::size_t>(x);
      const auto* pixel = &image.pixels[line * image.channels];
      result.pixels.insert(result.pixels.end(), pixel, pixel + image.channels);
    }
  }
  return result;
}

inline Image resize_width(const Image& image, int width, const Filter& filter) {
  if (width == image.width) return image;
  const int channels = image.channels;
  Image result{width, image.height, channels, {}};
  result.pixels.resize(static_cast<std::size_t>(width) * image.height * channels);
  for (int c = 0; c < channels; ++c)
    resample(&image.pixels[c], &result.pixels[c], image.width, width, image.height, channels,
             std::ptrdiff_t{image.width} * channels, std::ptrdiff_t{width} * channels, filter);
  return result;
}

inline Image resize_height(const Image& image, int height, const Filter& filter) {
  if (height == image.height) return image;
  const int row = image.width * image.channels;
  Image result{image.width, height, image.channels, {}};
  result.pixels.resize(static_cast<std::size_t>(row) * height);
  resample(image.pixels.data(), result.pixels.data(), image.height, height, row, row, 1, 1, filter);
  return result;
}

inline Image resize(const Image& image, int width, int height, const Preprocess& wanted) {
  if (width == image.width && height == image.height) return image;
  if (wanted.interpolation == "nearest") return resize_nearest(image, width, height);
  const Filter filter = filter_of(wanted.interpolation);
  const int lower = image.height - height, narrower = image.width - width;
  if (wanted.pillow >= 13 && lower > 0 && lower > 2 * narrower)
    return resize_width(resize_height(image, height, filter), width, filter);
  return resize_height(resize_width(image, width, filter), height, filter);
}

inline Image grey(const Image& rgb) {
  Image result{rgb.width, rgb.height, 1, {}};
  result.pixels.reserve(rgb.pixels.size() / 3);
  for (std::size_t k = 0; k + 2 < rgb.pixels.size(); k += 3) {  // ITU-R 601-2 luma, 16 bits
    const std::uint32_t luma =
        rgb.pixels[k] * 19595u + rgb.pixels[k + 1] * 38470u + rgb.pixels[k + 2] * 7471u;
    result.pixels.push_back(static_cast<std::uint8_t>((luma + 0x8000u) >> 16));
  }
  return result;
}

inline Image rgb(const Image& grey) {
  Image result{grey.width, grey.height, 3, {}};
  result.pixels.reserve(grey.pixels.size() * 3);
  for (const std::uint8_t value : grey.pixels) result.pixels.insert(result.pixels.end(), 3, value);
  return result;
}

inline Image crop(const Image& image, int width, int height) {
  // half a pixel goes to the even side, as Python's round does (the default rounding mode)
  const int left = static_cast<int>(std::nearbyint((image.width - width) / 2.0));
  const int top = static_cast<int>(std::nearbyint((image.height - height) / 2.0));
  Image result{width, height, image.channels, {}};
  result.pixels.reserve(static_cast<std::size_t>(width) * height * image.channels);
  for (int y = 0; y < height; ++y) {
    const auto start = (static_cast<std::size_t>(top + y) * image.width + left) * image.channels;
    const auto* line = &image.pixels[start];
    result.pixels.insert(result.pixels.end(), line, line + width * image.channels);
  }
  return result;
}

inline Image fit(const Image& image, const Preprocess& wanted) {
  if (wanted.resize == 0) {
    if (image.width == wanted.width && image.height == wanted.height) return image;
    throw std::runtime_error("the image has " + std::to_string(image.width) + "x" +
                             std::to_string(image.height) + " pixels, the network takes " +
                             std::to_string(wanted.width) + "x" + std::to_string(wanted.height) +
                             " and its preprocessing does not resize");
  }
  const std::int64_t shorter = wanted.resize, width = image.width, height = image.height;
  const bool upright = width <= height;
  const std::int64_t to_width = upright ? shorter : shorter * width / height;
  const std::int64_t to_height = upright ? shorter * height / width : shorter;
  if (to_width * to_height > kLargestArea)
    throw std::runtime_error("the image is too elongated to be resized");
  return crop(resize(image, static_cast<int>(to_width), static_cast<int>(to_height), wanted),
              wanted.width, wanted.height);
}

}  // namespace detail

// The network's input (channels, height, width) for one image of 3 channels or 1.
inline std::vector<float> preprocess(const Image& image, const Preprocess& wanted) {
  const bool one = wanted.colour == "L";
  Image source = image;
  if (one && image.channels == 3) source = detail::grey(image);
  if (!one && image.channels == 1) source = detail::rgb(image);
  const Image fitted = detail::fit(source, wanted);
  const std::size_t channels = fitted.channels, area = fitted.pixels.size() / channels;
  std::vector<float> values(fitted.pixels.size());
  for (std::size_t c = 0; c < channels; ++c) {
    const std::size_t band = wanted.colour == "BGR" ? channels - 1 - c : c;
    const float mean = static_cast<float>(wanted.mean[c]);
    const float deviation = static_cast<float>(wanted.std[c]);
    for (std::size_t k = 0; k < area; ++k) {
      const float scaled = static_cast<float>(fitted.pixels[k * channels + band]) / 255.0f;
      values[c * area + k] = (scaled - mean) / deviation;
    }
  }
  return values;
}

// IEEE half precision, rounded to the nearest, ties to even: numpy's astype(float16).
inline std::uint16_t to_half(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // infinite
  if (magnitude < 0x38800000u) {  // subnormal: a count of 2^-24; the product is exact
    float size;
    std::memcpy(&size, &magnitude, sizeof size);
    return static_cast<std::uint16_t>(
        sign | static_cast<std::uint32_t>(std::nearbyint(size * 16777216.0f)));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

inline float from_half(std::uint16_t half) {
  const std::uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
  const float sign = half & 0x8000u ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), static_cast<int>(exponent) - 25);
}

}  // namespace edgedense
