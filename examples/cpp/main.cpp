// edgedense-run ENGINE INPUT [LOGITS.npy]: the five largest logits of each image.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "runner.hpp"

namespace {

using namespace edgedense;

std::vector<float> read_input(const std::filesystem::path& path, const Engine& engine) {
  if (path.extension() != ".npy") return preprocess(read_image(path), engine.preprocess);
  Tensor tensor = read_npy(path);
  if (tensor.shape.size() == 3) tensor.shape.insert(tensor.shape.begin(), 1);
  if (tensor.shape.size() != 4 ||
      !std::equal(engine.input_shape.begin(), engine.input_shape.end(), tensor.shape.begin() + 1))
    throw std::runtime_error(path.string() +
                             ": not (images, channels, height, width) of this engine");
  return std::move(tensor.values);
}

void show(const std::vector<float>& logits, const Engine& engine) {
  const std::size_t classes = engine.output_values(), shown = std::min<std::size_t>(classes, 5);
  for (std::size_t image = 0; image * classes < logits.size(); ++image) {
    const float* row = logits.data() + image * classes;
    std::vector<std::size_t> order(classes);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
        [row](std::size_t a, std::size_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    std::printf("image %zu\n", image);
    for (std::size_t k = 0; k < shown; ++k)
      std::printf("  class %zu  logit %.9g\n", order[k], static_cast<double>(row[order[k]]));
  }
}

int run(int count, char** words) {
  const std::filesystem::path artifact = words[1];
  const auto text = read_file(artifact / "manifest.json");
  const Json manifest = Json::parse({reinterpret_cast<const char*>(text.data()), text.size()});
  const Engine engine = engine_of(manifest);
  if (engine.backend != "tensorrt")
    throw std::runtime_error("an engine of " + engine.backend + ": this sample runs TensorRT's");
  const std::vector<float> images = read_input(words[2], engine);
  Runner runner(engine, verified(artifact, manifest, "model.engine"));
  const std::vector<float> logits = runner(images);
  if (engine.output_shape.size() == 1) show(logits, engine);
  if (count > 3) {
    std::vector<std::int64_t> shape = engine.output_shape;
    shape.insert(shape.begin(), static_cast<std::int64_t>(logits.size() / engine.output_values()));
    write_npy(words[3], "<f4", shape, logits.data(), logits.size() * sizeof(float));
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3 && count != 4) {
    std::fprintf(stderr,
                 "usage: edgedense-run ENGINE INPUT [LOGITS.npy]\n"
                 "  ENGINE  directory that edgedense build-engine wrote for a Jetson or a GPU\n"
                 "  INPUT   an image (.ppm, .pgm), or preprocessed images (.npy, float32)\n");
    return 2;
  }
  try {
    return run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
