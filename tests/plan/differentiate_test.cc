// Gradients of random programs against central differences of the forward program, all in f64. Differences
// along one random direction per parameter test all its elements at once.
#include "plan/differentiate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/parallel.h"
#include "plan/random_program.h"

namespace serval::testing {
namespace {

double loss_of(const RandomProgram& random, ProgramRunner& forward) {
  if (random.has_loss) forward.states().zero("sums");
  forward.run();
  double loss = random.has_loss ? forward.get("sums")[0] : 0;
  for (const auto& seed : random.seeds) {
    const auto y = forward.get(seed.tensor), d = random.inputs.at(random.program.tensor(seed.gradient).name);
    for (size_t i = 0; i < y.size(); ++i) loss += y[i] * d[i];
  }
  return loss;
}

void check_gradients(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  const RandomProgram random = random_program(seed, DType::f64);
  Program whole = random.program;
  differentiate(whole, random.parameters, random.seeds);
  ProgramRunner backward(whole, ArenaKind::packed), forward(random.program, ArenaKind::scattered);
  random.load(backward);
  random.load(forward);
  backward.run();
  Random directions(seed + 1000);
  for (const auto& [parameter, gradient] : random.parameters) {
    const std::string& name = random.program.tensor(parameter).name;
    const auto value = random.states.at(name), grad = backward.get(gradient);
    std::vector<double> direction(value.size());
    for (double& d : direction) d = directions.normal();
    double expected = 0, length = 0;
    for (size_t i = 0; i < grad.size(); ++i) {
      expected += grad[i] * direction[i];
      length += grad[i] * grad[i];
    }
    // Central differences of fourth order: the error is h^4 times a fifth derivative, and 1e-16 / h.
    constexpr double h = 5e-6;
    const auto loss_at = [&](double step) {
      auto moved = value;
      for (size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
      forward.set(name, moved);
      return loss_of(random, forward);
    };
    const double measured = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
    forward.set(name, value);
    EXPECT_NEAR(measured, expected, 1e-6 * (std::sqrt(length) + 1e-2)) << name;
  }
}

TEST(Differentiate, RandomProgramsMatchFiniteDifferences) {
  set_num_threads(1);  // a team for such small tensors would mostly wait
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    check_gradients(seed);
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace serval::testing
