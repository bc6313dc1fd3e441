// Columns beside the rows of a tensor: the calls that want them get them, and nothing else changes.
#include "plan/side_columns.h"

#include <gtest/gtest.h>

#include "ops/linear/linear.h"
#include "ops/swiglu/swiglu.h"
#include "plan/arena.h"
#include "program/op.h"

namespace serval::testing {
namespace {

constexpr int64_t kRows = 5, kIn = 24, kRank = 3;

struct Built {
  Program program;
  TensorId x = kNone, y = kNone;
};

// swiglu -> linear with an adapter in a storage of its own; `views` reads the activation through a view
// first.
Built build(bool stored) {
  Built built;
  ProgramBuilder b(built.program);
  const int64_t side = stored ? ops::linear_side_columns(kRank) : 0;
  const TensorId input = b.input("input", DType::f32, {kRows, 2 * kIn});
  const TensorId storage = b.state("storage", DType::f32, {8 + side, kIn + side}, Role::weight);
  const TensorId weight = stored ? b.region(storage, "weight", {8, kIn}, 0, Role::weight)
                                 : b.state("weight", DType::f32, {8, kIn}, Role::weight);
  const TensorId a = stored ? b.region(storage, "a", {kRank, kIn}, 8 * (kIn + side), Role::adapter)
                            : b.state("a", DType::f32, {kRank, kIn}, Role::adapter);
  const TensorId lora_b = stored ? b.region(storage, "b", {8, kRank}, kIn, Role::adapter)
                                 : b.state("b", DType::f32, {8, kRank}, Role::adapter);
  built.x = ops::swiglu(b, "act", input);
  built.y = ops::linear(b, "down", built.x, weight, kNone, {8},
                        {.a = a, .b = {lora_b}, .ranks = {kRank}, .scales = {2.0}});
  return built;
}

TEST(SideColumns, StandBesideTheRows) {
  const Built built = build(true);
  const Program program = add_side_columns(built.program);
  const OpCall& call = program.calls.back();
  ASSERT_EQ(call.outputs.size(), 3u);
  ASSERT_NE(call.outputs[2], kNone);
  const TensorDecl &x = program.tensor(built.x), &side = program.tensor(call.outputs[2]);
  const int64_t columns = ops::linear_side_columns(kRank);
  EXPECT_EQ(x.shape, (Shape{kRows, kIn}));
  EXPECT_EQ(side.shape, (Shape{kRows, columns}));
  EXPECT_EQ(x.row_stride, kIn + columns);
  EXPECT_EQ(side.row_stride, kIn + columns);
  EXPECT_EQ(program.root(built.x), program.root(call.outputs[2]));
  EXPECT_EQ(side.offset - x.offset, kIn);
  // Nobody reads u here, so it is not written twice.
  EXPECT_EQ(call.outputs[1], kNone);
  const ArenaPlan plan = plan_arena(program);
  EXPECT_GE(plan.offsets[static_cast<size_t>(program.root(built.x))], 0);
  EXPECT_LT(plan.offsets[static_cast<size_t>(built.x)], 0);
}

TEST(SideColumns, OnlyWhereTheWeightHasRoom) {
  const Built built = build(false);
  const Program program = add_side_columns(built.program);
  EXPECT_EQ(program.tensors.size(), built.program.tensors.size());
  EXPECT_EQ(program.calls.back().outputs[2], kNone);
  EXPECT_NE(program.calls.back().outputs[1], kNone);
}

// A call that is repeated on the same input must compute what it did before, by the same product.
TEST(SideColumns, ARepeatedCallSharesThem) {
  Built built = build(true);
  OpCall again = built.program.calls.back();
  again.recomputed = true;
  for (TensorId& id : again.outputs) {
    if (id == kNone) continue;
    built.program.tensors.push_back(TensorDecl(built.program.tensor(id)));
    id = static_cast<TensorId>(built.program.tensors.size()) - 1;
  }
  built.program.calls.push_back(again);
  OpCall other = again;
  other.name = "another";  // its columns would hold something else
  built.program.calls.push_back(other);
  const Program program = add_side_columns(built.program);
  const auto calls = program.calls.size();
  EXPECT_NE(program.calls[calls - 3].outputs[2], kNone);
  EXPECT_EQ(program.calls[calls - 2].outputs[2], program.calls[calls - 3].outputs[2]);
  EXPECT_EQ(program.calls[calls - 1].outputs[2], kNone);
}

TEST(SideColumns, ViewsMoveAlong) {
  Built built = build(true);
  ProgramBuilder b(built.program);
  const TensorId right = b.columns(built.x, 16, 8), below = b.rows(built.x, 3, 2);
  const Program program = add_side_columns(built.program);
  const int64_t stride = kIn + ops::linear_side_columns(kRank);
  EXPECT_EQ(program.tensor(right).offset, 16);
  EXPECT_EQ(program.tensor(right).row_stride, stride);
  EXPECT_EQ(program.tensor(below).offset, 3 * stride);
  EXPECT_EQ(program.root(below), program.root(built.x));
}

}  // namespace
}  // namespace serval::testing
