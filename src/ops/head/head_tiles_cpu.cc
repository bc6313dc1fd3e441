#include "base/cpu.h"
#include "gemm/bf16_pack.h"
#include "ops/head/head_tiles.h"

namespace serval::SERVAL_ISA {
namespace {

#ifdef SERVAL_ISA_amx
constexpr int64_t kRows = head_panel_rows(true);
#else
constexpr int64_t kRows = head_panel_rows(false);
#endif
constexpr int64_t kRowTiles = kRows / 16;
static_assert(kPanel == kHeadPanel && kChunk == kHeadPanel);
constexpr int64_t kRowChunkBytes = kRows * kChunk * 2;  // a chunk of a panel of rows
constexpr int64_t kTileFloats = kRows * kPanel;
constexpr float kLowest = -3.4028234664e38f;
// How far a logit may exceed its row's reference: e^30 times any vocabulary and weight is well within f32.
constexpr float kHeadroom = 30;

inline int64_t larger(int64_t x, int64_t y) {
  return x > y ? x : y;
}
inline int64_t ceil_div(int64_t x, int64_t y) {
  return (x + y - 1) / y;
}

// e^x for x up to about kHeadroom, within 2^-22; at least 2^-126. One for zero.
SERVAL_INLINE __m512 exponential_of(__m512 x) {
  const __m512 t =
      _mm512_max_ps(_mm512_set1_ps(-126.0f), _mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT);
  const __m512 r = _mm512_sub_ps(t, n);
  __m512 p = _mm512_set1_ps(1.3264727e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6715130e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5507336e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022242e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314700e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// Rows of the weight as the lines of A panels, in the order in which they lie in memory.
void pack_rows(const uint16_t* source, int64_t stride, int64_t rows, int64_t columns, int64_t panel_bytes,
               char* target) {
  for (int64_t row = 0; row < rows; ++row, source += stride) {
    char* to = target + row / kPanel * panel_bytes + row % kPanel * 64;
    for (int64_t column = 0; column < columns; column += kChunk, to += kChunkBytes)
      _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(lanes32(columns - column), source + column));
  }
}

// The exponentials of one tile of logits, [32 of the vocabulary][kRows], a few at a time. They are written as
// a chunk of an A panel, where there is one.
class TileExponentials {
 public:
  void begin(const float* logits, const float* reference, int64_t rows, char* chunk) {
    logits_ = logits, tiles_ = ceil_div(rows, 16), pair_ = 0, chunk_ = chunk;
    for (int tile = 0; tile < kRowTiles; ++tile) {
      base_[tile] = _mm512_loadu_ps(reference + tile * 16);
      top_[tile] = _mm512_set1_ps(kLowest), sum_[tile] = _mm512_setzero_ps();
    }
  }
  // In all there are 16 steps for every 16 rows.
  SERVAL_INLINE void step(int64_t count) {
    for (; count > 0 && pair_ < 16 * tiles_; --count) {
      next_pair();
      if (pair_ % 16 == 0 && chunk_ != nullptr) write(pair_ / 16 - 1);
    }
  }
  void clear() { logits_ = nullptr, tiles_ = 0; }

  const float* logits() const { return logits_; }
  char* chunk() const { return chunk_; }
  int64_t tiles() const { return tiles_; }  // of 16 rows
  __m512 top(int64_t tile) const { return top_[tile]; }
  __m512 sum(int64_t tile) const { return sum_[tile]; }

 private:
  // Two of the vocabulary for 16 rows.
  SERVAL_INLINE void next_pair() {
    const uint64_t pair = static_cast<uint64_t>(pair_), tile = pair / 16;
    const float* const x = logits_ + pair % 16 * 2 * kRows + tile * 16;
    const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + kRows);
    // The instruction takes its second operand where one is a NaN.
    top_[tile] = _mm512_max_ps(x0, _mm512_max_ps(x1, top_[tile]));
    const __m512 e0 = exponential_of(_mm512_sub_ps(x0, base_[tile]));
    const __m512 e1 = exponential_of(_mm512_sub_ps(x1, base_[tile]));
    sum_[tile] = _mm512_add_ps(sum_[tile], _mm512_add_ps(e0, e1));
    words_[pair % 16] = to_bf16_words(e0, e1);
    ++pair_;
  }
  SERVAL_INLINE void write(int64_t tile) {
    __m512i x[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = words_[i];
    transpose16(x);
    store_words(x, chunk_ + tile * 1024, 64);
  }

  const float* logits_ = nullptr;
  char* chunk_ = nullptr;
  int64_t pair_ = 0, tiles_ = 0;
  __m512 base_[kRowTiles], top_[kRowTiles], sum_[kRowTiles];
  __m512i words_[16];  // of a tile: two of the vocabulary for each row
};

// The two products of a panel of rows, of which `rows` count, with 32 of the vocabulary or of the hidden
// size. `between` is called between the chunks where that runs beside them.
template <class Unit>
struct Products {
  Unit unit;

  SERVAL_INLINE static void store_hidden(const __m512i (&x)[16], int64_t tile, char* chunk) {
    store_words(x, chunk + tile * 64, 128);
  }
  // logits [32][kRows]
  template <class Between>
  SERVAL_INLINE void logits(int64_t count, int64_t rows, PanelA weight, const char* hidden, int64_t elements,
                            float* sums, Between) {
    unit.multiply(count, rows, weight, hidden, elements, sums, kRows, true);
  }
  // sums [kRows][32]
  template <class Between>
  SERVAL_INLINE void add(int64_t rows, int64_t columns, const char* exponentials, const char* weight,
                         int64_t elements, float* sums, bool first, Between) {
    unit.multiply(rows, columns, {exponentials, 64, kRowChunkBytes}, weight, elements, sums, kPanel, first);
  }
};

#ifdef SERVAL_ISA_amx
// The matrix unit leaves the vector units free, and much of the time of loading and storing.
template <class Instructions>
struct Products<TileUnitOf<Instructions>> {
  TileUnitOf<Instructions> unit;  // holds the shapes of the tiles
  Instructions instructions;

  // Tiles of 16 rows for themselves.
  SERVAL_INLINE static void store_hidden(const __m512i (&x)[16], int64_t tile, char* chunk) {
    store_words(x, chunk + tile * 1024, 64);
  }
  template <class Between>
  SERVAL_INLINE void logits(int64_t, int64_t rows, PanelA weight, const char* hidden, int64_t elements,
                            float* sums, Between between) {
    with_tiles(rows, [&](auto tiles) {
      run<tiles.value, false>(hidden, 64, weight.data, 16 * weight.row, weight.row, weight.chunk, elements,
                              sums, 16, 16 * kRows, kRows, true, between);
    });
  }
  template <class Between>
  SERVAL_INLINE void add(int64_t rows, int64_t, const char* exponentials, const char* weight,
                         int64_t elements, float* sums, bool first, Between between) {
    with_tiles(rows, [&](auto tiles) {
      run<tiles.value, true>(exponentials, 64, weight, 64, 128, kChunkBytes, elements, sums, 16 * kPanel, 16,
                             kPanel, first, between);
    });
  }

 private:
  template <int kValue>
  struct Constant {
    static constexpr int value = kValue;
  };
  template <class F>
  SERVAL_INLINE static void with_tiles(int64_t rows, F f) {
    rows > 32 ? f(Constant<3>()) : rows > 16 ? f(Constant<2>()) : f(Constant<1>());
  }
  // x: kTiles tiles of 1 KB; y: two, `y_tile` bytes apart, in rows `y_row` apart. Sums of tile i of x and j
  // of y begin at i * x_sums + j * y_sums. kXIsA: x is the left operand.
  template <int kTiles, bool kXIsA, class Between>
  SERVAL_INLINE void run(const char* x, int64_t x_row, const char* y, int64_t y_tile, int64_t y_row,
                         int64_t y_chunk, int64_t elements, float* sums, int64_t x_sums, int64_t y_sums,
                         int64_t sums_row, bool first, Between between) {
    const auto each = [&](auto f) {
      f(Constant<0>(), sums), f(Constant<3>(), sums + y_sums);
      if constexpr (kTiles > 1) f(Constant<1>(), sums + x_sums), f(Constant<4>(), sums + x_sums + y_sums);
      if constexpr (kTiles > 2)
        f(Constant<2>(), sums + 2 * x_sums), f(Constant<5>(), sums + 2 * x_sums + y_sums);
    };
    each([&](auto tile, float* at) {
      if (first)
        instructions.template zero<tile.value>();
      else
        instructions.template load<tile.value>(at, sums_row * 4);
    });
    const auto load_x = [&](int tile) { instructions.template load<6>(x + tile * 1024, x_row); };
    const auto multiply = [&](auto tile) {
      if constexpr (kXIsA)
        instructions.template multiply<tile.value, 6, 7>();
      else
        instructions.template multiply<tile.value, 7, 6>();
    };
    for (int64_t left = elements; left > 0; left -= kChunk, x += kRowChunkBytes, y += y_chunk) {
      // There and back, so that the last tile of x is loaded once.
      instructions.template load<7>(y, y_row);
      load_x(0);
      multiply(Constant<0>());
      if constexpr (kTiles > 1) load_x(1), multiply(Constant<1>());
      if constexpr (kTiles > 2) load_x(2), multiply(Constant<2>());
      instructions.template load<7>(y + y_tile, y_row);
      if constexpr (kTiles > 2) multiply(Constant<5>()), load_x(1);
      if constexpr (kTiles > 1) multiply(Constant<4>()), load_x(0);
      multiply(Constant<3>());
      between();
    }
    each([&](auto tile, float* at) { instructions.template store<tile.value>(at, sums_row * 4); });
  }
};
#endif

template <class Unit>
class Part {
 public:
  Part(const HeadTiles& t, const HeadTileMemory& m, const HeadTileRange& range, char* packed)
      : t_(t),
        m_(m),
        range_(range),
        row_panels_(range.row_panel1 - range.row_panel0),
        packed_(packed),
        width_bytes_(m.width_chunks * kChunkBytes) {}

  void run() {
    for (segment_ = range_.segment0; segment_ < range_.segment1; ++segment_) {
      begin_segment();
      const int64_t first = segment_ * m_.vocab_panels / m_.segments,
                    panels = (segment_ + 1) * m_.vocab_panels / m_.segments - first;
      const int64_t blocks = ceil_div(panels, m_.block_panels);
      for (int64_t b = 0; b < blocks; ++b) {
        block0_ = first + panels * b / blocks, block1_ = first + panels * (b + 1) / blocks;
        first_block_ = b == 0;
        const int64_t group = m_.group_bytes / width_bytes_;
        for (int64_t panel = block0_; panel < block1_; panel += group)
          exponentials(panel, smaller(panel + group, block1_));
        if (t_.d_hidden == nullptr) continue;
        const int64_t chunks = m_.group_bytes / ((block1_ - block0_) * kChunkBytes);
        for (int64_t chunk = 0; chunk < m_.width_chunks; chunk += chunks)
          add_products(chunk, smaller(chunk + chunks, m_.width_chunks));
      }
    }
  }

 private:
  int64_t state(int64_t row_panel) const { return (segment_ * m_.row_panels + row_panel) * kRows; }
  char* exponentials_at(int64_t row_panel) const {
    return m_.exponentials + (range_.seat * m_.row_panels + row_panel) * m_.block_panels * kRowChunkBytes;
  }
  float* products_at(int64_t row_panel) const {
    return m_.products + (segment_ * m_.row_panels + row_panel) * m_.width_chunks * kTileFloats;
  }

  void begin_segment() {
    for (int64_t l = state(range_.row_panel0); l < state(range_.row_panel1); ++l) {
      m_.reference[l] = m_.most[l] = kLowest;
      m_.total[l] = 0;
    }
  }

  // Of logits in panels of the vocabulary. A tile's are computed beside the next tile's logits.
  void exponentials(int64_t panel0, int64_t panel1) {
    // Few rows are not worth a copy of the weight: whole panels are read where they are.
    constexpr int64_t kFewPanels = 4;
    const bool few = row_panels_ <= kFewPanels && t_.hidden_size % kChunk == 0;
    const int64_t copied = few ? larger(panel0, smaller(panel1, t_.vocab_size / kPanel)) : panel0;
    if (copied < panel1)
      pack_rows(weight_row(copied), t_.weight_stride,
                smaller((panel1 - copied) * kPanel, t_.vocab_size - copied * kPanel), t_.hidden_size,
                width_bytes_, packed_ + (copied - panel0) * width_bytes_);
    alignas(64) float logits[2][kTileFloats];
    const int64_t pairs = ceil_div(kRows, m_.width_chunks);
    Products<Unit> products;
    for (int64_t i = range_.row_panel0, odd = 0; i < range_.row_panel1; ++i) {
      const int64_t rows = smaller(kRows, t_.rows - i * kRows);
      for (int64_t j = panel0; j < panel1; ++j, odd ^= 1) {
        const PanelA a = j < copied ? PanelA{reinterpret_cast<const char*>(weight_row(j)),
                                             t_.weight_stride * 2, kChunk * 2}
                                    : PanelA{packed_ + (j - panel0) * width_bytes_, 64, kChunkBytes};
        const int64_t count = smaller(kPanel, t_.vocab_size - j * kPanel);
        products.logits(count, rows, a, m_.hidden + i * m_.width_chunks * kRowChunkBytes, t_.hidden_size,
                        logits[odd], [&] { tile_.step(pairs); });
        complete_tile();
        // What is missing from the last panel counts nothing.
        for (int64_t k = count * kRows; k < kTileFloats; ++k) logits[odd][k] = kLowest;
        row_panel_ = i, vocab_panel_ = j;
        tile_.begin(logits[odd], m_.reference + state(i), rows,
                    t_.d_hidden != nullptr ? exponentials_at(i) + (j - block0_) * kRowChunkBytes : nullptr);
      }
    }
    complete_tile();
  }

  void complete_tile() {
    if (tile_.logits() == nullptr) return;
    tile_.step(kRows);
    const int64_t at = state(row_panel_);
    for (int64_t tile = 0; tile < tile_.tiles(); ++tile) {
      const __m512 limit =
          _mm512_add_ps(_mm512_loadu_ps(m_.reference + at + tile * 16), _mm512_set1_ps(kHeadroom));
      if (__builtin_expect(_mm512_cmp_ps_mask(tile_.top(tile), limit, _CMP_GT_OQ) == 0, 1)) continue;
      raise_references();
      tile_.begin(tile_.logits(), m_.reference + at, tile_.tiles() * 16, tile_.chunk());
      tile_.step(kRows);
      break;
    }
    for (int64_t tile = 0; tile < tile_.tiles(); ++tile) {
      add_to_state(tile, at + tile * 16);
      take_labels(tile);
    }
    tile_.clear();
  }

  SERVAL_INLINE void add_to_state(int64_t tile, int64_t at) {
    float* const most = m_.most + at;
    _mm512_storeu_ps(most, _mm512_max_ps(tile_.top(tile), _mm512_loadu_ps(most)));
    double* const total = m_.total + at;
    const __m512 sum = tile_.sum(tile);
    const __m256 low = _mm512_castps512_ps256(sum),
                 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
    _mm512_storeu_pd(total, _mm512_add_pd(_mm512_loadu_pd(total), _mm512_cvtps_pd(low)));
    _mm512_storeu_pd(total + 8, _mm512_add_pd(_mm512_loadu_pd(total + 8), _mm512_cvtps_pd(high)));
  }

  // Keeps the logits of labels in the tile, and leaves their exponentials out of the products.
  SERVAL_INLINE void take_labels(int64_t tile) {
    const __m512i place = _mm512_sub_epi32(_mm512_loadu_si512(m_.labels + row_panel_ * kRows + tile * 16),
                                           _mm512_set1_epi32(static_cast<int32_t>(vocab_panel_ * kPanel)));
    __mmask16 labelled = _mm512_cmplt_epu32_mask(place, _mm512_set1_epi32(kPanel));
    if (__builtin_expect(labelled == 0, 1)) return;
    uint16_t* const chunk = reinterpret_cast<uint16_t*>(tile_.chunk());
    alignas(64) int32_t places[16];
    _mm512_store_si512(places, place);
    for (; labelled != 0; labelled = static_cast<__mmask16>(labelled & (labelled - 1))) {
      const int64_t lane = __builtin_ctz(labelled), row = tile * 16 + lane;
      m_.label_logit[row_panel_ * kRows + row] = tile_.logits()[places[lane] * kRows + row];
      if (chunk != nullptr) chunk[row * kChunk + places[lane]] = 0;
    }
  }

  // Where the tile's logits are too large. What was computed with the old reference is scaled; it was below
  // e^-30 of what comes, so that rounding it twice does no harm.
  __attribute__((noinline)) void raise_references() {
    for (int64_t row = 0; row < tile_.tiles() * 16; ++row) {
      const int64_t at = state(row_panel_) + row;
      float top[16];
      _mm512_storeu_ps(top, tile_.top(row / 16));
      const float to = top[row % 16];
      if (!(to > m_.reference[at] + kHeadroom)) continue;
      const float factor = _mm512_cvtss_f32(exponential_of(_mm512_set1_ps(m_.reference[at] - to)));
      m_.reference[at] = to;
      m_.total[at] *= static_cast<double>(factor);
      if (t_.d_hidden == nullptr) continue;
      BFloat16* const e = reinterpret_cast<BFloat16*>(exponentials_at(row_panel_)) + row * kChunk;
      for (int64_t chunk = 0; chunk < vocab_panel_ - block0_; ++chunk)
        for (int64_t k = chunk * kRows * kChunk; k < chunk * kRows * kChunk + kChunk; ++k)
          e[k] = BFloat16(static_cast<float>(e[k]) * factor);
      if (first_block_) continue;
      float* const sums = products_at(row_panel_) + row * kPanel;
      for (int64_t d = 0; d < m_.width_chunks; ++d)
        for (int64_t k = 0; k < kPanel; ++k) sums[d * kTileFloats + k] *= factor;
    }
  }

  // The block's exponentials times its rows of the weight, for some chunks of the hidden size.
  void add_products(int64_t chunk0, int64_t chunk1) {
    const int64_t panel_bytes = (block1_ - block0_) * kChunkBytes;
    const int64_t length = smaller(block1_ * kPanel, t_.vocab_size) - block0_ * kPanel;
    pack_panels<false, true>(weight_row(block0_) + chunk0 * kPanel, t_.weight_stride,
                             t_.hidden_size - chunk0 * kPanel, length, 0, chunk1 - chunk0, 0,
                             block1_ - block0_, panel_bytes, packed_);
    const int64_t lines = ceil_div(kTileFloats / 16, block1_ - block0_);
    Products<Unit> products;
    for (int64_t i = range_.row_panel0; i < range_.row_panel1; ++i) {
      const int64_t rows = smaller(kRows, t_.rows - i * kRows);
      for (int64_t d = chunk0; d < chunk1; ++d) {
        // The next sums come nearer.
        const auto* next =
            reinterpret_cast<const char*>(d + 1 < chunk1 ? products_at(i) + (d + 1) * kTileFloats
                                                         : products_at(i + 1) + chunk0 * kTileFloats);
        products.add(rows, smaller(kPanel, t_.hidden_size - d * kPanel), exponentials_at(i),
                     packed_ + (d - chunk0) * panel_bytes, length, products_at(i) + d * kTileFloats,
                     first_block_, [&] {
                       for (int64_t line = 0; line < lines; ++line, next += 64)
                         _mm_prefetch(next, _MM_HINT_T0);
                     });
      }
    }
  }

  const uint16_t* weight_row(int64_t panel) const { return t_.weight + panel * kPanel * t_.weight_stride; }

  const HeadTiles& t_;
  const HeadTileMemory& m_;
  const HeadTileRange range_;
  const int64_t row_panels_;
  char* const packed_;
  const int64_t width_bytes_;
  int64_t segment_ = 0, block0_ = 0, block1_ = 0;  // the block: panels of the vocabulary
  bool first_block_ = true;
  TileExponentials tile_;  // waits for its exponentials, where it has logits
  int64_t row_panel_ = 0, vocab_panel_ = 0;
};

#ifdef SERVAL_ISA_amx
using UnitHere = TileUnitOf<TileInstructions>;
#else
using UnitHere = TileUnit;
#endif

}  // namespace

void head_pack_hidden(const HeadTiles& t, const HeadTileMemory& m, int64_t panel0, int64_t panel1) {
  for (int64_t panel = panel0; panel < panel1; ++panel) {
    const uint16_t* rows[kRows];
    for (int64_t l = 0; l < kRows; ++l) {
      const int64_t row = panel * kRows + l;
      rows[l] = row < t.rows ? t.hidden + t.label_rows[row] * t.hidden_stride : nullptr;
      m.labels[row] = row < t.rows ? t.labels[row] : -1;
    }
    for (int64_t chunk = 0; chunk < m.width_chunks; ++chunk) {
      const __mmask32 elements = lanes32(t.hidden_size - chunk * kChunk);
      for (int64_t tile = 0; tile < kRowTiles; ++tile) {
        __m512i x[16];
        for (int l = 0; l < 16; ++l) {
          const uint16_t* const row = rows[tile * 16 + l];
          x[l] = row != nullptr ? _mm512_maskz_loadu_epi16(elements, row + chunk * kChunk)
                                : _mm512_setzero_si512();
        }
        transpose16(x);
        Products<UnitHere>::store_hidden(x, tile,
                                         m.hidden + (panel * m.width_chunks + chunk) * kRowChunkBytes);
      }
    }
  }
}

void head_multiply(const HeadTiles& t, const HeadTileMemory& m, const HeadTileRange& range, char* packed) {
#ifdef SERVAL_ISA_amx
  if (amx_is_emulated()) return Part<TileUnitOf<EmulatedTiles>>(t, m, range, packed).run();
#endif
  Part<UnitHere>(t, m, range, packed).run();
}

// The segments of a row together, on the scale of its largest logit.
void head_finish(const HeadTiles& t, const HeadTileMemory& m, int64_t row0, int64_t row1) {
  const int64_t segment_rows = m.row_panels * kRows;
  for (int64_t row = row0; row < row1; ++row) {
    float most = kLowest;
    for (int64_t s = 0; s < m.segments; ++s) {
      const float x = m.most[s * segment_rows + row];
      most = x > most ? x : most;
    }
    double share[kMostHeadSegments], total = 0;
    for (int64_t s = 0; s < m.segments; ++s) {
      const int64_t at = s * segment_rows + row;
      share[s] = __builtin_exp(static_cast<double>(m.reference[at]) - static_cast<double>(most));
      total += share[s] * m.total[at];
    }
    const float label_logit = m.label_logit[row];
    const double below = static_cast<double>(most) - static_cast<double>(label_logit);
    t.nll[row] = below + __builtin_log(total);
    t.correct[row] = label_logit == most ? 1 : 0;
    if (t.d_hidden == nullptr) continue;
    const double weight = t.row_weights != nullptr
                              ? static_cast<double>(t.row_weights[row])
                              : -static_cast<double>(t.upstream[row * t.upstream_stride]);
    const __m512 at_label = _mm512_set1_ps(static_cast<float>(weight * (__builtin_exp(-below) / total - 1)));
    __m512 factor[kMostHeadSegments];
    for (int64_t s = 0; s < m.segments; ++s)
      factor[s] = _mm512_set1_ps(static_cast<float>(weight / total * share[s]));
    const uint16_t* const label_weight = t.weight + t.labels[row] * t.weight_stride;
    uint16_t* const out = t.d_hidden + t.label_rows[row] * t.d_hidden_stride;
    for (int64_t d = 0; d < t.hidden_size; d += 16) {
      const __mmask16 mask = lanes16(t.hidden_size - d);
      const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, label_weight + d));
      __m512 x = _mm512_mul_ps(at_label, (__m512)_mm512_slli_epi32(bits, 16));
      for (int64_t s = 0; s < m.segments; ++s) {
        const int64_t tile = (s * m.row_panels + row / kRows) * m.width_chunks + d / kPanel;
        const float* const sums = m.products + tile * kTileFloats + row % kRows * kPanel + d % kPanel;
        x = _mm512_fmadd_ps(factor[s], _mm512_maskz_loadu_ps(mask, sums), x);
      }
      _mm256_mask_storeu_epi16(out + d, mask, (__m256i)_mm512_cvtneps_pbh(x));
    }
  }
}

}  // namespace serval::SERVAL_ISA
