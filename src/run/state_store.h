// The states of all programs of a run: weights, adapters, gradients, moments, caches. Programs that name the
// same state share it. One block of device memory, sized before anything is read.
//
//   StateStore states(device);
//   states.declare(step_program);
//   states.declare(optimizer_program);
//   states.allocate();                       // zeroed
//   states.write("model.norm.weight", data);
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "program/program.h"
#include "tensor/device.h"
#include "tensor/operand.h"

namespace serval {

class StateStore {
 public:
  struct State {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
    Role role = Role::weight;
    int64_t offset = 0;
    int64_t bytes() const { return shape.elements() * size_of(dtype); }
  };

  explicit StateStore(Device& device) : device_(&device) {}
  // Adds the program's states; one that exists must agree in dtype and shape.
  void declare(const Program& program);
  void allocate();

  const std::vector<State>& states() const { return states_; }
  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
  const State& state(std::string_view name) const;
  int64_t bytes() const { return bytes_; }  // padding between states included
  int64_t bytes_of(Role role) const;
  void* data(std::string_view name) const;  // device memory
  Operand operand(std::string_view name) const;
  // Whole states, in their own dtype.
  void read(std::string_view name, void* target) const;
  void write(std::string_view name, const void* source);
  void zero(std::string_view name);
  Device& device() const { return *device_; }

 private:
  Device* device_;
  Buffer buffer_;
  int64_t bytes_ = 0;
  std::vector<State> states_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace serval
