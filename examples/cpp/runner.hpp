// An engine on the GPU: TensorRT 10 or later, pinned host memory, one stream.
#pragma once

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "manifest.hpp"

#if NV_TENSORRT_MAJOR < 10
#error "this sample needs TensorRT 10 or later (JetPack 6.1 and up)"
#endif

namespace edgedense {

inline void check(cudaError_t status, const char* doing) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string(doing) + ": " + cudaGetErrorString(status));
}

inline void check(bool done, const char* doing) {
  if (!done) throw std::runtime_error(std::string(doing) + ": TensorRT refused (see above)");
}

struct FreeDevice {
  void operator()(void* memory) const { cudaFree(memory); }
};
struct FreeHost {
  void operator()(void* memory) const { cudaFreeHost(memory); }
};
struct FreeStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};

// One end of the network, large enough for the largest batch: on the device and pinned.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes), "allocating on the GPU");
    device_.reset(memory);
    check(cudaMallocHost(&memory, bytes), "allocating pinned memory");
    host_.reset(memory);
  }
  void* device() const { return device_.get(); }
  void* host() const { return host_.get(); }

 private:
  std::unique_ptr<void, FreeDevice> device_;
  std::unique_ptr<void, FreeHost> host_;
};

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", text);
  }
};

// Not shared between threads: one Runner for each.
class Runner {
 public:
  // `plan` was verified: deserializing runs what is in it.
  Runner(const Engine& facts, const std::vector<std::uint8_t>& plan)
      : facts_(facts),
        runtime_(nvinfer1::createInferRuntime(logger_)),
        engine_(runtime_ ? runtime_->deserializeCudaEngine(plan.data(), plan.size()) : nullptr),
        context_(engine_ ? engine_->createExecutionContext() : nullptr),
        input_(bytes(facts.input_values())),
        output_(bytes(facts.output_values())) {
    check(context_ != nullptr,
          "loading the engine (another TensorRT version or GPU than it was built for?)");
    check_ends();
    cudaStream_t stream = nullptr;
    check(cudaStreamCreate(&stream), "making a stream");
    stream_.reset(stream);
    check(context_->setTensorAddress(facts_.input_name.c_str(), input_.device()), "input");
    check(context_->setTensorAddress(facts_.output_name.c_str(), output_.device()), "output");
  }

  // Logits of any number of preprocessed images, `facts.input_values()` floats each.
  std::vector<float> operator()(const std::vector<float>& images) {
    const std::size_t each = facts_.input_values();
    const std::size_t count = images.size() / each;
    std::vector<float> logits;
    for (std::size_t done = 0; done < count;) {
      const std::size_t now = std::min(count - done, static_cast<std::size_t>(facts_.most_batch));
      run_batch(images.data() + done * each, now, logits);
      done += now;
    }
    return logits;
  }

 private:
  std::size_t bytes(std::size_t values) const {
    return values * static_cast<std::size_t>(facts_.most_batch) * (facts_.half ? 2 : 4);
  }

  void check_ends() const {
    check(engine_->getNbIOTensors() == 2, "an engine of one input and one output is wanted");
    check_end(facts_.input_name, nvinfer1::TensorIOMode::kINPUT,
              {facts_.input_shape.begin(), facts_.input_shape.end()});
    check_end(facts_.output_name, nvinfer1::TensorIOMode::kOUTPUT, facts_.output_shape);
  }

  void check_end(const std::string& name, nvinfer1::TensorIOMode mode,
                 const std::vector<std::int64_t>& shape) const {
    const auto type = facts_.half ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
    const nvinfer1::Dims found = engine_->getTensorShape(name.c_str());
    if (engine_->getTensorIOMode(name.c_str()) != mode ||
        engine_->getTensorDataType(name.c_str()) != type ||
        found.nbDims != static_cast<std::int32_t>(shape.size()) + 1 ||
        !std::equal(shape.begin(), shape.end(), found.d + 1))
      throw std::runtime_error("the engine's \"" + name + "\" is not what its manifest says");
  }

  // One call; a batch below the engine's smallest is filled up with its last image.
  void run_batch(const float* images, std::size_t count, std::vector<float>& logits) {
    const std::size_t each = facts_.input_values(), width = facts_.half ? 2 : 4;
    const std::size_t batch = std::max(count, static_cast<std::size_t>(facts_.least_batch));
    for (std::size_t k = 0; k < batch; ++k) feed(images + std::min(k, count - 1) * each, k);
    nvinfer1::Dims shape{};
    shape.nbDims = 4;
    shape.d[0] = static_cast<std::int64_t>(batch);
    std::copy(facts_.input_shape.begin(), facts_.input_shape.end(), shape.d + 1);
    check(context_->setInputShape(facts_.input_name.c_str(), shape), "setting the batch size");
    const std::size_t out = facts_.output_values();
    cudaStream_t stream = stream_.get();
    check(cudaMemcpyAsync(input_.device(), input_.host(), batch * each * width,
                          cudaMemcpyHostToDevice, stream),
          "copying to the GPU");
    check(context_->enqueueV3(stream), "running the network");
    check(cudaMemcpyAsync(output_.host(), output_.device(), batch * out * width,
                          cudaMemcpyDeviceToHost, stream),
          "copying from the GPU");
    check(cudaStreamSynchronize(stream), "waiting for the GPU");
    for (std::size_t k = 0; k < count * out; ++k)
      logits.push_back(facts_.half ? from_half(static_cast<std::uint16_t*>(output_.host())[k])
                                   : static_cast<float*>(output_.host())[k]);
  }

  void feed(const float* image, std::size_t place) {
    const std::size_t each = facts_.input_values();
    if (facts_.half)
      std::transform(image, image + each, static_cast<std::uint16_t*>(input_.host()) + place * each,
                     to_half);
    else
      std::copy(image, image + each, static_cast<float*>(input_.host()) + place * each);
  }

  const Engine facts_;
  Logger logger_;
  // freed from the last to the first: the context before its engine, that before its runtime
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  Buffer input_, output_;
  std::unique_ptr<CUstream_st, FreeStream> stream_;
};

}  // namespace edgedense
