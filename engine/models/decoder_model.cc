#include "engine/models/decoder_model.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/decoder_layer.h"
#include "engine/layers/embedding.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"
#include "engine/layers/rope.h"
#include "engine/models/model_sizes.h"
#include "engine/platform/thread_pool.h"

namespace expertd {
namespace {

class DecoderModel : public Model {
 public:
  struct Parts {
    std::unique_ptr<Linear> head;  // behind a pointer: a tied embedding refers to it
    Embedding embedding;
    PositionEmbedding positions;  // empty unless the config has a position table
    std::vector<DecoderLayer> layers;
    std::unique_ptr<Norm> final_norm;
  };

  DecoderModel(ModelConfig config, Parts parts)
      : config_(std::move(config)), parts_(std::move(parts)), rope_(config_.rope, config_.max_positions()) {}

  const ModelConfig& config() const override { return config_; }

  ModelMemory memory() const override {
    ModelMemory memory;
    memory.weight_bytes = parts_.head->size_bytes() + parts_.embedding.size_bytes() + parts_.positions.size_bytes() +
                          parts_.final_norm->size_bytes();
    for (const DecoderLayer& layer : parts_.layers) memory.weight_bytes += layer.size_bytes();
    memory.table_bytes = rope_.full_size_bytes();
    return memory;
  }

  void Forward(const ForwardBatch& batch, KvCache& kv, ForwardContext& context, float* logits) const override {
    CheckBatch(batch, kv);
    ScratchArena::Scope scope(context.scratch);
    const int num_tokens = batch.num_tokens();
    const int num_logits = static_cast<int>(batch.logits_rows.size());
    const int64_t hidden = config_.hidden_size;
    float* const residual = context.scratch.Take<float>(num_tokens * hidden);
    float* const last = context.scratch.Take<float>(num_logits * hidden);
    parts_.embedding.Forward(batch.tokens, residual, context);
    if (config_.has_position_table) parts_.positions.AddTo(batch.positions, residual, context);
    const AttentionStep step = PlanAttention(batch, ShapeOf(config_.attention), kv, rope_, context);
    const int last_layer = config_.num_layers() - 1;
    for (int i = 0; i < last_layer; ++i) {
      parts_.layers[i].AddAttention(step, i, kv, residual, context);
      parts_.layers[i].AddFeedForward(num_tokens, residual, context);
    }
    if (config_.ends_with_query_layer) parts_.final_norm->ApplyInPlace(num_tokens, residual, context);
    // After the last layer's keys and values are stored, only the rows that logits are asked for matter.
    parts_.layers[last_layer].AddAttention(step, last_layer, kv, residual, context);
    GatherRows(residual, batch.logits_rows, hidden, last);
    parts_.layers[last_layer].AddFeedForward(num_logits, last, context);
    const InputRows output = HeadInput(last, num_logits, context);
    parts_.head->Forward(output, num_logits, logits, config_.vocab_size, context);
  }

 private:
  InputRows HeadInput(const float* rows, int num_rows, ForwardContext& context) const {
    const InputForm form = parts_.head->input_form(context.kernels);
    if (!config_.ends_with_query_layer) {
      return parts_.final_norm->Forward(rows, num_rows, {.form = form}, context).rows;
    }
    return ToInputRows(rows, config_.hidden_size, num_rows, config_.hidden_size, form, context);
  }

  void CheckBatch(const ForwardBatch& batch, const KvCache& kv) const {
    const KvCacheSpec& spec = kv.spec();
    EXPERTD_CHECK(spec == KvSpecFor(config_, spec.block_size, spec.num_blocks, spec.format),
                  "the cache of another model");
    EXPERTD_CHECK(batch.num_tokens() > 0 && batch.positions.size() == batch.tokens.size());
    for (const int32_t token : batch.tokens) EXPERTD_CHECK(token >= 0 && token < config_.vocab_size, token);
    for (const int32_t row : batch.logits_rows) EXPERTD_CHECK(row >= 0 && row < batch.num_tokens(), row);
  }

  static void GatherRows(const float* rows, const std::vector<int32_t>& chosen, int64_t width, float* out) {
    for (const int32_t row : chosen) {
      std::memcpy(out, rows + row * width, sizeof(float) * static_cast<size_t>(width));
      out += width;
    }
  }

  const ModelConfig config_;
  const Parts parts_;
  const RopeTable rope_;
};

absl::StatusOr<std::unique_ptr<Norm>> LoadNorm(const ModelConfig& config, const std::string& name,
                                               WeightReader& reader) {
  if (config.norm.kind == NormKind::kRms) {
    ASSIGN_OR_RETURN(RmsNorm norm, LoadRmsNorm(name, config.hidden_size, config.norm.eps, reader));
    return std::make_unique<RmsNorm>(std::move(norm));
  }
  ASSIGN_OR_RETURN(std::vector<float> weight, reader.Vector(name + ".weight", config.hidden_size));
  ASSIGN_OR_RETURN(std::vector<float> bias, reader.Vector(name + ".bias", config.hidden_size));
  return std::make_unique<LayerNorm>(std::move(weight), std::move(bias), config.norm.eps);
}

absl::StatusOr<std::unique_ptr<Attention>> LoadAttention(const ModelConfig& config, int index, const LayerNames& names,
                                                         WeightReader& reader) {
  const int hidden = config.hidden_size;
  if (const auto* mla = std::get_if<MlaSpec>(&config.attention)) {
    return LoadMlaAttention(*mla, hidden, config.norm.eps, names.latent_attention, reader);
  }
  const GqaSpec& gqa = std::get<GqaSpec>(config.attention);
  if (config.ends_with_query_layer && index == config.num_layers() - 1) {
    const int num_positions = static_cast<int>(config.max_position_embeddings);
    return LoadQueryAttention(gqa, hidden, num_positions, names.attention, reader);
  }
  return LoadGqaAttention(gqa, hidden, config.norm.eps, names.attention, reader);
}

absl::StatusOr<std::unique_ptr<FeedForward>> LoadFeedForward(const LayerSpec& spec, int hidden,
                                                             const LayerNames& names, WeightReader& reader) {
  if (const auto* dense = std::get_if<DenseSpec>(&spec.ffn)) return LoadMlp(*dense, hidden, names.mlp, reader);
  if (const auto* plain = std::get_if<PlainSpec>(&spec.ffn)) return LoadPlainMlp(*plain, hidden, names.plain, reader);
  return LoadMoe(std::get<MoeSpec>(spec.ffn), hidden, names.moe, reader);
}

absl::StatusOr<DecoderLayer> LoadLayer(const ModelConfig& config, int index, const LayerNames& names,
                                       WeightReader& reader) {
  DecoderLayer layer;
  ASSIGN_OR_RETURN(layer.attention_norm, LoadNorm(config, names.attention_norm, reader));
  ASSIGN_OR_RETURN(layer.attention, LoadAttention(config, index, names, reader));
  ASSIGN_OR_RETURN(layer.feed_forward_norm, LoadNorm(config, names.feed_forward_norm, reader));
  ASSIGN_OR_RETURN(layer.feed_forward, LoadFeedForward(config.layers[index], config.hidden_size, names, reader));
  return layer;
}

// The bias that undoes a shift of the final norm.
absl::StatusOr<std::vector<float>> LoadHeadBias(const ModelConfig& config, const DecoderNames& names,
                                                WeightReader& reader) {
  if (config.ties_embeddings) return std::vector<float>();
  return reader.OptionalBias(names.head, config.vocab_size);
}

// Head, embedding, positions and final norm.
absl::Status LoadEnds(const ModelConfig& config, const DecoderNames& names, WeightReader& reader,
                      DecoderModel::Parts& parts) {
  const int hidden = config.hidden_size;
  ASSIGN_OR_RETURN(parts.final_norm, LoadNorm(config, names.final_norm, reader));
  if (config.has_position_table) {
    const int num_positions = static_cast<int>(config.max_position_embeddings);
    ASSIGN_OR_RETURN(SharedBytes table, reader.Table(names.positions, num_positions, hidden, DType::kF32));
    parts.positions = PositionEmbedding(std::move(table), hidden);
  }
  if (!config.ties_embeddings) {
    const DType dtype = EmbeddingDType(reader.format());
    ASSIGN_OR_RETURN(SharedBytes table, reader.Table(names.embedding, config.vocab_size, hidden, dtype));
    parts.embedding = Embedding(std::move(table), hidden, dtype);
  }
  const std::string& tensor = config.ties_embeddings ? names.embedding : names.head;
  TensorRows rows = TensorRows::All(tensor, config.vocab_size, hidden);
  rows.may_be_padded = names.pads_embedding;
  ASSIGN_OR_RETURN(std::vector<float> head_bias, LoadHeadBias(config, names, reader));
  ASSIGN_OR_RETURN(WeightMatrix head, reader.Matrix({.name = names.head,
                                                     .cols = hidden,
                                                     .parts = {std::move(rows)},
                                                     .format = FormatOf(MatrixRole::kHead, reader.format())}));
  parts.head = std::make_unique<Linear>(std::move(head), std::move(head_bias));
  if (config.ties_embeddings) parts.embedding = Embedding::TiedTo(*parts.head);
  return absl::OkStatus();
}

// Runs the loading of one part; memory that runs out in a library becomes a status, as the pool's items must not throw.
template <typename Fn>
absl::Status Guarded(Fn load) {
  try {
    return load();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory while loading weights");
  }
}

}  // namespace

MlpNames GatedMlpNames(const std::string& prefix) {
  return {prefix + ".gate_proj.weight", prefix + ".up_proj.weight", prefix + ".down_proj.weight"};
}

LayerNames LlamaLayerNames(int layer) {
  const std::string prefix = StrCat("model.layers.", layer, ".");
  const std::string attention = prefix + "self_attn.";
  LayerNames names;
  names.attention_norm = prefix + "input_layernorm";
  names.attention = {attention + "q_proj", attention + "k_proj", attention + "v_proj",
                     attention + "o_proj", attention + "q_norm", attention + "k_norm"};
  names.latent_attention = {.q = attention + "q_proj",
                            .q_down = attention + "q_a_proj",
                            .q_norm = attention + "q_a_layernorm",
                            .q_up = attention + "q_b_proj",
                            .kv_down = attention + "kv_a_proj_with_mqa",
                            .kv_norm = attention + "kv_a_layernorm",
                            .kv_up = attention + "kv_b_proj",
                            .output = attention + "o_proj"};
  names.feed_forward_norm = prefix + "post_attention_layernorm";
  names.mlp = GatedMlpNames(prefix + "mlp");
  names.moe = {.router = prefix + "mlp.gate.weight", .experts = prefix + "mlp.experts"};
  return names;
}

absl::StatusOr<std::unique_ptr<Model>> LoadDecoderModel(ModelConfig config, const DecoderNames& names,
                                                        WeightReader& reader, const LoadOptions& options,
                                                        ThreadPool& pool) {
  DecoderModel::Parts parts;
  const int num_layers = config.num_layers();
  parts.layers.resize(static_cast<size_t>(num_layers));
  std::vector<absl::Status> statuses(static_cast<size_t>(num_layers) + 1);
  std::mutex progress_mutex;
  // Item 0 is the ends (the largest piece), item i + 1 is layer i.
  pool.ParallelFor(num_layers + 1, [&](int item, int) {
    statuses[item] = Guarded([&]() -> absl::Status {
      if (item == 0) return LoadEnds(config, names, reader, parts);
      ASSIGN_OR_RETURN(parts.layers[item - 1], LoadLayer(config, item - 1, names.layer(item - 1), reader));
      return absl::OkStatus();
    });
    if (!options.progress) return;
    const std::lock_guard lock(progress_mutex);
    options.progress({std::min(reader.bytes_read(), reader.total_bytes()), reader.total_bytes()});
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  return std::make_unique<DecoderModel>(std::move(config), std::move(parts));
}

}  // namespace expertd
