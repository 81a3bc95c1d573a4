// NOT CUDA: the calls of the CUDA runtime that the sample in examples/cpp makes, on host memory,
// each checked: sizes, kinds of memory, streams, and that nothing stays behind at the end.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

struct CUstream_st {};
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

namespace stand_in {

enum class Kind { device, host };
struct Block {
  std::size_t bytes;
  Kind kind;
};

inline int& live() {
  static int count = 0;
  return count;
}
inline void expect(bool kept, char const* rule) {
  if (kept) return;
  std::fprintf(stderr, "stand-in: %s\n", rule);
  std::abort();
}
struct Blocks : std::map<void*, Block> {
  ~Blocks() { expect(empty() && live() == 0, "something was not freed"); }
};
inline Blocks& blocks() {
  static Blocks all;
  return all;
}
inline bool fits(void const* memory, std::size_t bytes, Kind kind) {
  auto const found = blocks().find(const_cast<void*>(memory));
  return found != blocks().end() && found->second.bytes >= bytes && found->second.kind == kind;
}
inline cudaError_t allocate(void** memory, std::size_t bytes, Kind kind) {
  if (std::getenv("STAND_IN_NO_MEMORY") && kind == Kind::host) return cudaErrorMemoryAllocation;
  blocks()[*memory = std::malloc(bytes)] = {bytes, kind};
  return cudaSuccess;
}
inline cudaError_t release(void* memory, Kind kind) {
  expect(fits(memory, 0, kind), "freed twice, or by the wrong call");
  blocks().erase(memory);
  std::free(memory);
  return cudaSuccess;
}

}  // namespace stand_in

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return stand_in::allocate(memory, bytes, stand_in::Kind::device);
}
inline cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  return stand_in::allocate(memory, bytes, stand_in::Kind::host);
}
inline cudaError_t cudaFree(void* memory) {
  return stand_in::release(memory, stand_in::Kind::device);
}
inline cudaError_t cudaFreeHost(void* memory) {
  return stand_in::release(memory, stand_in::Kind::host);
}
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  ++stand_in::live();
  *stream = new CUstream_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  --stand_in::live();
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes,
                                   cudaMemcpyKind kind, cudaStream_t stream) {
  bool const in = kind == cudaMemcpyHostToDevice;
  auto const device = stand_in::Kind::device, host = stand_in::Kind::host;
  stand_in::expect(stream && stand_in::fits(to, bytes, in ? device : host) &&
                       stand_in::fits(from, bytes, in ? host : device),
                   "a copy that does not fit, or of the wrong kind");
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline char const* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "no error";
}
