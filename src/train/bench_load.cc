#include "train/bench_load.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "formats/checkpoint.h"
#include "models/pretrained.h"
#include "train/bench.h"
#include "train/bench_data.h"
#include "train/step_programs.h"

namespace serval {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct FilePart {
  const FileReader* file;
  uint64_t offset;
  size_t size;
};

// Reads every part, each thread a run of them, into memory past the caches, as any load must.
class PlainReader {
 public:
  PlainReader(std::vector<FilePart> parts, size_t largest)
      : parts_(std::move(parts)), largest_(largest), buffers_(static_cast<size_t>(num_threads())) {
    for (std::vector<std::byte>& buffer : buffers_) buffer.resize(kTurns * largest);
  }
  double seconds() {
    const auto begin = Clock::now();
    const auto threads = static_cast<int64_t>(buffers_.size()), count = static_cast<int64_t>(parts_.size());
    parallel_for(0, threads, 1, [&](int64_t from, int64_t to) {
      for (int64_t thread = from; thread < to; ++thread)
        for (int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) {
          const FilePart& part = parts_[static_cast<size_t>(i)];
          std::byte* target =
              buffers_[static_cast<size_t>(thread)].data() + static_cast<size_t>(i) % kTurns * largest_;
          part.file->read(part.offset, target, part.size);
        }
    });
    return seconds_since(begin);
  }

 private:
  static constexpr size_t kTurns = 8;
  std::vector<FilePart> parts_;
  size_t largest_;
  std::vector<std::vector<std::byte>> buffers_;
};

// The parameters of a training step, and little else.
Program small_program(const DecoderConfig& config, NetworkOptions options, int64_t lora_rank,
                      ParameterTable& table, DeviceKind device) {
  options.train_adapters = true;
  if (lora_rank > 0)
    options.adapter = [lora_rank](const std::string&) { return ModuleAdapter{.rank = lora_rank}; };
  return build_train_program(config, options, {.tokens = 64, .documents = 1, .labels = 64},
                             {.recompute = lora_rank > 0 ? Recompute::cheap : Recompute::none}, table,
                             device);
}

}  // namespace

double LoadBenchResult::limit() const {
  return link_rate > 0 ? std::min(second_read_rate(), link_rate) : second_read_rate();
}

LoadBenchResult bench_load(const LoadBench& bench, Device& device) {
  constexpr int64_t kPart = int64_t{8} << 20;
  const Pretrained model =
      Pretrained::open({.model = bench.model, .dtype = bench.dtype == DType::f32 ? "float32" : "bfloat16"});
  LoadBenchResult result;
  result.parameters = model.config().parameter_count();
  result.tensor_bytes = model.checkpoint()->data_bytes();

  std::vector<FileReader> files;
  for (const std::string& path : model.checkpoint()->files()) files.emplace_back(path);
  std::vector<FilePart> parts;
  for (const FileReader& file : files) {
    const int64_t size = file_size(file.path());
    result.file_bytes += size;
    for (int64_t at = 0; at < size; at += kPart)
      parts.push_back({&file, static_cast<uint64_t>(at), static_cast<size_t>(std::min(kPart, size - at))});
  }
  {
    PlainReader plain(std::move(parts), kPart);
    result.first_read_seconds = plain.seconds();
    result.second_read_seconds = plain.seconds();
  }

  ParameterTable table;
  StateStore states(device);
  states.declare(
      small_program(model.config(), model.network_options(), bench.lora_rank, table, device.kind()));
  states.allocate();
  // Pages that the system gives at their first touch are no part of reading.
  auto begin = Clock::now();
  for (const StateStore::State& state : states.states()) states.zero(state.name);
  device.synchronize();
  result.memory_seconds = seconds_since(begin);
  begin = Clock::now();
  model.load_weights(table, states);
  device.synchronize();
  result.load_seconds = seconds_since(begin);
  if (device.kind() != DeviceKind::cpu) result.link_rate = device_link_rate(device).to_device;
  return result;
}

RandomCheckpoint::RandomCheckpoint(const Json& config_json, const DecoderConfig& config, DType dtype) {
  namespace fs = std::filesystem;
  const std::string pattern = (fs::temp_directory_path() / "serval-load-XXXXXX").string();
  std::vector<char> name(pattern.c_str(), pattern.c_str() + pattern.size() + 1);
  if (::mkdtemp(name.data()) == nullptr) fail("{}: cannot create the directory", pattern);
  directory_ = name.data();
  try {
    ParameterTable table;
    NetworkOptions options;
    options.compute = dtype;
    small_program(config, options, 0, table, DeviceKind::cpu);
    const RandomWeights weights(table, config.initializer_range);
    std::vector<CheckpointTensor> tensors;
    for (const Parameter& parameter : table.all())
      for (const ParameterSlice& slice : parameter.slices)
        tensors.push_back({slice.name, dtype, slice.shape,
                           [&weights, &slice, dtype](int64_t row, int64_t rows, void* target) {
                             const int64_t width = slice.shape.row_size();
                             SERVAL_CHECK(
                                 weights.read_part(slice.name, row * width, rows * width, target, dtype));
                           }});
    write_checkpoint(directory_, std::move(tensors));
    write_file_atomically(join_path(directory_, "config.json"), config_json.dump(2) + "\n");
  } catch (...) {
    remove_tree(directory_);
    throw;
  }
}

RandomCheckpoint::~RandomCheckpoint() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace serval
