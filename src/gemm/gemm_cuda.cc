#include "gemm/gemm_cuda.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>
#include <tuple>
#include <vector>

#include "base/dynamic_library.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "gemm/gemm_plain_cuda.h"
#include "gemm/gemv_cuda.h"
#include "tensor/device.h"
#include "tensor/gpu.h"

namespace serval {
namespace {

#define SERVAL_FOR_EACH_FUNCTION(X) \
  X(Create)                         \
  X(GetVersion)                     \
  X(Matmul)                         \
  X(MatmulDescCreate)               \
  X(MatmulDescSetAttribute)         \
  X(MatrixLayoutCreate)             \
  X(MatmulPreferenceCreate)         \
  X(MatmulPreferenceSetAttribute)   \
  X(MatmulPreferenceDestroy)        \
  X(MatmulAlgoGetHeuristic)

// The functions of cuBLASLt that are used, found once.
struct Library {
#define SERVAL_DECLARE(name) decltype(&cublasLt##name) name = nullptr;
  SERVAL_FOR_EACH_FUNCTION(SERVAL_DECLARE)
#undef SERVAL_DECLARE

  Library() {
    void* library = open_library("libcublasLt.so.13", "nvidia-cublas");
#define SERVAL_FIND(name) name = reinterpret_cast<decltype(name)>(library_symbol(library, "cublasLt" #name));
    SERVAL_FOR_EACH_FUNCTION(SERVAL_FIND)
#undef SERVAL_FIND
  }
};
#undef SERVAL_FOR_EACH_FUNCTION

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw DeviceError(fmt::format(
      "cuBLASLt: {} failed with status {}; CUDA_VISIBLE_DEVICES and the driver's version may be the cause",
      call, static_cast<int>(status)));
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The largest power of two up to 16 that divides an address.
int64_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  int64_t bytes = 16;
  while (address % static_cast<uintptr_t>(bytes) != 0) bytes /= 2;
  return bytes;
}

// Everything that decides which algorithms can compute a product.
struct Key {
  int64_t m = 0, n = 0, k = 0, a_stride = 0, b_stride = 0, c_stride = 0;
  int64_t a_align = 0, b_align = 0, c_align = 0;
  int32_t ab_type = 0, c_type = 0, a_transposed = 0, b_transposed = 0, accumulate = 0, bias = 0;
  auto fields() const {
    return std::tie(m, n, k, a_stride, b_stride, c_stride, a_align, b_align, c_align, ab_type, c_type,
                    a_transposed, b_transposed, accumulate, bias);
  }
  bool operator<(const Key& other) const { return fields() < other.fields(); }
};

struct Product {
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool none = false;  // the library has no algorithm: the plain kernel computes it
  bool tuned = false;
};

class Products {
 public:
  Products() {
    check(lt_.Create(&handle_), "cublasLtCreate");
    SERVAL_CUDA(cudaMalloc(&workspace_, static_cast<size_t>(kGemmCudaWorkspaceBytes)));
  }

  void run(const GemmArgs& args, cudaStream_t stream) {
    const Key key = key_of(args);
    auto it = products_.find(key);
    if (it == products_.end()) it = products_.emplace(key, prepare(key)).first;
    Product& product = it->second;
    if (product.none) {
      gemm_plain_cuda(args, stream);
      return;
    }
    if (args.bias != nullptr)
      check(lt_.MatmulDescSetAttribute(product.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args.bias,
                                       sizeof args.bias),
            "setting the bias");
    if (tuning && !product.tuned) tune(key, product, args, stream);
    check(start(product, product.algorithm, args, stream), "cublasLtMatmul");
  }

  std::string table() const {
    std::ostringstream out;
    out << "cublasLt " << lt_.GetVersion() << '\n';
    for (const auto& [key, product] : products_) {
      if (!product.tuned) continue;
      std::apply([&](const auto&... field) { ((out << field << ' '), ...); }, key.fields());
      for (const uint64_t word : product.algorithm.data) out << std::hex << word << ' ' << std::dec;
      out << '\n';
    }
    return out.str();
  }

  void load(const std::string& text) {
    std::istringstream in(text);
    std::string name;
    size_t version = 0;
    in >> name >> version;
    if (name != "cublasLt" || version != lt_.GetVersion()) {
      log_info("the saved table of product algorithms is of cuBLASLt {}, this is {}: measuring again",
               version, lt_.GetVersion());
      return;
    }
    for (Key key;;) {
      std::apply([&](auto&... field) { ((in >> field), ...); }, mutable_fields(key));
      cublasLtMatmulAlgo_t algorithm{};
      for (uint64_t& word : algorithm.data) in >> std::hex >> word >> std::dec;
      if (!in) break;
      Product product = prepare(key);
      product.algorithm = algorithm;
      product.tuned = true;
      products_.insert_or_assign(key, product);
    }
  }

  bool tuning = false;

 private:
  static std::tuple<int64_t&, int64_t&, int64_t&, int64_t&, int64_t&, int64_t&, int64_t&, int64_t&, int64_t&,
                    int32_t&, int32_t&, int32_t&, int32_t&, int32_t&, int32_t&>
  mutable_fields(Key& k) {
    return std::tie(k.m, k.n, k.k, k.a_stride, k.b_stride, k.c_stride, k.a_align, k.b_align, k.c_align,
                    k.ab_type, k.c_type, k.a_transposed, k.b_transposed, k.accumulate, k.bias);
  }

  static Key key_of(const GemmArgs& args) {
    Key key{.m = args.m, .n = args.n, .k = args.k};
    key.a_stride = args.a_stride, key.b_stride = args.b_stride, key.c_stride = args.c_stride;
    key.a_align = alignment(args.a), key.b_align = alignment(args.b), key.c_align = alignment(args.c);
    key.ab_type = type_of(args.a_dtype), key.c_type = type_of(args.c_dtype);
    key.a_transposed = args.a_transposed, key.b_transposed = args.b_transposed;
    key.accumulate = args.accumulate, key.bias = args.bias != nullptr;
    return key;
  }

  // The library's matrices are column-major: it computes C^T [n, m] = op(B)^T op(A)^T, so its first operand
  // is our B.
  Product prepare(const Key& key) {
    Product p;
    const auto ab = static_cast<cudaDataType_t>(key.ab_type), c = static_cast<cudaDataType_t>(key.c_type);
    check(lt_.MatmulDescCreate(&p.description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const cublasOperation_t first = key.b_transposed != 0 ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = key.a_transposed != 0 ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(p.description, CUBLASLT_MATMUL_DESC_TRANSA, first);
    set(p.description, CUBLASLT_MATMUL_DESC_TRANSB, second);
    if (key.bias != 0) {
      set(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(p.description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, ab);
    }
    const auto layout = [&](cublasLtMatrixLayout_t& target, cudaDataType_t type, int64_t rows,
                            int64_t columns, int64_t stride) {
      check(lt_.MatrixLayoutCreate(&target, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                                   stride),
            "cublasLtMatrixLayoutCreate");
    };
    if (key.b_transposed != 0)
      layout(p.a, ab, key.k, key.n, key.b_stride);
    else
      layout(p.a, ab, key.n, key.k, key.b_stride);
    if (key.a_transposed != 0)
      layout(p.b, ab, key.m, key.k, key.a_stride);
    else
      layout(p.b, ab, key.k, key.m, key.a_stride);
    layout(p.c, c, key.n, key.m, key.c_stride);
    const auto found = proposals(key, p, 1);
    if (found.empty())
      p.none = true;
    else
      p.algorithm = found[0].algo;
    return p;
  }

  template <class T>
  void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(lt_.MatmulDescSetAttribute(description, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }

  std::vector<cublasLtMatmulHeuristicResult_t> proposals(const Key& key, const Product& p, int most) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(lt_.MatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(lt_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<size_t>(kGemmCudaWorkspaceBytes));
    // Sums over parts of k that are added in place come in no fixed order.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                                 CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(key.b_align));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(key.a_align));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(key.c_align));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(key.c_align));
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
    int count = 0;
    const cublasStatus_t status = lt_.MatmulAlgoGetHeuristic(handle_, p.description, p.a, p.b, p.c, p.c,
                                                             preference, most, results.data(), &count);
    lt_.MatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS) count = 0;
    results.resize(static_cast<size_t>(count));
    std::erase_if(results, [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
    return results;
  }

  cublasStatus_t start(const Product& p, const cublasLtMatmulAlgo_t& algorithm, const GemmArgs& args,
                       cudaStream_t stream) {
    const float alpha = static_cast<float>(args.alpha), beta = args.accumulate ? 1.0f : 0.0f;
    return lt_.Matmul(handle_, p.description, &alpha, args.b, p.a, args.a, p.b, &beta, args.c, p.c, args.c,
                      p.c, &algorithm, workspace_, static_cast<size_t>(kGemmCudaWorkspaceBytes), stream);
  }

  // Times what the library proposes: once each, then the quickest few again, for their differences are small.
  void tune(const Key& key, Product& p, const GemmArgs& args, cudaStream_t stream) {
    constexpr int kProposals = 20, kRounds = 3, kRepeats = 3;
    constexpr size_t kFinalists = 4;
    cudaEvent_t begin = nullptr, end = nullptr;
    SERVAL_CUDA(cudaEventCreate(&begin));
    SERVAL_CUDA(cudaEventCreate(&end));
    const auto time = [&](const cublasLtMatmulAlgo_t& algorithm, int repeats) {
      float milliseconds = 0;
      SERVAL_CUDA(cudaEventRecord(begin, stream));
      for (int i = 0; i < repeats; ++i)
        if (start(p, algorithm, args, stream) != CUBLAS_STATUS_SUCCESS) return 1e30f;
      SERVAL_CUDA(cudaEventRecord(end, stream));
      SERVAL_CUDA(cudaEventSynchronize(end));
      SERVAL_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
      return milliseconds / static_cast<float>(repeats);
    };
    std::vector<std::pair<float, cublasLtMatmulAlgo_t>> timed;
    for (const auto& proposal : proposals(key, p, kProposals)) {
      time(proposal.algo, 1);  // loads its code
      timed.emplace_back(time(proposal.algo, 1), proposal.algo);
    }
    std::stable_sort(timed.begin(), timed.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    timed.resize(std::min(timed.size(), kFinalists));
    for (auto& entry : timed) entry.first = 1e30f;
    for (int round = 0; round < kRounds; ++round)
      for (auto& [best, algorithm] : timed) best = std::min(best, time(algorithm, kRepeats));
    float best = 1e30f;
    for (const auto& [spent, algorithm] : timed) {
      if (spent >= best) continue;
      best = spent;
      p.algorithm = algorithm;
    }
    p.tuned = true;
    SERVAL_CUDA(cudaEventDestroy(begin));
    SERVAL_CUDA(cudaEventDestroy(end));
  }

  Library lt_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, Product> products_;
};

// One for the process: it runs on one device. It lives until the process ends, after the driver's own
// clean-up.
Products& products() {
  static Products* const all = new Products;
  return *all;
}

}  // namespace

void gemm_cuda(const GemmArgs& args, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.m == 0 || args.n == 0) return;
  SERVAL_CHECK(args.a_dtype == args.b_dtype && args.a_dtype != DType::f64, "a product of {} and {} on a GPU",
               name_of(args.a_dtype), name_of(args.b_dtype));
  SERVAL_CHECK((args.bias == nullptr || args.bias_dtype == args.a_dtype) && args.terms.empty());
  if (args.k == 0) {
    gemm_plain_cuda(args, stream);
    return;
  }
  if (gemv_cuda_takes(args))
    gemv_cuda(args, stream);
  else
    products().run(args, stream);
}

void set_product_tuning(DeviceKind device, bool on) {
  if (device == DeviceKind::cuda) products().tuning = on;
}

std::string product_table(DeviceKind device) {
  return device == DeviceKind::cuda ? products().table() : "";
}

void load_product_table(DeviceKind device, const std::string& text) {
  if (device == DeviceKind::cuda) products().load(text);
}

}  // namespace serval
