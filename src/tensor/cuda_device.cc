#include "tensor/cuda_device.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/parallel.h"
#include "base/text.h"
#include "tensor/gpu.h"

namespace serval {

void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // the next call shall not report it again
  std::string where = "a CUDA device";
  int index = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&index) == cudaSuccess && cudaGetDeviceProperties(&properties, index) == cudaSuccess)
    where = fmt::format("cuda:{} ({})", index, properties.name);
  const char* advice = "";
  switch (status) {
    case cudaErrorMemoryAllocation:
      advice = "; another program may hold the memory: nvidia-smi shows it";
      break;
    case cudaErrorInsufficientDriver:
      advice = "; the driver is older than this build needs: install one for CUDA 13 (580 or newer)";
      break;
    case cudaErrorNoKernelImageForDevice:
      advice = "; this build holds no code for this GPU's architecture";
      break;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
      advice = "; this is a bug of Serval: please report it with the command and --check-nan's output";
      break;
    default:
      break;
  }
  throw DeviceError(fmt::format("{}: {}: {}{}", where, call, cudaGetErrorString(status), advice));
}

namespace {

class CudaGraph final : public DeviceGraph {
 public:
  CudaGraph(cudaGraphExec_t graph, cudaStream_t stream) : graph_(graph), stream_(stream) {}
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }
  void launch() override { SERVAL_CUDA(cudaGraphLaunch(graph_, stream_)); }

 private:
  cudaGraphExec_t graph_;
  cudaStream_t stream_;
};

// Pinned memory in halves: while the device reads one, the host fills the other.
class Staging {
 public:
  Staging() {
    SERVAL_CUDA(cudaMallocHost(&data_, kHalves * kHalfBytes));
    for (cudaEvent_t& event : free_) SERVAL_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  ~Staging() {
    for (cudaEvent_t event : free_) cudaEventDestroy(event);
    cudaFreeHost(data_);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void fill(void* target, size_t stride, size_t row_bytes, size_t rows, const Device::Produce& produce,
            cudaStream_t stream) {
    if (rows > 1 && stride == row_bytes) row_bytes *= std::exchange(rows, 1);
    if (row_bytes == 0) return;
    char* to = static_cast<char*>(target);
    if (rows > 1 && row_bytes <= kHalfBytes) {
      for (size_t row = 0; row < rows;) {
        const size_t part =
            std::min(rows - row, room((rows - row) * row_bytes, row_bytes, stream) / row_bytes);
        char* place = produced(produce, row * row_bytes, part * row_bytes);
        SERVAL_CUDA(cudaMemcpy2DAsync(to + row * stride, stride, place, row_bytes, row_bytes, part,
                                      cudaMemcpyHostToDevice, stream));
        row += part;
      }
      return;
    }
    for (size_t row = 0; row < rows; ++row) {
      for (size_t done = 0; done < row_bytes;) {
        const size_t part = std::min(row_bytes - done, room(row_bytes - done, kAlignment, stream));
        char* place = produced(produce, row * row_bytes + done, part);
        SERVAL_CUDA(cudaMemcpyAsync(to + row * stride + done, place, part, cudaMemcpyHostToDevice, stream));
        done += part;
      }
    }
  }

 private:
  // Bytes that the current half takes; another half is begun rather than cut `wanted` into small parts.
  size_t room(size_t wanted, size_t least, cudaStream_t stream) {
    const size_t left = kHalfBytes - used_;
    if (left < least || (left < wanted && left < kHalfBytes / 4)) turn(stream);
    return kHalfBytes - used_;
  }
  char* produced(const Device::Produce& produce, size_t first, size_t bytes) {
    char* place = data_ + half_ * kHalfBytes + used_;
    produce(place, static_cast<int64_t>(first), static_cast<int64_t>(bytes));
    used_ = std::min(kHalfBytes, (used_ + bytes + kAlignment - 1) / kAlignment * kAlignment);
    return place;
  }
  void turn(cudaStream_t stream) {
    SERVAL_CUDA(cudaEventRecord(free_[half_], stream));
    half_ = (half_ + 1) % kHalves;
    SERVAL_CUDA(cudaEventSynchronize(free_[half_]));  // recorded when this half was left, or never
    used_ = 0;
  }

  static constexpr size_t kHalves = 4, kHalfBytes = size_t{16} << 20, kAlignment = 256;
  char* data_ = nullptr;
  std::array<cudaEvent_t, kHalves> free_{};
  size_t half_ = 0, used_ = 0;
};

class CudaReadback final : public Readback {
 public:
  CudaReadback(int64_t bytes, cudaStream_t stream) : bytes_(bytes), stream_(stream) {
    SERVAL_CUDA(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
    const cudaError_t status = cudaMallocHost(&data_, static_cast<size_t>(bytes));
    if (status != cudaSuccess) cudaEventDestroy(done_);
    check_cuda(status, "cudaMallocHost");
  }
  ~CudaReadback() override {
    cudaEventSynchronize(done_);  // a copy may still be on its way
    cudaEventDestroy(done_);
    cudaFreeHost(data_);
  }
  CudaReadback(const CudaReadback&) = delete;
  CudaReadback& operator=(const CudaReadback&) = delete;

  void copy(int64_t offset, const void* source, int64_t bytes) override {
    SERVAL_CHECK(offset >= 0 && offset + bytes <= bytes_);
    SERVAL_CUDA(
        cudaMemcpyAsync(data_ + offset, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_));
    SERVAL_CUDA(cudaEventRecord(done_, stream_));
  }
  const void* wait() override {
    SERVAL_CUDA(cudaEventSynchronize(done_));
    return data_;
  }

 private:
  int64_t bytes_;
  cudaStream_t stream_;
  cudaEvent_t done_ = nullptr;
  char* data_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {
    SERVAL_CUDA(cudaSetDevice(index));
    SERVAL_CUDA(cudaGetDeviceProperties(&properties_, index));
    SERVAL_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    staging_ = std::make_unique<Staging>();
  }
  ~CudaDevice() override {
    clear_marks();
    staging_.reset();
    for (const Side& side : sides_) {
      cudaStreamDestroy(side.stream);
      cudaEventDestroy(side.begin);
      cudaEventDestroy(side.end);
    }
    cudaStreamDestroy(stream_);
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  DeviceKind kind() const override { return DeviceKind::cuda; }
  std::string name() const override { return fmt::format("cuda:{} {}", index_, properties_.name); }
  int64_t total_memory() const override { return memory().second; }
  int64_t free_memory() const override { return memory().first; }

  void* allocate(int64_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw DeviceError(
          fmt::format("{} cannot give {}: {} of {} are free; a shorter max_length, a smaller batch or "
                      "gradient_checkpointing needs less, and nvidia-smi shows what other programs hold",
                      name(), human_bytes(bytes), human_bytes(free_memory()), human_bytes(total_memory())));
    }
    check_cuda(status, "cudaMalloc");
    SERVAL_CUDA(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes > 0 ? bytes : 1), stream_));
    return data;
  }
  void release(void* data) override {
    cudaStreamSynchronize(stream_);
    cudaFree(data);
  }
  void* allocate_host(int64_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaMallocHost(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw DeviceError(
          fmt::format("{}: the system cannot give {} of pinned host memory; without "
                      "activation_offloading none is needed",
                      name(), human_bytes(bytes)));
    }
    check_cuda(status, "cudaMallocHost");
    return data;
  }
  void release_host(void* data) override {
    cudaStreamSynchronize(stream_);
    cudaFreeHost(data);
  }
  void copy_from_host(void* target, const void* source, int64_t bytes) override {
    copy_rows_from_host(target, bytes, source, bytes, 1);
  }
  void copy_to_host(void* target, const void* source, int64_t bytes) override {
    if (bytes == 0) return;
    SERVAL_CUDA(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_));
    SERVAL_CUDA(cudaStreamSynchronize(stream_));
  }
  void copy_rows_from_host(void* target, int64_t stride, const void* source, int64_t row_bytes,
                           int64_t rows) override {
    // One core copies slower than the link takes it.
    fill_rows(target, stride, row_bytes, rows, [source](void* part, int64_t first, int64_t bytes) {
      const char* from = static_cast<const char*>(source) + first;
      parallel_for(0, bytes, int64_t{1} << 20, [&](int64_t begin, int64_t end) {
        std::memcpy(static_cast<char*>(part) + begin, from + begin, static_cast<size_t>(end - begin));
      });
    });
  }
  void fill_rows(void* target, int64_t stride, int64_t row_bytes, int64_t rows,
                 const Produce& produce) override {
    staging_->fill(target, static_cast<size_t>(stride), static_cast<size_t>(row_bytes),
                   static_cast<size_t>(rows), produce, stream_);
  }
  void copy_rows_to_host(void* target, const void* source, int64_t row_bytes, int64_t rows,
                         int64_t stride) override {
    if (rows == 0 || row_bytes == 0) return;
    SERVAL_CUDA(cudaMemcpy2DAsync(target, static_cast<size_t>(row_bytes), source, static_cast<size_t>(stride),
                                  static_cast<size_t>(row_bytes), static_cast<size_t>(rows),
                                  cudaMemcpyDeviceToHost, stream_));
    SERVAL_CUDA(cudaStreamSynchronize(stream_));
  }
  void fill_zero(void* target, int64_t bytes) override {
    SERVAL_CUDA(cudaMemsetAsync(target, 0, static_cast<size_t>(bytes), stream_));
  }
  void synchronize() override { SERVAL_CUDA(cudaStreamSynchronize(stream_)); }
  bool asynchronous() const override { return true; }
  std::unique_ptr<Readback> make_readback(int64_t bytes) override {
    return std::make_unique<CudaReadback>(bytes, stream_);
  }

  void* stream() override { return stream_; }
  void* fork(int side) override {
    while (sides_.size() <= static_cast<size_t>(side)) {
      sides_.emplace_back();
      SERVAL_CUDA(cudaStreamCreateWithFlags(&sides_.back().stream, cudaStreamNonBlocking));
      SERVAL_CUDA(cudaEventCreateWithFlags(&sides_.back().begin, cudaEventDisableTiming));
      SERVAL_CUDA(cudaEventCreateWithFlags(&sides_.back().end, cudaEventDisableTiming));
    }
    const Side& s = sides_[static_cast<size_t>(side)];
    SERVAL_CUDA(cudaEventRecord(s.begin, stream_));
    SERVAL_CUDA(cudaStreamWaitEvent(s.stream, s.begin, 0));
    return s.stream;
  }
  void join(int side) override {
    const Side& s = sides_.at(static_cast<size_t>(side));
    SERVAL_CUDA(cudaEventRecord(s.end, s.stream));
    SERVAL_CUDA(cudaStreamWaitEvent(stream_, s.end, 0));
  }
  bool has_graphs() const override { return true; }
  std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work) override {
    SERVAL_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    SERVAL_CUDA(cudaStreamEndCapture(stream_, &graph));
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status, "cudaGraphInstantiate");
    SERVAL_CUDA(cudaGraphUpload(executable, stream_));
    return std::make_unique<CudaGraph>(executable, stream_);
  }

  int64_t mark() override {
    if (used_events_ == events_.size()) {
      events_.emplace_back();
      SERVAL_CUDA(cudaEventCreate(&events_.back()));
    }
    SERVAL_CUDA(cudaEventRecord(events_[used_events_], stream_));
    return static_cast<int64_t>(used_events_++);
  }
  double seconds(int64_t begin, int64_t end) override {
    float milliseconds = 0;
    SERVAL_CUDA(cudaEventSynchronize(events_[static_cast<size_t>(end)]));
    SERVAL_CUDA(cudaEventElapsedTime(&milliseconds, events_[static_cast<size_t>(begin)],
                                     events_[static_cast<size_t>(end)]));
    return static_cast<double>(milliseconds) / 1000;
  }
  void clear_marks() override { used_events_ = 0; }

 private:
  struct Side {
    cudaStream_t stream = nullptr;
    cudaEvent_t begin = nullptr, end = nullptr;
  };
  std::pair<int64_t, int64_t> memory() const {
    size_t free = 0, total = 0;
    SERVAL_CUDA(cudaMemGetInfo(&free, &total));
    return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
  }

  int index_;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Staging> staging_;
  std::vector<Side> sides_;
  std::vector<cudaEvent_t> events_;
  size_t used_events_ = 0;
};

}  // namespace

CudaDevices find_cuda_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return {count, ""};
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    int version = 0;
    cudaDriverGetVersion(&version);
    if (version == 0) return {0, "no NVIDIA driver is installed"};
    return {0,
            fmt::format("the NVIDIA driver supports CUDA {}.{}, this build needs 13.0 (driver 580 or newer)",
                        version / 1000, version % 1000 / 10)};
  }
  if (status == cudaErrorNoDevice || status == cudaSuccess)
    return {0, "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES may hide it)"};
  return {0, cudaGetErrorString(status)};
}

std::unique_ptr<Device> make_cuda_device(int index) {
  return std::make_unique<CudaDevice>(index);
}

std::vector<std::string> describe_cuda() {
  const CudaDevices found = find_cuda_devices();
  if (found.count == 0) return {"none: " + found.why_none};
  std::vector<std::string> lines;
  for (int i = 0; i < found.count; ++i) {
    cudaDeviceProp p{};
    SERVAL_CUDA(cudaGetDeviceProperties(&p, i));
    lines.push_back(fmt::format("cuda:{} {}, sm_{}{}, {} multiprocessors, {}", i, p.name, p.major, p.minor,
                                p.multiProcessorCount, human_bytes(static_cast<int64_t>(p.totalGlobalMem))));
  }
  return lines;
}

}  // namespace serval
