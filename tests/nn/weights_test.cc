// Loading parameters part by part, straight and through staging memory: the values are those of the source.
#include "nn/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "support/device_wrapper.h"
#include "support/devices.h"
#include "train/bench_data.h"

namespace serval::testing {
namespace {

// Host memory that is filled as a GPU's is: through small parts of whole rows, written once each.
class StagedDevice final : public DeviceWrapper {
 public:
  StagedDevice() : DeviceWrapper(make_cpu_device()) {}
  DeviceKind kind() const override { return DeviceKind::cuda; }
  void fill_rows(void* target, int64_t stride, int64_t row_bytes, int64_t rows,
                 const Produce& produce) override {
    const int64_t step = rows == 1 ? 1000 : std::max<int64_t>(1, 1000 / row_bytes) * row_bytes;
    std::vector<std::byte> part(static_cast<size_t>(step));
    for (int64_t first = 0; first < row_bytes * rows; first += step) {
      const int64_t bytes = std::min(step, row_bytes * rows - first);
      produce(part.data(), first, bytes);
      ++parts;
      if (rows == 1)
        std::memcpy(static_cast<char*>(target) + first, part.data(), static_cast<size_t>(bytes));
      else
        copy_rows_from_host(static_cast<char*>(target) + first / row_bytes * stride, stride, part.data(),
                            row_bytes, bytes / row_bytes);
    }
  }
  int parts = 0;
};

// Gives whole tensors alone.
class WholeSource final : public TensorSource {
 public:
  explicit WholeSource(const TensorSource& source) : source_(source) {}
  std::optional<Shape> shape(const std::string& name) const override { return source_.shape(name); }
  void read(const std::string& name, void* target, DType dtype) const override {
    ++reads;
    source_.read(name, target, dtype);
  }
  std::string where() const override { return "whole"; }
  mutable int reads = 0;

 private:
  const TensorSource& source_;
};

struct Net {
  Program program;
  ParameterTable table;
};

// Two dense parameters, the second of two slices, and one inside a wider storage.
Net net_of(int64_t rows, int64_t columns, DeviceKind kind) {
  Net net;
  net.table.add({.state = "a",
                 .shape = {rows, columns},
                 .dtype = DType::bf16,
                 .slices = {{"a.weight", {rows, columns}}}});
  net.table.add({.state = "bc",
                 .shape = {rows + 3, columns},
                 .dtype = DType::f32,
                 .slices = {{"b.weight", {3, columns}}, {"c.weight", {rows, columns}, 3}}});
  net.table.add({.state = "d",
                 .shape = {rows, columns},
                 .dtype = DType::bf16,
                 .slices = {{"d.weight", {rows, columns}}},
                 .storage = Storage{"d.storage", {rows + 5, columns + 24}, 0}});
  net.program.device = kind;
  ProgramBuilder b(net.program);
  for (const Parameter& parameter : net.table.all()) declare_parameter(b, parameter);
  return net;
}

void expect_loaded(const Net& net, const TensorSource& source, const StateStore& states) {
  for (const Parameter& parameter : net.table.all())
    for (const ParameterSlice& slice : parameter.slices) {
      const auto count = static_cast<size_t>(slice.shape.elements());
      std::vector<float> want(count), got(count);
      std::vector<std::byte> narrow(count * static_cast<size_t>(size_of(parameter.dtype)));
      source.read(slice.name, narrow.data(), parameter.dtype);
      convert_elements(narrow.data(), parameter.dtype, want.data(), DType::f32, slice.shape.elements());
      read_slice(parameter, slice, states, got.data(), DType::f32);
      EXPECT_TRUE(want == got) << slice.name << " on " << states.device().name();
      EXPECT_NE(want.front(), want.back());
    }
}

TEST(LoadParameters, PartByPartGivesTheSourcesValues) {
  for (const bool whole : {false, true}) {
    StagedDevice device;
    Net net = net_of(37, 41, DeviceKind::cuda);
    const RandomWeights random(net.table, 0.5);
    const WholeSource wholes(random);
    const TensorSource& source = whole ? static_cast<const TensorSource&>(wholes) : random;
    StateStore states(device);
    states.declare(net.program);
    states.allocate();
    load_parameters(net.table, Role::weight, source, states);
    EXPECT_GT(device.parts, 12);
    EXPECT_EQ(wholes.reads, whole ? 4 : 0);
    expect_loaded(net, random, states);
  }
}

// 40 MB a tensor: more than a part of a GPU's staging memory, and than a part of one thread.
TEST(LoadParameters, LargeTensorsOnEveryDevice) {
  for (const auto& device : devices()) {
    for (const bool whole : {false, true}) {
      Net net = net_of(5003, 4096, device->kind());
      const RandomWeights random(net.table, 0.5);
      const WholeSource wholes(random);
      StateStore states(*device);
      states.declare(net.program);
      states.allocate();
      load_parameters(net.table, Role::weight, whole ? static_cast<const TensorSource&>(wholes) : random,
                      states);
      expect_loaded(net, random, states);
    }
  }
}

}  // namespace
}  // namespace serval::testing
