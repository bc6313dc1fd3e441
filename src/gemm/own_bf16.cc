#include "gemm/own_bf16.h"

#include <unistd.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "gemm/scratch.h"

namespace serval {
namespace {

struct Kernels {
  decltype(&avx512_bf16::bf16_pack_a) pack_a, pack_b;
  decltype(&avx512_bf16::bf16_multiply) multiply;
};
Kernels kernels(CpuIsa isa) {
  if (isa == CpuIsa::amx) return {amx::bf16_pack_a, amx::bf16_pack_b, amx::bf16_multiply};
  return {avx512_bf16::bf16_pack_a, avx512_bf16::bf16_pack_b, avx512_bf16::bf16_multiply};
}

int64_t ceil_div(int64_t x, int64_t y) {
  return (x + y - 1) / y;
}
// The size of equal cuts of `size`, none above `most`, in multiples of `unit`.
int64_t cut(int64_t size, int64_t most, int64_t unit) {
  return ceil_div(ceil_div(size, ceil_div(size, most)), unit) * unit;
}

// How many first chunks of A's rows are read where they are, not packed. The matrix unit takes rows of 64
// bytes from anywhere, best where they are lines of the cache; rows that many columns read again are better
// packed. Few columns of a tall product need no packed A either way.
int64_t chunks_in_place(const KernelArgs& args, CpuIsa isa, int64_t length) {
  constexpr int64_t kFewColumns = 2048;
  if (args.a_transposed) return 0;
  const bool lines = reinterpret_cast<uintptr_t>(args.a) % 64 == 0 && args.a_stride % 32 == 0;
  const bool by_tiles = isa == CpuIsa::amx && lines && args.n <= kFewColumns;
  return by_tiles || args.n <= kBf16Panel ? length / kBf16Chunk : 0;
}

// About how many cycles packing takes, and writing C from a block of C^T.
double packing_cycles(const KernelArgs& args, CpuIsa isa, bool transposed) {
  constexpr double kCopy = 0.03, kInterleave = 0.05, kTranspose = 0.15, kBoth = 0.2, kWriteAcross = 0.3;
  const double a = static_cast<double>(args.m) * static_cast<double>(args.k);
  const double b = static_cast<double>(args.n) * static_cast<double>(args.k);
  const double a_cost = args.a_transposed ? kBoth : chunks_in_place(args, isa, args.k) > 0 ? 0 : kCopy;
  const double b_cost = args.b_transposed ? kTranspose : kInterleave;
  return a * a_cost + b * b_cost +
         (transposed ? kWriteAcross * static_cast<double>(args.m) * static_cast<double>(args.n) : 0);
}

// C^T = B^T A^T. Only C and the bias keep their sense.
KernelArgs transpose_of(const KernelArgs& args) {
  KernelArgs t = args;
  std::swap(t.m, t.n);
  std::swap(t.a, t.b);
  std::swap(t.a_stride, t.b_stride);
  t.a_transposed = !args.b_transposed;
  t.b_transposed = !args.a_transposed;
  return t;
}

// Blocks of C that are packed and multiplied at once, and the passes within them. Whatever the sizes are,
// each sum runs over k in the same order.
struct Cuts {
  int64_t rows, columns, length;  // of a block
  int64_t pass_panels;
};
Cuts cuts_of(const KernelArgs& args, int64_t threads) {
  constexpr int64_t kRows = 1024, kMostLength = 1536;
  // Half of the second cache for the B of a pass, and as much for each thread packed at a time.
  static const int64_t pass_bytes = std::clamp<int64_t>(level_2_cache_bytes() / 2, 256 << 10, 1 << 20);
  Cuts cuts;
  cuts.rows = cut(args.m, kRows, kBf16Panel);
  // Whole sums where they fit. A longer k is cut, with all columns that the kept sums have room for.
  cuts.length = cut(args.k, args.k <= kMostLength ? kMostLength : 1024, kBf16Chunk);
  const int64_t columns = args.k <= kMostLength ? threads * pass_bytes / (2 * cuts.length) : 1024;
  cuts.columns = cut(args.n, std::clamp<int64_t>(columns, 256, 4096), kBf16Panel);
  cuts.pass_panels = std::max<int64_t>(pass_bytes / (2 * cuts.length) / kBf16Panel, 1);
  return cuts;
}

// Threads as a grid over the panels of a block: the least work for the busiest, then the least packed memory
// that it reads.
struct Grid {
  int64_t rows = 1, columns = 1;
};
Grid grid_of(int64_t threads, int64_t row_panels, int64_t column_panels) {
  Grid best;
  int64_t best_work = INT64_MAX, best_reads = INT64_MAX;
  for (int64_t rows = 1; rows <= std::min(threads, row_panels); ++rows) {
    const int64_t columns = std::min(threads / rows, column_panels);
    const int64_t r = ceil_div(row_panels, rows), c = ceil_div(column_panels, columns);
    if (r * c > best_work || (r * c == best_work && r + c >= best_reads)) continue;
    best = {rows, columns}, best_work = r * c, best_reads = r + c;
  }
  return best;
}

// Up to so much each thread packs all that it needs for itself: cheaper than waiting for the others and
// fetching it from their caches.
constexpr int64_t kPackedApart = int64_t{1} << 20;

struct Range {
  int64_t begin, end;
};
Range part_of(Range whole, int64_t part, int64_t parts) {
  const int64_t size = whole.end - whole.begin;
  return {whole.begin + size * part / parts, whole.begin + size * (part + 1) / parts};
}

// The terms of a product as pieces of its operands, behind the elements of k: each has its own part of them.
struct Pieces {
  std::vector<Bf16Piece> left, right;
  int64_t chunks = 0;

  explicit Pieces(const KernelArgs& args) {
    int64_t rank = 0;
    for (const GemmTerm& t : std::span(args.terms, static_cast<size_t>(args.num_terms))) {
      left.push_back({static_cast<const uint16_t*>(t.left), t.left_stride, 0, args.m, rank, t.rank});
      right.push_back(
          {static_cast<const uint16_t*>(t.right), t.right_stride, t.column, t.columns, rank, t.rank});
      rank += t.rank;
    }
    chunks = ceil_div(rank, kBf16Chunk);
  }
};

Bf16Operand operand(const void* data, int64_t stride, bool across, int64_t line, int64_t k, int64_t lines,
                    const std::vector<Bf16Piece>& pieces, bool pieces_across) {
  const int64_t start = across ? k * stride + line : line * stride + k;
  Bf16Operand operand = {};
  operand.source = static_cast<const uint16_t*>(data) + start, operand.stride = stride;
  operand.across = across, operand.lines = lines, operand.line = line;
  operand.pieces = pieces.data(), operand.num_pieces = static_cast<int64_t>(pieces.size());
  operand.pieces_across = pieces_across;
  return operand;
}

}  // namespace

int64_t level_2_cache_bytes() {
  static const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? bytes : 1 << 20;
}

int64_t threads_worth(double multiply_adds, CpuIsa isa) {
  if (in_parallel()) return 1;
  // Waking a thread takes as long as about so many multiply-adds.
  const double worth = isa == CpuIsa::amx ? 1 << 20 : 1 << 17;
  return std::clamp<int64_t>(static_cast<int64_t>(multiply_adds / worth), 1, num_threads());
}

void own_bf16_product(const KernelArgs& given, CpuIsa isa) {
  const KernelArgs turned = transpose_of(given);
  const bool transposed = packing_cycles(turned, isa, true) < packing_cycles(given, isa, false);
  const KernelArgs& args = transposed ? turned : given;
  const Pieces pieces(given);
  const bool right_across = !given.terms_right_transposed;
  const Kernels use = kernels(isa);
  const int64_t threads = threads_worth(
      static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k), isa);
  const Cuts cuts = cuts_of(args, threads);
  const int64_t row_blocks = ceil_div(args.m, cuts.rows), column_blocks = ceil_div(args.n, cuts.columns),
                length_blocks = ceil_div(args.k, cuts.length);
  const int64_t row_panels = cuts.rows / kBf16Panel, column_panels = cuts.columns / kBf16Panel;
  const int64_t panel_bytes = (cuts.length / kBf16Chunk + pieces.chunks) * kBf16ChunkBytes;
  // Beside chunks in place, whole panels keep the end of k and the further chunks.
  const int64_t packed_a_bytes = chunks_in_place(args, isa, cuts.length) > 0
                                     ? row_panels * (1 + pieces.chunks) * kBf16ChunkBytes + panel_bytes
                                     : row_panels * panel_bytes;
  const int64_t packed_bytes = packed_a_bytes + column_panels * panel_bytes;
  const Grid grid = grid_of(threads, row_panels, column_panels);
  const int64_t blocks = row_blocks * column_blocks * length_blocks;

  const auto block_at = [&](int64_t step, char* packed) {
    const int64_t l = step % length_blocks, c = step / length_blocks % column_blocks,
                  r = step / length_blocks / column_blocks;
    const int64_t row = r * cuts.rows, column = c * cuts.columns, k = l * cuts.length;
    Bf16Block block = {};
    block.length = std::min(cuts.length, args.k - k);
    block.chunks = ceil_div(block.length, kBf16Chunk);
    block.first = l == 0, block.last = l + 1 == length_blocks;
    block.further = block.last ? pieces.chunks : 0;
    block.a = operand(args.a, args.a_stride, args.a_transposed, row, k, std::min(cuts.rows, args.m - row),
                      transposed ? pieces.right : pieces.left, transposed && right_across);
    block.a.in_place = chunks_in_place(args, isa, block.length), block.a.packed = packed;
    block.b =
        operand(args.b, args.b_stride, !args.b_transposed, column, k, std::min(cuts.columns, args.n - column),
                transposed ? pieces.left : pieces.right, !transposed && right_across);
    block.b.packed = packed + packed_a_bytes;
    block.pass_panels = cuts.pass_panels;
    block.sums = length_blocks > 1 ? reinterpret_cast<float*>(packed + packed_bytes) : nullptr;
    block.transposed = transposed, block.row = row, block.column = column;
    return block;
  };
  // The panels of one part of the grid.
  const auto rows_of = [&](const Bf16Block& block, int64_t part) {
    return part_of({0, ceil_div(block.a.lines, kBf16Panel)}, part / grid.columns, grid.rows);
  };
  const auto columns_of = [&](const Bf16Block& block, int64_t part) {
    return part_of({0, ceil_div(block.b.lines, kBf16Panel)}, part % grid.columns, grid.columns);
  };

  if (blocks == 1 && packed_bytes <= kPackedApart) {
    return parallel_phases(grid.rows * grid.columns, 1, [&](int64_t, int64_t part) {
      static thread_local Scratch scratch;  // of the thread that runs the part
      const Bf16Block block = block_at(0, static_cast<char*>(scratch.at_least(packed_bytes)));
      const Range rows = rows_of(block, part), columns = columns_of(block, part);
      use.pack_a(block, rows.begin, rows.end);
      use.pack_b(block, columns.begin, columns.end);
      use.multiply(args, block, rows.begin, rows.end, columns.begin, columns.end);
    });
  }
  // A phase packs or multiplies one block; the blocks along k follow each other, then those along the
  // columns.
  const int64_t sums_bytes = length_blocks > 1 ? cuts.rows * cuts.columns * 4 : 0;
  static thread_local Scratch scratch;
  char* const packed = static_cast<char*>(scratch.at_least(packed_bytes + sums_bytes));
  parallel_phases(grid.rows * grid.columns, 2 * blocks, [&](int64_t phase, int64_t part) {
    const int64_t step = phase / 2;
    const Bf16Block block = block_at(step, packed);
    const Range rows = rows_of(block, part), columns = columns_of(block, part);
    if (phase % 2 == 1) return use.multiply(args, block, rows.begin, rows.end, columns.begin, columns.end);
    // What is packed already stays: A while only the columns change, B while only the rows do.
    if (length_blocks > 1 || step % column_blocks == 0) {
      const Range mine = part_of(rows, part % grid.columns, grid.columns);
      use.pack_a(block, mine.begin, mine.end);
    }
    if (length_blocks > 1 || column_blocks > 1 || step == 0) {
      const Range mine = part_of(columns, part / grid.columns, grid.rows);
      use.pack_b(block, mine.begin, mine.end);
    }
  });
}

}  // namespace serval
