// The states of all programs of a run: weights, adapters, gradients, moments, caches; and their regions that
// have names of their own. Programs that name the same state share it. One block of device memory, sized
// before anything is read.
//
//   StateStore states(device);
//   states.declare(step_program);
//   states.declare(optimizer_program);
//   states.allocate();                       // zeroed
//   states.write("model.norm.weight", data);
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
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
    int64_t offset = 0;      // bytes
    int64_t row_stride = 0;  // elements; more than a row's size for a region of another state
    int64_t bytes() const { return shape.elements() * size_of(dtype); }
    bool dense() const { return row_stride == shape.row_size() || shape.rows() <= 1; }
  };

  explicit StateStore(Device& device) : device_(&device) {}
  // Adds the program's states; one that exists must agree in dtype and shape.
  void declare(const Program& program);
  // Adds states or regions of another store, dense, under their names.
  void declare(const StateStore& other, const std::vector<std::string>& names);
  void allocate();
  // Their values, of every state of this store.
  void copy_from(const StateStore& other);

  const std::vector<State>& states() const { return states_; }  // without regions
  bool contains(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  const State& state(std::string_view name) const;
  int64_t bytes() const { return bytes_; }  // padding between states included
  int64_t bytes_of(Role role) const;
  void* data(std::string_view name) const;  // device memory
  Operand operand(std::string_view name) const;
  // Whole states, in their own dtype.
  void read(std::string_view name, void* target) const;
  void write(std::string_view name, const void* source);
  void zero(std::string_view name);
  // Elements [first, first + count), whole rows of a state of several rows: `use` sees them in host memory,
  // dense, in the state's dtype. On the CPU that is the state itself, elsewhere a copy.
  void with_values(std::string_view name, int64_t first, int64_t count,
                   const std::function<void(const void*)>& use) const;
  // Writes such elements by parts, one after another, that a GPU takes while the next one is produced: those
  // of [first + part_first, first + part_first + part_count) each.
  using ProducePart = std::function<void(void* target, int64_t part_first, int64_t part_count)>;
  void fill(std::string_view name, int64_t first, int64_t count, const ProducePart& produce);
  Device& device() const { return *device_; }

 private:
  void add(const std::string& name, DType dtype, const Shape& shape, Role role);

  Device* device_;
  Buffer buffer_;
  mutable std::vector<std::byte> host_;  // where values of a GPU's states pass through
  int64_t bytes_ = 0;
  std::vector<State> states_;
  std::map<std::string, State, std::less<>> by_name_;  // states and regions
};

}  // namespace serval
