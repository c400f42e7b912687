// DecoderModel: the skeleton that most families share - embedding, decoder layers, final norm, output head.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/layers/attention.h"
#include "engine/layers/mlp.h"
#include "engine/layers/moe.h"
#include "engine/layers/plain_mlp.h"
#include "engine/models/model.h"
#include "engine/models/model_config.h"

namespace expertd {

// Names of the tensors of one layer.
struct LayerNames {
  std::string attention_norm;  // norms without ".weight" or ".bias"
  GqaNames attention;         // used when attention is grouped-query attention
  MlaNames latent_attention;  // used when it is latent
  std::string feed_forward_norm;
  MlpNames mlp;         // used when the layer is dense
  PlainMlpNames plain;  // used when it is dense without a gate
  MoeNames moe;         // used when it is sparse
};

// Names of the tensors of a checkpoint. The defaults are those of the Llama layout, which most families follow.
struct DecoderNames {
  std::string embedding = "model.embed_tokens.weight";
  std::string positions;  // used when there is a position table
  std::string final_norm = "model.norm";
  std::string head = "lm_head.weight";  // unused when the embedding is the head
  std::function<LayerNames(int layer)> layer;
  bool pads_embedding = false;  // it may have more rows in the files, to be left out
};

// Names of layer `layer` in the Llama layout ("model.layers.<layer>.self_attn.q_proj", ...).
LayerNames LlamaLayerNames(int layer);

// "<prefix>.gate_proj.weight", ...
MlpNames GatedMlpNames(const std::string& prefix);

// Reads all weights and puts the model together; layers are read in parallel. Errors: as LoadModel.
absl::StatusOr<std::unique_ptr<Model>> LoadDecoderModel(ModelConfig config, const DecoderNames& names,
                                                        WeightReader& reader, const LoadOptions& options,
                                                        ThreadPool& pool);

// LoadDecoderModel for families whose ends have the default names: a ModelFamily's `build`.
template <LayerNames (*kLayerNames)(int layer)>
absl::StatusOr<std::unique_ptr<Model>> BuildDecoder(ModelConfig config, WeightReader& reader,
                                                    const LoadOptions& options, ThreadPool& pool) {
  return LoadDecoderModel(std::move(config), {.layer = kLayerNames}, reader, options, pool);
}

}  // namespace expertd
