#include "gemm/onednn.h"

#include <fmt/core.h>
#include <omp.h>

#include <bit>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "gemm/scratch.h"

namespace serval {
namespace {

constexpr size_t kCachedPrimitives = 512;

dnnl::memory::data_type type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return dnnl::memory::data_type::f32;
    case DType::bf16:
      return dnnl::memory::data_type::bf16;
    default:
      return dnnl::memory::data_type::undef;
  }
}

dnnl::memory::desc matrix(int64_t rows, int64_t columns, DType dtype, int64_t stride, bool transposed) {
  const dnnl::memory::dims strides =
      transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
  return dnnl::memory::desc({rows, columns}, type_of(dtype), strides);
}

struct Product {
  dnnl::matmul primitive;  // empty where oneDNN has nothing better than its reference loops
  dnnl::memory::desc a, b, c, bias, scratch;
  bool bias_after_scale = false;
  std::string implementation;
};

const dnnl::engine& engine() {
  static const dnnl::engine cpu = [] {
    dnnl::set_primitive_cache_capacity(0);  // ours is the cache
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return cpu;
}

dnnl::matmul::primitive_desc describe(const Product& product, const GemmArgs& args,
                                      const dnnl::primitive_attr& attributes) {
  const bool plain_bias = args.bias != nullptr && !product.bias_after_scale;
#if DNNL_VERSION_MAJOR >= 3
  if (plain_bias)
    return {engine(), product.a, product.b, product.bias, product.c, attributes, /*allow_empty=*/true};
  return {engine(), product.a, product.b, product.c, attributes, /*allow_empty=*/true};
#else
  const auto desc = plain_bias ? dnnl::matmul::desc(product.a, product.b, product.bias, product.c)
                               : dnnl::matmul::desc(product.a, product.b, product.c);
  return {desc, attributes, engine(), /*allow_empty=*/true};
#endif
}

std::shared_ptr<const Product> make_product(const GemmArgs& args) {
  auto product = std::make_shared<Product>();
  product->a = matrix(args.m, args.k, args.a_dtype, args.a_stride, args.a_transposed);
  product->b = matrix(args.k, args.n, args.b_dtype, args.b_stride, args.b_transposed);
  product->c = matrix(args.m, args.n, args.c_dtype, args.c_stride, false);
  if (args.bias != nullptr) product->bias = matrix(1, args.n, args.bias_dtype, args.n, false);
  product->bias_after_scale = args.bias != nullptr && args.alpha != 1;  // else oneDNN would scale the bias

  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
  // A constant factor without a run-time argument.
  if (args.alpha != 1)
    after.append_eltwise(dnnl::algorithm::eltwise_linear, static_cast<float>(args.alpha), 0.0f);
#else
  if (args.alpha != 1) attributes.set_output_scales(0, {static_cast<float>(args.alpha)});
#endif
  if (args.accumulate) after.append_sum(1.0f);
  if (product->bias_after_scale) after.append_binary(dnnl::algorithm::binary_add, product->bias);
  attributes.set_post_ops(after);

  const dnnl::matmul::primitive_desc description = describe(*product, args, attributes);
  if (!description) return product;
  const std::string implementation = description.impl_info_str();
  if (implementation.rfind("ref", 0) == 0) return product;
  product->scratch = description.scratchpad_desc();
  product->primitive = dnnl::matmul(description);
  product->implementation = implementation;
  return product;
}

using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, uint32_t, uint32_t, int>;

Key key_of(const GemmArgs& args, int threads) {
  const bool has_bias = args.bias != nullptr;
  uint32_t kinds = 0;
  for (DType dtype : {args.a_dtype, args.b_dtype, args.c_dtype, has_bias ? args.bias_dtype : DType::f32})
    kinds = kinds * 16 + static_cast<uint32_t>(dtype);
  for (bool flag : {args.a_transposed, args.b_transposed, args.accumulate, has_bias})
    kinds = kinds * 2 + (flag ? 1 : 0);
  return {args.m,        args.n,        args.k, args.a_stride,
          args.b_stride, args.c_stride, kinds,  std::bit_cast<uint32_t>(static_cast<float>(args.alpha)),
          threads};
}

class Cache {
 public:
  std::shared_ptr<const Product> get(const GemmArgs& args, int threads) {
    const Key key = key_of(args, threads);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
    recent_.emplace_front(key, make_product(args));
    index_[key] = recent_.begin();
    if (recent_.size() > kCachedPrimitives) {
      index_.erase(recent_.back().first);
      recent_.pop_back();
    }
    return recent_.front().second;
  }

 private:
  using Entry = std::pair<Key, std::shared_ptr<const Product>>;
  std::mutex mutex_;
  std::list<Entry> recent_;  // newest first
  std::map<Key, std::list<Entry>::iterator> index_;
};

// The count is a property of the calling thread, and primitives are made for one count.
int use_threads() {
  if (in_parallel()) return 1;
  const int threads = num_threads();
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
  return threads;
}

std::shared_ptr<const Product> product_of(const GemmArgs& args) {
  static Cache cache;
  return cache.get(args, use_threads());
}

// A product with the memory objects of its operands, which only need their addresses for the next call.
// Making them takes as long as a small product.
struct Call {
  std::shared_ptr<const Product> product;
  std::unordered_map<int, dnnl::memory> operands;
  dnnl::memory a, b, c, bias, scratch;  // the same objects
};

Call make_call(const GemmArgs& args) {
  Call call;
  call.product = product_of(args);
  const Product& product = *call.product;
  if (!product.primitive) return call;
  const auto operand = [&](int name, const dnnl::memory::desc& desc) {
    const dnnl::memory memory(desc, engine(), DNNL_MEMORY_NONE);
    call.operands.emplace(name, memory);
    return memory;
  };
  call.a = operand(DNNL_ARG_SRC, product.a);
  call.b = operand(DNNL_ARG_WEIGHTS, product.b);
  call.c = operand(DNNL_ARG_DST, product.c);
  if (args.bias != nullptr) {
    const int position = args.accumulate ? 1 : 0;
    call.bias = operand(
        product.bias_after_scale ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1 : DNNL_ARG_BIAS,
        product.bias);
  }
  if (product.scratch.get_size() > 0) call.scratch = operand(DNNL_ARG_SCRATCHPAD, product.scratch);
  return call;
}

// The calling thread's calls; there are few different ones in a program.
Call& call_of(const GemmArgs& args) {
  constexpr size_t kKeptCalls = 256;
  static thread_local std::map<Key, Call> calls;
  const Key key = key_of(args, use_threads());
  if (const auto found = calls.find(key); found != calls.end()) return found->second;
  if (calls.size() == kKeptCalls) calls.clear();
  return calls.emplace(key, make_call(args)).first->second;
}

}  // namespace

bool gemm_onednn(const GemmArgs& args) {
  static thread_local Scratch scratch;
  static thread_local dnnl::stream stream(engine());
  try {
    Call& call = call_of(args);
    if (!call.product->primitive) return false;
    call.a.set_data_handle(const_cast<void*>(args.a));
    call.b.set_data_handle(const_cast<void*>(args.b));
    call.c.set_data_handle(args.c);
    if (call.bias) call.bias.set_data_handle(const_cast<void*>(args.bias));
    if (call.scratch)
      call.scratch.set_data_handle(scratch.at_least(static_cast<int64_t>(call.product->scratch.get_size())));
    call.product->primitive.execute(stream, call.operands);
    stream.wait();
    return true;
  } catch (const dnnl::error& error) {
    fail("oneDNN failed in a {}x{}x{} product: {} (status {})", args.m, args.n, args.k, error.what(),
         static_cast<int>(error.status));
  }
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

std::string onednn_implementation(const GemmArgs& args) {
  return product_of(args)->implementation;
}

}  // namespace serval
