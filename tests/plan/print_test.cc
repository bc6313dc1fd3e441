// The printed program: identical layers once, every other call a line.
#include "program/print.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "plan/random_program.h"

namespace serval::testing {
namespace {

// Layers of norm and linear with a residual stream, so that a layer names tensors of the one before.
Program layered(int64_t layers, int64_t odd_layer, bool backward) {
  Program program;
  ProgramBuilder b(program);
  std::vector<ParameterGradient> parameters;
  TensorId x = b.input("x", DType::f32, {4, 8}), branch = x;
  for (int64_t layer = 0; layer < layers; ++layer) {
    NameScope scope(b, "model.layers." + std::to_string(layer));
    const TensorId norm = b.state(b.scoped("norm.weight"), DType::f32, {8}, Role::weight);
    const TensorId weight = b.state(b.scoped("proj.weight"), DType::f32, {8, 8}, Role::weight);
    parameters.push_back({weight, b.state(b.scoped("proj.weight.grad"), DType::f32, {8, 8}, Role::gradient)});
    const auto out = ops::residual_rms_norm(b, "norm", x, branch, norm, layer == odd_layer ? 1e-3 : 1e-5);
    x = out.sum;
    branch = ops::linear(b, "proj", out.y, weight, kNone, {8});
  }
  const GradientSeed seed{branch, b.input("seed", DType::f32, {4, 8})};
  if (backward) differentiate(program, parameters, std::span(&seed, 1));
  return program;
}

int64_t lines_with(const std::string& text, const std::string& part) {
  std::istringstream lines(text);
  int64_t count = 0;
  for (std::string line; std::getline(lines, line);) count += line.find(part) != std::string::npos ? 1 : 0;
  return count;
}

TEST(PrintProgram, IdenticalLayersOnce) {
  const std::string text = print_program(layered(12, -1, false));
  // The first layer reads x; the rest read the layer before them.
  EXPECT_NE(text.find("layers 1 to 11 (11 alike)"), std::string::npos) << text;
  EXPECT_EQ(lines_with(text, " linear "), 2) << text;
  EXPECT_NE(text.find("24 calls"), std::string::npos) << text;
}

TEST(PrintProgram, BackwardLayersToo) {
  const std::string text = print_program(layered(30, -1, true));
  EXPECT_LT(lines_with(text, "linear_backward"), 6) << text;
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 60) << text;
}

TEST(PrintProgram, ALayerThatDiffersIsShown) {
  const std::string text = print_program(layered(12, 6, false));
  EXPECT_NE(text.find("layer 6"), std::string::npos) << text;
  EXPECT_EQ(lines_with(text, "eps=0.001"), 1) << text;
}

}  // namespace
}  // namespace serval::testing
