// Named f32 tensors of a fixture's safetensors file, and comparison by norm.
#pragma once
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "nn/weights.h"

namespace serval::testing {

struct FixtureTensor {
  Shape shape;
  std::vector<float> values;
};

inline std::map<std::string, FixtureTensor> read_tensors(const std::string& path) {
  const std::string file = read_file(path);
  uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  const Json table = Json::parse(std::string_view(file).substr(8, header), path);
  std::map<std::string, FixtureTensor> tensors;
  for (const auto& [name, entry] : table.as_object()) {
    if (name == "__metadata__") continue;
    if (entry.at("dtype").as_string() != "F32") continue;
    const auto& dims = entry.at("shape").as_array();
    FixtureTensor t;
    t.shape = dims.size() == 1 ? Shape{dims[0].as_int()} : Shape{dims[0].as_int(), dims[1].as_int()};
    const int64_t begin = entry.at("data_offsets").as_array()[0].as_int();
    t.values.resize(static_cast<size_t>(t.shape.elements()));
    std::memcpy(t.values.data(), file.data() + 8 + header + static_cast<uint64_t>(begin),
                t.values.size() * 4);
    tensors.emplace(name, std::move(t));
  }
  return tensors;
}

// ||a - b|| / ||b||
template <class A, class B>
double relative_error(const A& a, const B& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

class FixtureSource final : public TensorSource {
 public:
  // `prefix` is put before a wanted name to find it in the file.
  FixtureSource(const std::string& path, std::string prefix = {})
      : tensors_(read_tensors(path)), prefix_(std::move(prefix)) {}
  std::optional<Shape> shape(const std::string& name) const override {
    const auto it = tensors_.find(prefix_ + name);
    if (it == tensors_.end()) return std::nullopt;
    return it->second.shape;
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    const auto& t = tensors_.at(prefix_ + name);
    convert_elements(t.values.data(), DType::f32, target, dtype, t.shape.elements());
  }
  std::string where() const override { return "fixture"; }

 private:
  std::map<std::string, FixtureTensor> tensors_;
  std::string prefix_;
};

}  // namespace serval::testing
