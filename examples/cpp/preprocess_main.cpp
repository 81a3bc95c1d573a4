// edgedense-preprocess ENGINE IMAGE.ppm OUT.npy: what the engine would be fed, as a file.
// Needs neither CUDA nor TensorRT: it serves to compare this preprocessing with another one's.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <vector>

#include "manifest.hpp"

int main(int count, char** words) {
  using namespace edgedense;
  if (count != 4) {
    std::fprintf(stderr, "usage: edgedense-preprocess ENGINE IMAGE.ppm OUT.npy\n");
    return 2;
  }
  try {
    const std::filesystem::path artifact = words[1];
    const auto text = read_file(artifact / "manifest.json");
    const Engine engine =
        engine_of(Json::parse({reinterpret_cast<const char*>(text.data()), text.size()}));
    const std::vector<float> values = preprocess(read_image(words[2]), engine.preprocess);
    const std::vector<std::int64_t> shape(engine.input_shape.begin(), engine.input_shape.end());
    if (!engine.half) {
      write_npy(words[3], "<f4", shape, values.data(), values.size() * sizeof(float));
      return 0;
    }
    std::vector<std::uint16_t> halves;
    for (const float value : values) halves.push_back(to_half(value));
    write_npy(words[3], "<f2", shape, halves.data(), halves.size() * sizeof(std::uint16_t));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
