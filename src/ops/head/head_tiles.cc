#include "ops/head/head_tiles.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/parallel.h"
#include "gemm/own_bf16.h"
#include "gemm/scratch.h"

namespace serval {
namespace {

constexpr int64_t kChunkBytes = kHeadPanel * kHeadPanel * 2;

int64_t ceil_div(int64_t x, int64_t y) {
  return (x + y - 1) / y;
}

HeadTileMemory layout(int64_t rows, int64_t vocab_size, int64_t hidden_size, bool gives_d_hidden,
                      void* workspace) {
  // Segments of some thousand logits, as many as threads may want. For each block of 1,024 logits the sums of
  // d_hidden are read and written once.
  constexpr int64_t kSegmentPanels = 256, kBlockPanels = 32;
  const bool has_unit = cpu_isa() == CpuIsa::amx;
  HeadTileMemory m;
  m.panel_rows = head_panel_rows(has_unit);
  m.row_panels = ceil_div(rows, m.panel_rows);
  m.vocab_panels = ceil_div(vocab_size, kHeadPanel);
  m.width_chunks = ceil_div(hidden_size, kHeadPanel);
  m.segments = std::clamp<int64_t>(m.vocab_panels / kSegmentPanels, 1, kMostHeadSegments);
  m.block_panels = std::min(kBlockPanels, m.vocab_panels);
  m.group_bytes = std::max(level_2_cache_bytes() / (has_unit ? 2 : 4),
                           std::max(m.width_chunks, m.block_panels) * kChunkBytes);
  const auto take = [&](int64_t bytes) {
    char* const at = static_cast<char*>(workspace) + m.bytes;
    m.bytes += ceil_div(bytes, 64) * 64;
    return at;
  };
  const int64_t padded_rows = m.row_panels * m.panel_rows;
  m.total = reinterpret_cast<double*>(take(m.segments * padded_rows * 8));
  m.reference = reinterpret_cast<float*>(take(m.segments * padded_rows * 4));
  m.most = reinterpret_cast<float*>(take(m.segments * padded_rows * 4));
  m.label_logit = reinterpret_cast<float*>(take(padded_rows * 4));
  m.labels = reinterpret_cast<int32_t*>(take(padded_rows * 4));
  m.hidden = take(padded_rows * m.width_chunks * kHeadPanel * 2);
  if (gives_d_hidden) {
    m.exponentials = take(m.segments * padded_rows * m.block_panels * kHeadPanel * 2);
    m.products = reinterpret_cast<float*>(take(m.segments * padded_rows * m.width_chunks * kHeadPanel * 4));
  }
  return m;
}

struct Kernels {
  decltype(&avx512_bf16::head_pack_hidden) pack_hidden;
  decltype(&avx512_bf16::head_multiply) multiply;
  decltype(&avx512_bf16::head_finish) finish;
};
Kernels kernels() {
  if (cpu_isa() == CpuIsa::amx) return {amx::head_pack_hidden, amx::head_multiply, amx::head_finish};
  return {avx512_bf16::head_pack_hidden, avx512_bf16::head_multiply, avx512_bf16::head_finish};
}

// Threads as a grid over row panels and segments: the least work for the busiest, then the fewest that read
// the same part of the weight.
struct Grid {
  int64_t rows = 1, segments = 1;
};
Grid grid_of(int64_t threads, int64_t row_panels, int64_t segments) {
  Grid best;
  int64_t best_work = INT64_MAX;
  for (int64_t rows = 1; rows <= std::min(threads, row_panels); ++rows) {
    const int64_t parts = std::min(threads / rows, segments);
    const int64_t work = ceil_div(row_panels, rows) * ceil_div(segments, parts);
    if (work < best_work) best = {rows, parts}, best_work = work;
  }
  return best;
}

}  // namespace

bool head_uses_tiles(DType dtype, bool trains_weight) {
  return dtype == DType::bf16 && !trains_weight && cpu_isa() >= CpuIsa::avx512_bf16;
}

int64_t head_tiles_workspace_bytes(int64_t rows, int64_t vocab_size, int64_t hidden_size,
                                   bool gives_d_hidden) {
  return layout(rows, vocab_size, hidden_size, gives_d_hidden, nullptr).bytes;
}

void head_tiles(const HeadTiles& t, void* workspace) {
  const HeadTileMemory m = layout(t.rows, t.vocab_size, t.hidden_size, t.d_hidden != nullptr, workspace);
  const double work =
      static_cast<double>(t.rows) * static_cast<double>(t.vocab_size) * static_cast<double>(t.hidden_size);
  const int64_t threads = threads_worth(work, cpu_isa());
  const Grid grid = grid_of(threads, m.row_panels, m.segments);
  const int64_t parts = grid.rows * grid.segments;
  const Kernels use = kernels();
  const auto cut = [](int64_t size, int64_t part, int64_t of) { return size * part / of; };
  const auto range_of = [&](int64_t part) {
    const int64_t r = part % grid.rows, s = part / grid.rows;
    return HeadTileRange{cut(m.row_panels, r, grid.rows), cut(m.row_panels, r + 1, grid.rows),
                         cut(m.segments, s, grid.segments), cut(m.segments, s + 1, grid.segments), s};
  };
  const auto multiply = [&](const HeadTileRange& range) {
    static thread_local Scratch scratch;  // of the thread that runs the part
    use.multiply(t, m, range, static_cast<char*>(scratch.at_least(m.group_bytes)));
  };
  const auto finish = [&](int64_t panel0, int64_t panel1) {
    use.finish(t, m, panel0 * m.panel_rows, std::min(panel1 * m.panel_rows, t.rows));
  };
  if (grid.segments == 1) {
    // Nobody needs another's rows.
    return parallel_phases(parts, 1, [&](int64_t, int64_t part) {
      const HeadTileRange range = range_of(part);
      use.pack_hidden(t, m, range.row_panel0, range.row_panel1);
      multiply(range);
      finish(range.row_panel0, range.row_panel1);
    });
  }
  parallel_phases(parts, 3, [&](int64_t phase, int64_t part) {
    if (phase == 1) return multiply(range_of(part));
    const int64_t panel0 = cut(m.row_panels, part, parts), panel1 = cut(m.row_panels, part + 1, parts);
    if (phase == 0) return use.pack_hidden(t, m, panel0, panel1);
    finish(panel0, panel1);
  });
}

}  // namespace serval
