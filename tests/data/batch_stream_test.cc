#include "data/batch_stream.h"

#include <gtest/gtest.h>

#include <set>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;

// Documents of the given lengths; token ids tell document and place: 100 * document + place.
Examples make_examples(const std::vector<int>& lengths) {
  Examples examples;
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::vector<int32_t> ids;
    std::vector<bool> trained;
    for (int token = 0; token < lengths[i]; ++token) {
      ids.push_back(static_cast<int32_t>(100 * i) + token);
      trained.push_back(token % 3 != 1);
    }
    examples.add(ids, trained);
  }
  return examples;
}

std::vector<int> some_lengths(int count) {
  std::vector<int> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(1 + i * 7 % 19);
  return lengths;
}

TEST(Examples, BitsAndCounts) {
  Examples examples = make_examples({5, 1, 70});
  EXPECT_EQ(examples.size(), 3);
  EXPECT_EQ(examples.num_tokens(), 76);
  EXPECT_EQ(examples.ids(1)[0], 100);
  for (int64_t token = 0; token < 70; ++token) EXPECT_EQ(examples.trained(2, token), token % 3 != 1);
  EXPECT_EQ(examples.labels(0), 2);  // places 2, 3
  EXPECT_EQ(examples.labels(1), 0);
  EXPECT_EQ(examples.num_labels(), examples.labels(0) + examples.labels(1) + examples.labels(2));
  examples.append(make_examples({4}));
  EXPECT_EQ(examples.size(), 4);
  EXPECT_EQ(examples.ids(3)[3], 3);
  EXPECT_TRUE(examples.trained(3, 3));
}

TEST(MicroBatch, LabelsNeverCrossDocuments) {
  const Examples examples = make_examples({4, 1, 3});
  const MicroBatch batch = make_micro_batch(examples, std::vector<int64_t>{2, 1, 0});
  EXPECT_EQ(batch.input_ids, (std::vector<int32_t>{200, 201, 202, 100, 0, 1, 2, 3}));
  EXPECT_EQ(batch.position_ids, (std::vector<int32_t>{0, 1, 2, 0, 0, 1, 2, 3}));
  EXPECT_EQ(batch.cu_seqlens, (std::vector<int32_t>{0, 3, 4, 8}));
  EXPECT_EQ(batch.label_rows, (std::vector<int32_t>{1, 5, 6}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{202, 2, 3}));
}

TEST(Examples, WeightsWhereTheyDiffer) {
  Examples plain = make_examples({3});
  EXPECT_FALSE(plain.weighted());
  EXPECT_TRUE(make_micro_batch(plain, std::vector<int64_t>{0}).weights.empty());
  Examples examples = make_examples({3});
  examples.add(std::vector<int32_t>{1, 2, 3, 4}, {true, true, false, true},
               std::vector<float>{0.5f, 0.5f, 9, 2});
  examples.add(std::vector<int32_t>{5, 6}, {true, true});
  plain.append(examples);
  for (const Examples* all : {&examples, &plain}) {
    const int64_t first = all->size() - 2;
    EXPECT_TRUE(all->weighted());
    EXPECT_EQ(all->weight(0, 2), 1);
    EXPECT_EQ(all->weight(first, 0), 0.5f);
    EXPECT_EQ(all->weight(first, 1), 0.5f);
    EXPECT_EQ(all->weight(first, 3), 2);
    EXPECT_EQ(all->weight(first + 1, 1), 1);
    const MicroBatch batch = make_micro_batch(*all, std::vector<int64_t>{first + 1, first, 0});
    EXPECT_EQ(batch.labels, (std::vector<int32_t>{6, 2, 4, 2}));
    EXPECT_EQ(batch.weights, (std::vector<float>{1, 0.5f, 2, 1}));
    EXPECT_EQ(batch.label_weight(), 4.5);
  }
}

TEST(BatchStream, EveryDocumentOnceAnEpoch) {
  for (const bool packing : {false, true}) {
    BatchStream stream(make_examples(some_lengths(23)),
                       {.batch_size = 3, .accumulation = 2, .packing = packing, .max_length = 20, .seed = 1});
    std::vector<std::vector<int32_t>> orders;
    for (int epoch = 0; epoch < 3; ++epoch) {
      std::vector<int32_t> order;
      for (int64_t i = 0; i < stream.steps_per_epoch(); ++i) {
        const StepBatch step = stream.next();
        int64_t tokens = 0, labels = 0;
        for (const MicroBatch& batch : step.micro_batches) {
          tokens += batch.num_tokens();
          labels += batch.num_labels();
          EXPECT_LE(batch.num_tokens(), stream.max_tokens_per_micro_batch());
          EXPECT_LE(batch.num_documents(), stream.max_documents_per_micro_batch());
          EXPECT_LE(batch.num_labels(), stream.max_labels_per_micro_batch());
          for (int64_t d = 0; d < batch.num_documents(); ++d)
            order.push_back(batch.input_ids[static_cast<size_t>(batch.cu_seqlens[static_cast<size_t>(d)])] /
                            100);
        }
        EXPECT_EQ(tokens, step.num_tokens);
        EXPECT_EQ(labels, step.num_labels);
        const bool last = i + 1 == stream.steps_per_epoch();
        EXPECT_LE(step.epoch, epoch + 1);
        EXPECT_EQ(step.epoch == epoch + 1, last);
      }
      EXPECT_EQ(order.size(), 23u);
      EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(), 23u);
      orders.push_back(order);
    }
    EXPECT_NE(orders[0], orders[1]);
    EXPECT_NE(orders[1], orders[2]);
  }
}

TEST(BatchStream, LastStepOfAnEpochHasFewerMicroBatches) {
  BatchStream stream(make_examples(some_lengths(10)), {.batch_size = 2, .accumulation = 3, .shuffle = false});
  EXPECT_EQ(stream.micro_batches_per_epoch(), 5);
  EXPECT_EQ(stream.steps_per_epoch(), 2);
  const StepBatch first = stream.next(), second = stream.next(), third = stream.next();
  EXPECT_EQ(first.micro_batches.size(), 3u);
  EXPECT_DOUBLE_EQ(first.epoch, 0.6);
  EXPECT_EQ(second.micro_batches.size(), 2u);
  EXPECT_DOUBLE_EQ(second.epoch, 1.0);
  EXPECT_EQ(third.micro_batches, first.micro_batches);
  EXPECT_DOUBLE_EQ(third.epoch, 1.6);
}

TEST(BatchStream, DropLast) {
  BatchStream kept(make_examples(some_lengths(7)), {.batch_size = 3});
  EXPECT_EQ(kept.micro_batches_per_epoch(), 3);
  BatchStream dropped(make_examples(some_lengths(7)), {.batch_size = 3, .drop_last = true});
  EXPECT_EQ(dropped.micro_batches_per_epoch(), 2);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(dropped.next().micro_batches[0].num_documents(), 3);
  EXPECT_HAS(error_of([] { BatchStream(make_examples({3}), {.batch_size = 2, .drop_last = true}); }),
             "do not fill");
}

TEST(BatchStream, SeedsDiffer) {
  BatchStream a(make_examples(some_lengths(20)), {.seed = 1}),
      b(make_examples(some_lengths(20)), {.seed = 1});
  BatchStream c(make_examples(some_lengths(20)), {.seed = 2});
  bool differs = false;
  for (int i = 0; i < 20; ++i) {
    const StepBatch step = a.next();
    EXPECT_EQ(step, b.next());
    differs |= step != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(BatchStream, ShuffleReachesEveryOrder) {
  std::set<std::vector<int32_t>> orders;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    BatchStream stream(make_examples({2, 2, 2}), {.batch_size = 3, .seed = seed});
    orders.insert(stream.next().micro_batches[0].input_ids);
  }
  EXPECT_EQ(orders.size(), 6u);
}

TEST(BatchStream, ResumeAtEveryStepEqualsNeverStopping) {
  for (const bool packing : {false, true}) {
    const BatchOptions options{
        .batch_size = 2, .accumulation = 3, .packing = packing, .max_length = 32, .seed = 9};
    BatchStream whole(make_examples(some_lengths(21)), options);
    const int64_t steps = 3 * whole.steps_per_epoch();
    std::vector<StepBatch> expected;
    std::vector<Json> states;
    for (int64_t i = 0; i < steps; ++i) {
      states.push_back(Json::parse(whole.state().dump(), "state"));
      expected.push_back(whole.next());
    }
    for (size_t stop = 0; stop < states.size(); ++stop) {
      BatchStream resumed(make_examples(some_lengths(21)), options);
      resumed.restore(states[stop], "state");
      for (size_t i = stop; i < expected.size(); ++i)
        ASSERT_EQ(resumed.next(), expected[i]) << stop << " " << i;
    }
  }
}

// More rows than a table is made of: another order, the same promises.
TEST(BatchStream, ManyRows) {
  Examples examples;
  const int64_t rows = Permutation::kTableLimit + 100;
  for (int64_t i = 0; i < rows; ++i)
    examples.add(std::vector<int32_t>{static_cast<int32_t>(i), 1}, {false, true});
  const BatchOptions options{.batch_size = 1000, .accumulation = 7, .seed = 4};
  BatchStream stream(examples, options);
  std::vector<bool> seen(static_cast<size_t>(rows), false);
  std::optional<Json> state;
  std::optional<StepBatch> after;
  for (int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    if (step == 3) state = Json::parse(stream.state().dump(), "state");
    const StepBatch batch = stream.next();
    if (step == 3) after = batch;
    for (const MicroBatch& micro : batch.micro_batches)
      for (size_t i = 0; i < micro.input_ids.size(); i += 2) {
        const auto row = static_cast<size_t>(micro.input_ids[i]);
        ASSERT_FALSE(seen[row]);
        seen[row] = true;
      }
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), rows);
  BatchStream resumed(examples, options);
  resumed.restore(*state, "state");
  EXPECT_EQ(resumed.next(), *after);
  state->erase("order");
  EXPECT_HAS(error_of([&] { resumed.restore(*state, "old/state.json"); }), "saved by an earlier Serval");
}

TEST(BatchStream, RestoreRefusesAnotherRun) {
  BatchStream stream(make_examples(some_lengths(10)), {.batch_size = 2, .accumulation = 2});
  const auto error = [&](const char* state) {
    return error_of([&] { stream.restore(Json::parse(state, "s"), "checkpoint-3/trainer.json"); });
  };
  EXPECT_HAS(error(R"({"epoch": 0, "position": 0, "rows": 11})"),
             "saved with 11 rows of training data but there are 10");
  EXPECT_HAS(error(R"({"epoch": 0, "position": 3, "rows": 10})"), "checkpoint-3/trainer.json");
  EXPECT_HAS(error(R"({"epoch": 0, "position": 6, "rows": 10})"), "none of this run's");
  EXPECT_HAS(error(R"({"epoch": -1, "position": 0, "rows": 10})"), "none of this run's");
  EXPECT_HAS(error(R"({"epoch": 99999999999, "position": 0, "rows": 10})"), "none of this run's");
  EXPECT_HAS(error(R"({"epoch": 0, "position": "x", "rows": 10})"), "an integer");
  EXPECT_HAS(error(R"({"epoch": 0})"), "position");
  stream.restore(Json::parse(R"({"epoch": 4, "position": 5, "rows": 10})", "s"), "s");
  EXPECT_DOUBLE_EQ(stream.next().epoch, 5.4);
}

TEST(BatchStream, CapacityIsTheMaximumOverAllOrders) {
  BatchStream stream(make_examples({5, 9, 2, 7, 9}), {.batch_size = 3});
  EXPECT_EQ(stream.max_tokens_per_micro_batch(), 25);
  EXPECT_EQ(stream.max_documents_per_micro_batch(), 3);
  const Examples examples = make_examples({5, 9, 2, 7, 9});
  EXPECT_EQ(stream.max_labels_per_micro_batch(), 2 * examples.labels(1) + examples.labels(3));
  BatchStream packed(make_examples({5, 9, 2, 7, 1, 9}), {.batch_size = 2, .packing = true, .max_length = 10});
  EXPECT_EQ(packed.num_rows(), 4);  // 9+1, 9, 7+2, 5
  EXPECT_EQ(packed.max_tokens_per_micro_batch(), 19);
  EXPECT_EQ(packed.max_documents_per_micro_batch(), 4);
  EXPECT_DOUBLE_EQ(packed.utilisation(), 33.0 / 40);
}

TEST(BatchStream, OneRow) {
  BatchStream stream(make_examples({6}), {.batch_size = 4, .accumulation = 8});
  EXPECT_EQ(stream.steps_per_epoch(), 1);
  const StepBatch first = stream.next(), second = stream.next();
  EXPECT_EQ(first.micro_batches.size(), 1u);
  EXPECT_EQ(first.micro_batches, second.micro_batches);
  EXPECT_DOUBLE_EQ(second.epoch, 2.0);
  EXPECT_HAS(error_of([] { BatchStream(Examples(), {}); }), "no example");
  EXPECT_HAS(error_of([] { BatchStream(make_examples({6}), {.packing = true}); }), "max_length");
}

TEST(EvaluationBatches, InOrderOnce) {
  const Examples examples = make_examples({3, 4, 1, 5, 2});
  EvaluationBatches batches(examples, 2);
  EXPECT_EQ(batches.capacity().tokens, 9);
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<int32_t> ids;
    int count = 0;
    while (const auto batch = batches.next()) {
      ids.insert(ids.end(), batch->input_ids.begin(), batch->input_ids.end());
      ++count;
    }
    EXPECT_EQ(count, 3);
    ASSERT_EQ(ids.size(), 15u);
    EXPECT_EQ(ids[0], 0);
    EXPECT_EQ(ids[14], 401);
    batches.rewind();
  }
}

}  // namespace
}  // namespace serval
