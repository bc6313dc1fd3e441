#include "ops/attention/attention_cudnn.h"

#include <cudnn_frontend.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/dynamic_library.h"
#include "base/text.h"
#include "ops/attention/attention_index.h"
#include "tensor/device.h"
#include "tensor/gpu.h"

// The frontend looks cuDNN's functions up in this library.
namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace serval {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;

// The tensors of a call; the forward has the first five.
enum Slot { kQ, kK, kV, kO, kLse, kDo, kDq, kDk, kDv, kNumSlots };
static_assert(kNumSlots == kAttentionBackwardTensors && kLse + 1 == kAttentionForwardTensors &&
              static_cast<int>(kNumSlots) <= AttentionIndex::kMaxTensors);

// The ids by which the graph knows its tensors: of a slot, of the slot's offsets, and of the lengths.
constexpr int64_t kSlotUid = 1, kOffsetsUid = 100, kQueryLengthsUid = 200, kKeyLengthsUid = 201;

// The attribute is 0 where nobody knows.
int64_t longest_document(int64_t attribute, int64_t rows) {
  return std::max<int64_t>(1, attribute > 0 ? std::min(attribute, rows) : rows);
}

struct Call {
  bool backward = false, deterministic = false, has_lse = true;
  int device = 0, architecture = 0;  // 90: sm_90
  AttentionCudnnShape shape;
  int64_t longest = 0, window = 0;  // 0: no window
  float scale = 1;
  std::array<void*, kNumSlots> data{};
  std::array<int64_t, kNumSlots> strides{};

  int num_slots() const { return backward ? kNumSlots : kLse + 1; }
  int64_t heads(int slot) const {
    return slot == kK || slot == kV || slot == kDk || slot == kDv ? shape.kv_heads : shape.heads;
  }
  int64_t head_size(int slot) const { return slot == kLse ? 1 : shape.head_dim; }
  // All that a plan depends on.
  std::vector<int64_t> key() const {
    std::vector<int64_t> key = {
        backward,       deterministic,  has_lse,         device,  shape.rows, shape.heads,
        shape.kv_heads, shape.head_dim, shape.documents, longest, window,     std::bit_cast<int32_t>(scale)};
    key.insert(key.end(), strides.begin(), strides.end());
    return key;
  }
};

struct Library {
  std::string missing;  // why it cannot be used
  size_t version = 0;   // 91900: 9.19.0
  std::string version_text;
};

const Library& library() {
  static const Library opened = [] {
    Library result;
    // The frontend takes the first CUDA runtime that it finds, of version 12 rather than 13, unless it is
    // told. Its deterministic backward on sm_90 keeps the whole square of scores unless it is given no room
    // for it.
    ::setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", "libcudart.so.13", 0);
    ::setenv("CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT", "0", 0);
    // Opened here, they are found again by name, wherever they are.
    try {
      open_library("libnvrtc.so.13", "nvidia-cuda-nvrtc");
    } catch (const UserError&) {
      // Only some of cuDNN's kernels are compiled at run time; it says so itself.
    }
    try {
      open_library("libcudart.so.13", "nvidia-cuda-runtime");
      fe::cudnn_dlhandle = open_library("libcudnn.so.9", "nvidia-cudnn-cu13");
      result.version = fe::detail::get_backend_version();
      result.version_text =
          fmt::format("{}.{}.{}", result.version / 10000, result.version / 100 % 100, result.version % 100);
    } catch (const std::exception& error) {
      result.missing = error.what();
    }
    return result;
  }();
  return opened;
}

struct KnownBug {
  const char* reason;
  bool (*applies)(const Call& call, size_t version);
};

int generation(const Call& call) {
  return call.architecture / 10;  // 8: Ampere and Ada, 9: Hopper, 10: Blackwell, 12: its small brothers
}

// Versions and architectures that are known to fail. Not listed, for no call of ours can meet them: a query
// length of 1 (NaN in dK and dV up to 9.26; one without a padding mask), a CUDA graph replayed without a
// padding mask over keys that are no multiple of 128 (up to 9.15.0), keys of 64 (mod 128) without a causal
// mask where all scores are below -88 (NaN in dQ before 9.26), d_qk != d_v (9.11, 9.12), sinks, FP8, and
// decoding with one query under a causal mask. For these the lengths that cuDNN is told are multiples of 128
// and a padding mask is always there.
constexpr KnownBug kKnownBugs[] = {
    // Grouped heads over packed documents, windows over them and bounded scratch memory came with 9.6; 9.4
    // fails on empty documents.
    {"it is older than 9.6", [](const Call&, size_t version) { return version < 90600; }},
    // Wrong results; the frontend refuses the two as well.
    {"9.10.0 and 9.10.1 compute attention wrongly",
     [](const Call&, size_t version) { return version == 91000 || version == 91001; }},
    // Wrong over more than 1024 keys; reported without a causal mask, not trusted with one.
    {"9.14.0 computes windows wrongly",
     [](const Call& call, size_t version) {
       return version == 91400 && call.window > 0 && call.longest > 1024;
     }},
    // NaN or huge gradients where rows lie between documents: it reads workspace that nobody wrote. Ours have
    // none between, but rows past the last one.
    {"before 9.18 its backward over documents reads unwritten memory on this GPU",
     [](const Call& call, size_t version) {
       return call.backward && generation(call) == 9 && version < 91800;
     }},
    // sm_8x and sm_12x: packed documents since 9.18.1 ...
    {"before 9.18.1 it takes no packed documents on this GPU",
     [](const Call& call, size_t version) {
       return (generation(call) == 8 || generation(call) == 12) && version < 91801;
     }},
    // ... but its backward wants the lse padded, and has given wrong gradients on sm_120.
    {"its backward takes no packed documents on this GPU",
     [](const Call& call, size_t) {
       return call.backward && (generation(call) == 8 || generation(call) == 12);
     }},
    // Blackwell: 256 since 9.23, over documents since 9.25.
    {"before 9.25 its backward takes heads up to 128 on this GPU",
     [](const Call& call, size_t version) {
       return call.backward && generation(call) == 10 && call.shape.head_dim > 128 && version < 92500;
     }},
    // Hopper: before 9.25 the square of the longest document, for each document.
    {"before 9.25 its deterministic backward needs memory for all scores",
     [](const Call& call, size_t version) {
       return call.backward && call.deterministic && generation(call) == 9 && version < 92500;
     }},
    {"before 9.18 it has no deterministic backward on this GPU",
     [](const Call& call, size_t version) {
       return call.backward && call.deterministic && generation(call) == 10 && version < 91800;
     }},
};

// Describes a tensor [documents, heads, longest, head] whose rows lie side by side, document after document.
class GraphBuilder {
 public:
  explicit GraphBuilder(const Call& call) : call_(call), graph_(std::make_shared<fe::graph::Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    query_lengths_ = column(kQueryLengthsUid, call.shape.documents, fe::DataType_t::INT32);
    key_lengths_ = column(kKeyLengthsUid, call.shape.documents, fe::DataType_t::INT32);
  }

  // Masks count queries and keys from the first token of a document or from its last one. They are as many,
  // so both give the same mask, but not every version takes windows with both.
  std::shared_ptr<fe::graph::Graph> build(fe::DiagonalAlignment_t alignment) {
    if (call_.backward)
      add_backward(alignment);
    else
      add_forward(alignment);
    return graph_;
  }

 private:
  std::shared_ptr<Tensor_attributes> column(int64_t uid, int64_t rows, fe::DataType_t type) {
    return graph_->tensor(Tensor_attributes()
                              .set_uid(uid)
                              .set_dim({rows, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(type));
  }
  void describe(Tensor_attributes& tensor, int slot) {
    const int64_t stride = call_.strides[static_cast<size_t>(slot)], size = call_.head_size(slot);
    tensor.set_uid(kSlotUid + slot)
        .set_dim({call_.shape.documents, call_.heads(slot), call_.longest, size})
        .set_stride({call_.longest * stride, size, stride, 1})
        .set_ragged_offset(column(kOffsetsUid + slot, call_.shape.documents + 1, fe::DataType_t::INT64))
        .set_data_type(slot == kLse ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16);
  }
  std::shared_ptr<Tensor_attributes> input(int slot) {
    Tensor_attributes tensor;
    describe(tensor, slot);
    return graph_->tensor(tensor);
  }
  void output(const std::shared_ptr<Tensor_attributes>& tensor, int slot) {
    describe(*tensor, slot);
    tensor->set_output(true);
  }
  template <class Options>
  void set_masks(Options& options, fe::DiagonalAlignment_t alignment) {
    options.set_attn_scale(call_.scale)
        .set_padding_mask(true)
        .set_seq_len_q(query_lengths_)
        .set_seq_len_kv(key_lengths_)
        .set_diagonal_alignment(alignment)
        .set_diagonal_band_right_bound(0);
    if (call_.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(call_.window));
  }

  void add_forward(fe::DiagonalAlignment_t alignment) {
    auto options = fe::graph::SDPA_attributes();
    options.set_name("attention").set_generate_stats(call_.has_lse);
    set_masks(options, alignment);
    const auto [o, lse] = graph_->sdpa(input(kQ), input(kK), input(kV), options);
    output(o, kO);
    if (call_.has_lse) output(lse, kLse);
  }
  void add_backward(fe::DiagonalAlignment_t alignment) {
    const int64_t tokens =
        (call_.shape.rows + kAttentionCudnnTile - 1) / kAttentionCudnnTile * kAttentionCudnnTile;
    auto options = fe::graph::SDPA_backward_attributes();
    options.set_name("attention_backward")
        .set_max_total_seq_len_q(tokens)
        .set_max_total_seq_len_kv(tokens)
        .set_deterministic_algorithm(call_.deterministic);
    set_masks(options, alignment);
    const auto [dq, dk, dv] =
        graph_->sdpa_backward(input(kQ), input(kK), input(kV), input(kO), input(kDo), input(kLse), options);
    output(dq, kDq);
    output(dk, kDk);
    output(dv, kDv);
  }

  const Call& call_;
  std::shared_ptr<fe::graph::Graph> graph_;
  std::shared_ptr<Tensor_attributes> query_lengths_, key_lengths_;
};

struct Plan {
  std::shared_ptr<fe::graph::Graph> graph;
  std::string refusal;  // where there is none
};

struct Handle {
  cudnnHandle_t handle = nullptr;
  cudaStream_t stream = nullptr;
  std::string refusal;  // where it could not be opened
};

// Handles and plans live as long as the process: at its end the CUDA runtime may be gone before them.
struct Plans {
  std::mutex mutex;
  std::map<int, Handle> handles;  // by device
  std::map<std::vector<int64_t>, Plan> plans;
};
Plans& plans() {
  static Plans& all = *new Plans;
  return all;
}

Plan refuse(const std::string& reason) {
  return {nullptr, fmt::format("cuDNN {}: {}", library().version_text, reason.substr(0, reason.find('\n')))};
}

Plan build_plan(const Call& call, cudnnHandle_t handle, fe::DiagonalAlignment_t alignment) {
  try {
    const std::shared_ptr<fe::graph::Graph> graph = GraphBuilder(call).build(alignment);
    fe::error_t status = graph->validate();
    if (status.is_good()) status = graph->build_operation_graph(handle);
    if (status.is_good()) status = graph->create_execution_plans({fe::HeurMode_t::A});
    if (status.is_good()) status = graph->check_support();
    if (status.is_good()) status = graph->build_plans();
    int64_t bytes = 0;
    if (status.is_good()) status = graph->get_workspace_size(bytes);
    if (!status.is_good()) return refuse(status.get_message());
    const int64_t given = attention_cudnn_scratch(call.shape, call.backward).library_bytes;
    if (bytes > given)
      return refuse(fmt::format("it asks for {} of scratch memory where {} are planned", human_bytes(bytes),
                                human_bytes(given)));
    return {graph, ""};
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}

Plan choose_plan(const Call& call, cudnnHandle_t handle) {
  for (const KnownBug& bug : kKnownBugs)
    if (bug.applies(call, library().version)) return refuse(bug.reason);
  Plan plan = build_plan(call, handle, fe::DiagonalAlignment_t::TOP_LEFT);
  if (plan.graph == nullptr && call.window > 0) {
    Plan other = build_plan(call, handle, fe::DiagonalAlignment_t::BOTTOM_RIGHT);
    if (other.graph != nullptr) return other;
  }
  return plan;
}

[[noreturn]] void throw_failed(const char* function, const std::string& message) {
  throw DeviceError(
      fmt::format("cuDNN {}: {}: {}; CUDNN_LOGLEVEL_DBG=2 makes it say more, another version of "
                  "nvidia-cudnn-cu13 may help",
                  library().version_text, function, message));
}

void open_handle(Handle& entry) {
  if (const cudnnStatus_t status = fe::detail::create_handle(&entry.handle); status != CUDNN_STATUS_SUCCESS) {
    entry.handle = nullptr;
    entry.refusal = fmt::format("cuDNN {}: cudnnCreate: {}", library().version_text,
                                fe::detail::get_error_string(status));
  }
}

void use_stream(Handle& entry, cudaStream_t stream) {
  // Not again for the same stream: while it is captured, this call might wait for other streams.
  if (entry.stream == stream) return;
  if (const cudnnStatus_t status = fe::detail::set_stream(entry.handle, stream);
      status != CUDNN_STATUS_SUCCESS)
    throw_failed("cudnnSetStream", fe::detail::get_error_string(status));
  entry.stream = stream;
}

bool readable(const Operand& x) {
  return x.dtype == DType::bf16 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row_stride % 8 == 0;
}

Call make_call(const KernelContext& c, bool backward) {
  const Operand& q = c.input(backward ? 1 : 0);
  const Operand& cu_seqlens = c.input(backward ? 6 : 3);
  const Attributes& attributes = *c.attributes;
  Call call;
  call.backward = backward;
  call.deterministic = backward && attributes.integer_or("deterministic", 0) != 0;
  call.shape = {.dtype = q.dtype,
                .rows = q.rows,
                .heads = attributes.integer("heads"),
                .kv_heads = attributes.integer("kv_heads"),
                .head_dim = attributes.integer("head_dim"),
                .documents = cu_seqlens.rows - 1};
  const int64_t longest = longest_document(attributes.integer_or("max_length", 0), q.rows);
  call.longest = (longest + kAttentionCudnnTile - 1) / kAttentionCudnnTile * kAttentionCudnnTile;
  const int64_t window = attributes.integer("window");
  call.window = window < longest ? window : 0;
  call.scale = static_cast<float>(attributes.number("scale"));
  return call;
}

void place(Call& call, int slot, void* data, int64_t stride) {
  call.data[static_cast<size_t>(slot)] = data;
  call.strides[static_cast<size_t>(slot)] = stride;
}
void place(Call& call, int slot, const Operand& x) {
  place(call, slot, x.data, x.row_stride);
}

char* aligned_workspace(const KernelContext& c) {
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(c.workspace) + 255) / 256 * 256);
}

std::string why_not(const KernelContext& c, const Call& call) {
  if (c.attributes->integer_or("own", 0) != 0) return "attn_implementation: own";
  const int num_tensors = call.backward ? 5 : 3;  // without lse and cu_seqlens
  if (!attention_cudnn_takes(call.shape, call.backward))
    return fmt::format("cuDNN takes bf16 and heads of a multiple of {} up to 256", call.backward ? 16 : 8);
  for (int i = 0; i < num_tensors; ++i)
    if (!readable(c.inputs[i])) return "cuDNN takes bf16 rows that begin at multiples of 16 bytes";
  for (int i = 0; i < c.num_outputs; ++i) {
    const bool is_lse = !call.backward && i == 1;
    if (!is_lse && c.output(i) && !readable(c.output(i)))
      return "cuDNN takes bf16 rows that begin at multiples of 16 bytes";
  }
  const Operand& lse = call.backward ? c.input(5) : c.output(1);
  if (lse && (lse.dtype != DType::f32 || lse.row_stride != call.shape.heads))
    return "cuDNN takes an lse without gaps";
  if (call.backward && c.input(0).row_stride != c.input(4).row_stride)
    return "cuDNN takes equal row strides of o and its gradient";
  if (c.workspace == nullptr) return "no scratch memory is planned for cuDNN";
  return library().missing;
}

// With the lengths and offsets of this run's documents.
void execute(const Call& call, const Plan& plan, cudnnHandle_t handle, const AttentionDocuments& documents,
             const AttentionCudnnScratch& scratch, char* workspace, void* stream) {
  AttentionIndex index{.of = documents,
                       .num_tensors = call.num_slots(),
                       .pitch = scratch.offset_pitch,
                       .lengths = reinterpret_cast<int32_t*>(workspace + scratch.lengths),
                       .offsets = reinterpret_cast<int64_t*>(workspace + scratch.offsets)};
  std::unordered_map<int64_t, void*> pointers = {{kQueryLengthsUid, index.lengths},
                                                 {kKeyLengthsUid, index.lengths}};
  for (int slot = 0; slot < call.num_slots(); ++slot) {
    index.row_strides[slot] = call.strides[static_cast<size_t>(slot)];
    if (slot == kLse && !call.has_lse) continue;
    pointers[kSlotUid + slot] = call.data[static_cast<size_t>(slot)];
    pointers[kOffsetsUid + slot] = index.offsets + slot * index.pitch;
  }
  attention_index_cuda(index, stream);
  try {
    fe::error_t status = plan.graph->execute(handle, pointers, workspace + scratch.library);
    if (status.is_good()) return;
    throw_failed(call.backward ? "attention backward" : "attention forward", status.get_message());
  } catch (const DeviceError&) {
    throw;
  } catch (const std::exception& error) {
    throw_failed(call.backward ? "attention backward" : "attention forward", error.what());
  }
}

// "" and queued, or why not.
std::string run(const KernelContext& c, Call& call, AttentionFinish& finish,
                const AttentionCudnnScratch& scratch, void* stream) {
  SERVAL_CUDA(cudaGetDevice(&call.device));
  int major = 0, minor = 0;
  SERVAL_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, call.device));
  SERVAL_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, call.device));
  call.architecture = major * 10 + minor;

  Plans& all = plans();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const std::vector<int64_t> key = call.key();
  auto entry = all.plans.find(key);
  const bool is_new = entry == all.plans.end();
  if (is_new) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    SERVAL_CUDA(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &capture));
    if (capture != cudaStreamCaptureStatusNone) return "the step was captured before it ran once without";
  }
  Handle& handle = all.handles[call.device];
  if (handle.handle == nullptr && handle.refusal.empty()) open_handle(handle);
  if (!handle.refusal.empty()) return handle.refusal;
  if (is_new) entry = all.plans.emplace(key, choose_plan(call, handle.handle)).first;
  const Plan& plan = entry->second;
  if (plan.graph == nullptr) return plan.refusal;

  use_stream(handle, static_cast<cudaStream_t>(stream));
  execute(call, plan, handle.handle, finish.of, scratch, aligned_workspace(c), stream);
  attention_finish_cuda(finish, stream);
  return "";
}

AttentionDocuments documents_of(const Operand& cu_seqlens, int64_t tokens) {
  return {.cu_seqlens = cu_seqlens.as<const int32_t>(),
          .count = cu_seqlens.count,
          .documents = cu_seqlens.rows - 1,
          .tokens = tokens};
}

void add_finish(AttentionFinish& finish, const Operand& target, const void* source, int64_t source_stride) {
  if (!target) return;
  const int64_t size = size_of(target.dtype);
  finish.tensors[finish.num_tensors++] = {.target = target.data,
                                          .source = source,
                                          .target_stride = target.row_stride * size,
                                          .source_stride = source == nullptr ? 0 : source_stride * size,
                                          .row_bytes = target.row_size * size};
}

}  // namespace

std::string attention_cudnn_version() {
  return library().version_text;
}

std::string attention_cudnn_forward(const KernelContext& c, void* stream) {
  Call call = make_call(c, false);
  if (std::string reason = why_not(c, call); !reason.empty()) return reason;
  const Operand &o = c.output(0), &lse = c.output(1);
  call.has_lse = static_cast<bool>(lse);
  for (int i = 0; i < 3; ++i) place(call, kQ + i, c.input(i));
  place(call, kO, o);
  place(call, kLse, lse.data, call.shape.heads);
  AttentionFinish finish{.of = documents_of(c.input(3), call.shape.rows)};
  add_finish(finish, o, nullptr, 0);
  add_finish(finish, lse, nullptr, 0);
  return run(c, call, finish, attention_cudnn_scratch(call.shape, false), stream);
}

std::string attention_cudnn_backward(const KernelContext& c, void* stream) {
  Call call = make_call(c, true);
  const Operand &dq = c.output(0), &dk = c.output(1), &dv = c.output(2);
  call.shape.dq_stride = dq.row_stride;  // 0 where absent
  call.shape.dk_stride = dk.row_stride;
  call.shape.dv_stride = dv.row_stride;
  if (std::string reason = why_not(c, call); !reason.empty()) return reason;
  for (int i = 0; i < 4; ++i) place(call, kQ + i, c.input(1 + i));
  place(call, kDo, c.input(0));
  place(call, kLse, c.input(5));

  const AttentionCudnnScratch scratch = attention_cudnn_scratch(call.shape, true);
  AttentionFinish finish{.of = documents_of(c.input(6), call.shape.rows)};
  const auto place_gradient = [&](int slot, const Operand& gradient, int64_t at) {
    const int64_t size = call.heads(slot) * call.shape.head_dim;
    void* const apart = at < 0 ? nullptr : aligned_workspace(c) + at;
    if (apart == nullptr)
      place(call, slot, gradient);
    else
      place(call, slot, apart, size);
    add_finish(finish, gradient, apart, size);
  };
  place_gradient(kDq, dq, scratch.dq);
  place_gradient(kDk, dk, scratch.dk);
  place_gradient(kDv, dv, scratch.dv);
  return run(c, call, finish, scratch, stream);
}

}  // namespace serval
