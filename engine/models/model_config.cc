#include "engine/models/model_config.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

// config.json is a page; anything larger is not one.
constexpr int64_t kMaxConfigBytes = 4 << 20;

}  // namespace

int64_t ModelConfig::max_positions() const {
  constexpr double kMost = 1 << 26;  // as many as max_position_embeddings may have
  double stretched = 0.0;
  if (const auto* yarn = std::get_if<YarnRope>(&rope.scaling)) {
    stretched = static_cast<double>(yarn->original_max_positions) * yarn->factor;
  }
  return std::max(max_position_embeddings, static_cast<int64_t>(std::min(stretched, kMost)));
}

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  ASSIGN_OR_RETURN(const ModelFamily* const family, FindFamily(json));
  return family->read_config(json);
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& dir) {
  const std::string path = dir + "/config.json";
  Json json;
  if (IsMegatronFolder(dir)) {
    ASSIGN_OR_RETURN(MegatronConfig made, ReadMegatronConfig(dir));
    json = std::move(made.json);
  } else {
    ASSIGN_OR_RETURN(json, ReadJsonFile(path, kMaxConfigBytes));
  }
  absl::StatusOr<ModelConfig> config = ParseModelConfig(json);
  if (config.ok()) return config;
  return absl::Status(config.status().code(), StrCat(path, ": ", ToStdView(config.status().message())));
}

}  // namespace expertd
