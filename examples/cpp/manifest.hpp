// What the runner takes from an engine artifact's manifest.json, checked.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "files.hpp"
#include "json.hpp"
#include "preprocess.hpp"
#include "sha256.hpp"

namespace edgedense {

struct Engine {
  std::string backend, input_name, output_name, activation;
  std::array<std::int64_t, 3> input_shape{};  // channels, height, width
  std::vector<std::int64_t> output_shape;     // classes; or classes, height, width
  std::int64_t least_batch = 1, most_batch = 1;
  bool half = false;  // both ends are float16, else float32
  Preprocess preprocess;

  std::size_t input_values() const {
    return static_cast<std::size_t>(input_shape[0] * input_shape[1] * input_shape[2]);
  }
  std::size_t output_values() const {
    std::size_t count = 1;
    for (const std::int64_t size : output_shape) count *= static_cast<std::size_t>(size);
    return count;
  }
};

namespace detail {

constexpr std::int64_t kLargestSide = 1 << 16;

inline std::vector<double> statistics(const Json& values, std::size_t count, double least) {
  std::vector<double> result;
  for (const Json& value : values.items()) {
    result.push_back(value.number());
    if (!(result.back() >= least && result.back() <= 1.0))
      throw std::runtime_error("mean and std are of values scaled to [0, 1]");
  }
  if (result.size() != count) throw std::runtime_error("one mean and std a channel is wanted");
  return result;
}

inline Preprocess preprocess_of(const Json& raw) {
  Preprocess result;
  result.colour = raw.at("colour").text();
  result.interpolation = raw.at("interpolation").text();
  const bool colour = result.colour == "RGB" || result.colour == "BGR";
  if (!colour && result.colour != "L") throw std::runtime_error("colour is not RGB, BGR or L");
  if (result.interpolation != "nearest") filter_of(result.interpolation);
  const auto& size = raw.at("input_size").items();
  if (size.size() != 2) throw std::runtime_error("input_size is not (height, width)");
  result.height = static_cast<int>(size[0].whole(1, 1 << 13));
  result.width = static_cast<int>(size[1].whole(1, 1 << 13));
  if (raw.has("resize") && !raw.at("resize").is_null())
    result.resize =
        static_cast<int>(raw.at("resize").whole(std::max(result.height, result.width), 1 << 13));
  const std::size_t channels = colour ? 3 : 1;
  result.mean = statistics(raw.at("mean"), channels, 0.0);
  result.std = statistics(raw.at("std"), channels, 1e-6);
  return result;
}

// The major version of the Pillow beside which the engine was built and judged.
inline int pillow_of(const Json& environment) {
  const Json& packages = environment.at("packages");
  if (!packages.has("PIL")) return Preprocess{}.pillow;
  return std::atoi(packages.at("PIL").text().c_str());
}

}  // namespace detail

inline Engine engine_of(const Json& manifest) {
  if (manifest.at("format").text() != "edgedense/1" ||
      manifest.at("stage").text() != "build-engine")
    throw std::runtime_error("this is no engine artifact of format edgedense/1");
  const Json& ends = manifest.at("interface");
  Engine engine;
  engine.backend = manifest.at("report").at("backend").text();
  engine.input_name = ends.at("input_name").text();
  engine.output_name = ends.at("output_name").text();
  engine.activation = ends.at("activation").text();
  const auto& input = ends.at("input_shape").items();
  if (input.size() != 3 || ends.at("layout").text() != "NCHW")
    throw std::runtime_error("input_shape is not (channels, height, width)");
  for (std::size_t k = 0; k < 3; ++k)
    engine.input_shape[k] = input[k].whole(1, detail::kLargestSide);
  for (const Json& size : ends.at("output_shape").items())
    engine.output_shape.push_back(size.whole(1, detail::kLargestSide));
  if (engine.output_shape.empty()) throw std::runtime_error("output_shape is empty");
  if (!ends.at("batch").is_null()) {
    const auto& batch = ends.at("batch").items();
    if (batch.size() != 3) throw std::runtime_error("batch is not (min, opt, max)");
    engine.least_batch = batch[0].whole(1, detail::kLargestSide);
    engine.most_batch = batch[2].whole(engine.least_batch, detail::kLargestSide);
  }
  const std::string& type = ends.at("dtype").text();
  if (type != "float32" && type != "float16") throw std::runtime_error("dtype " + type);
  engine.half = type == "float16";
  engine.preprocess = detail::preprocess_of(manifest.at("preprocess"));
  engine.preprocess.pillow = detail::pillow_of(manifest.at("environment"));
  const Preprocess& p = engine.preprocess;
  if (engine.input_shape !=
      std::array<std::int64_t, 3>{static_cast<std::int64_t>(p.mean.size()), p.height, p.width})
    throw std::runtime_error("preprocess and interface differ in shape");
  return engine;
}

// Bytes of the payload `name`: those that were checked are those that are returned.
inline std::vector<std::uint8_t> verified(const std::filesystem::path& artifact,
                                          const Json& manifest, const std::string& name) {
  const std::string wanted = manifest.at("files").at(name).at("sha256").text();
  std::vector<std::uint8_t> data = read_file(artifact / name);
  if (sha256(data) != wanted)
    throw std::runtime_error((artifact / name).string() +
                             ": contents differ from the manifest (SHA-256): an engine is "
                             "executable code, and this one is not what was built");
  return data;
}

}  // namespace edgedense
