// The table of model families: architecture name to the functions that read its config and build it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/models/model.h"
#include "engine/models/model_config.h"

namespace expertd {

class WeightReader;

struct ModelFamily {
  std::string_view architecture;  // as config.json's "architectures" has it
  std::string_view model_type;    // what stands for it where there is none
  absl::StatusOr<ModelConfig> (*read_config)(const Json& json);
  absl::StatusOr<std::unique_ptr<Model>> (*build)(ModelConfig config, WeightReader& reader,
                                                  const LoadOptions& options, ThreadPool& pool);
};

// The family of a config.json, by "architectures", else by "model_type". Errors: InvalidArgument when both are missing
// or malformed,
// Unimplemented naming the architecture and the known ones.
absl::StatusOr<const ModelFamily*> FindFamily(const Json& json);

// "Qwen2ForCausalLM, ...".
std::string KnownArchitectures();

// The families and their files.
extern const ModelFamily kQwen2Family;          // qwen.cc
extern const ModelFamily kQwen3Family;          // qwen.cc
extern const ModelFamily kQwen3MoeFamily;       // qwen_moe.cc
extern const ModelFamily kPanguProMoeFamily;    // pangu_pro_moe.cc
extern const ModelFamily kPanguEmbeddedFamily;  // llama.cc
extern const ModelFamily kLlamaFamily;          // llama.cc
extern const ModelFamily kPanguAlphaFamily;     // pangu_alpha.cc
extern const ModelFamily kDeepseekV2Family;     // deepseek.cc
extern const ModelFamily kDeepseekV3Family;     // deepseek.cc

}  // namespace expertd
