// NOT TensorRT: a stand-in with which the sample in examples/cpp is compiled and run where there is
// neither TensorRT nor a GPU. Names, arguments and types are those of TensorRT 10.x as published
// (NVIDIA/TensorRT, include/NvInferRuntime.h, NvInferImpl.h); only what the sample touches is here,
// and everything it does is checked: lifetimes, shapes, addresses.
//
// Its "plan" is a line of text:
//   stand-in CHANNELS HEIGHT WIDTH CLASSES MIN_BATCH MAX_BATCH float|half
// and its network  logit[k] = sum over i of input[i] * ((7 i + 13 k) mod 11 - 5) / 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "cuda_runtime_api.h"
#include "preprocess.hpp"  // for its halves

#define NV_TENSORRT_MAJOR 10

namespace nvinfer1 {

using AsciiChar = char;
enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class ExecutionContextAllocationStrategy : int32_t { kSTATIC = 0, kON_PROFILE_CHANGE = 1 };

class Dims64 {
 public:
  static constexpr int32_t MAX_DIMS{8};
  int32_t nbDims;
  int64_t d[MAX_DIMS];
};
using Dims = Dims64;

class ILogger {
 public:
  enum class Severity : int32_t {
    kINTERNAL_ERROR = 0,
    kERROR = 1,
    kWARNING = 2,
    kINFO = 3,
    kVERBOSE = 4
  };
  virtual void log(Severity severity, AsciiChar const* msg) noexcept = 0;
  virtual ~ILogger() = default;
};

class INoCopy {
 protected:
  INoCopy() = default;
  virtual ~INoCopy() = default;
  INoCopy(INoCopy const&) = delete;
  INoCopy& operator=(INoCopy const&) = delete;
};

struct Network {
  int64_t shape[3], classes, least, most;
  std::string type;
  int64_t inputs() const { return shape[0] * shape[1] * shape[2]; }
  bool half() const { return type == "half"; }
};

class ICudaEngine;

class IExecutionContext : public INoCopy {
 public:
  explicit IExecutionContext(ICudaEngine& engine);
  ~IExecutionContext() noexcept override;
  bool setInputShape(char const* tensorName, Dims const& dims) noexcept;
  bool setTensorAddress(char const* tensorName, void* data) noexcept;
  bool enqueueV3(cudaStream_t stream) noexcept;

 private:
  ICudaEngine& engine_;
  int64_t batch_ = 0;
  void *input_ = nullptr, *output_ = nullptr;
};

class IRuntime;

class ICudaEngine : public INoCopy {
 public:
  ICudaEngine(IRuntime& runtime, Network const& network);
  ~ICudaEngine() noexcept override;
  IExecutionContext* createExecutionContext(
      ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy::kSTATIC) noexcept {
    return new IExecutionContext(*this);
  }
  int32_t getNbIOTensors() const noexcept { return 2; }
  Dims getTensorShape(char const* tensorName) const noexcept {
    Dims dims{};
    dims.nbDims = -1;
    if (is("images", tensorName)) {
      dims.nbDims = 4;
      for (int k = 0; k < 3; ++k) dims.d[k + 1] = network.shape[k];
    } else if (is("logits", tensorName)) {
      dims.nbDims = 2;
      dims.d[1] = network.classes;
    }
    dims.d[0] = -1;
    return dims;
  }
  DataType getTensorDataType(char const*) const noexcept {
    return network.half() ? DataType::kHALF : DataType::kFLOAT;
  }
  TensorIOMode getTensorIOMode(char const* tensorName) const noexcept {
    return is("images", tensorName)   ? TensorIOMode::kINPUT
           : is("logits", tensorName) ? TensorIOMode::kOUTPUT
                                      : TensorIOMode::kNONE;
  }

  static bool is(char const* name, char const* asked) { return std::strcmp(name, asked) == 0; }
  Network const network;
  int contexts = 0;

 private:
  IRuntime& runtime_;
};

class IRuntime : public INoCopy {
 public:
  explicit IRuntime(ILogger& logger) : logger_(logger) { ++stand_in::live(); }
  ~IRuntime() noexcept override {
    stand_in::expect(engines == 0, "the runtime went before its engine");
    --stand_in::live();
  }
  ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept {
    std::istringstream text(std::string(static_cast<char const*>(blob), size));
    std::string name;
    Network n{};
    text >> name >> n.shape[0] >> n.shape[1] >> n.shape[2] >> n.classes >> n.least >> n.most >>
        n.type;
    if (text && name == "stand-in") return new ICudaEngine(*this, n);
    logger_.log(ILogger::Severity::kERROR, "this is no plan");
    logger_.log(ILogger::Severity::kINFO, "not to be shown");
    return nullptr;
  }
  int engines = 0;

 private:
  ILogger& logger_;
};

inline ICudaEngine::ICudaEngine(IRuntime& runtime, Network const& n)
    : network(n), runtime_(runtime) {
  ++runtime_.engines;
  ++stand_in::live();
}
inline ICudaEngine::~ICudaEngine() noexcept {
  stand_in::expect(contexts == 0, "the engine went before its context");
  --runtime_.engines;
  --stand_in::live();
}
inline IExecutionContext::IExecutionContext(ICudaEngine& engine) : engine_(engine) {
  ++engine_.contexts;
  ++stand_in::live();
}
inline IExecutionContext::~IExecutionContext() noexcept {
  --engine_.contexts;
  --stand_in::live();
}
inline bool IExecutionContext::setInputShape(char const* tensorName, Dims const& dims) noexcept {
  Network const& n = engine_.network;
  batch_ = dims.d[0];
  return ICudaEngine::is("images", tensorName) && dims.nbDims == 4 && batch_ >= n.least &&
         batch_ <= n.most && std::equal(n.shape, n.shape + 3, dims.d + 1);
}
inline bool IExecutionContext::setTensorAddress(char const* tensorName, void* data) noexcept {
  (ICudaEngine::is("images", tensorName) ? input_ : output_) = data;
  return data != nullptr;
}
inline bool IExecutionContext::enqueueV3(cudaStream_t stream) noexcept {
  Network const& n = engine_.network;
  std::size_t const width = n.half() ? 2 : 4;
  stand_in::expect(stream != nullptr && batch_ > 0, "no stream or no shape");
  stand_in::expect(stand_in::fits(input_, batch_ * n.inputs() * width, stand_in::Kind::device) &&
                       stand_in::fits(output_, batch_ * n.classes * width, stand_in::Kind::device),
                   "buffers that are too small, or not on the device");
  for (int64_t row = 0; row < batch_; ++row)
    for (int64_t k = 0; k < n.classes; ++k) {
      double sum = 0;
      for (int64_t i = 0; i < n.inputs(); ++i) {
        int64_t const at = row * n.inputs() + i;
        double const x = n.half() ? edgedense::from_half(static_cast<uint16_t*>(input_)[at])
                                  : static_cast<float*>(input_)[at];
        sum += x * static_cast<double>((7 * i + 13 * k) % 11 - 5) / 64;
      }
      int64_t const at = row * n.classes + k;
      if (n.half())
        static_cast<uint16_t*>(output_)[at] = edgedense::to_half(static_cast<float>(sum));
      else
        static_cast<float*>(output_)[at] = static_cast<float>(sum);
    }
  return true;
}

namespace {
inline IRuntime* createInferRuntime(ILogger& logger) noexcept { return new IRuntime(logger); }
}  // namespace

}  // namespace nvinfer1
