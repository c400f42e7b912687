// Checkpoints of PanGu-alpha as its Megatron code writes them: latest_checkpointed_iteration.txt beside
// iter_0001000/mp_rank_00/model_optim_rng.pt, ..., one file for each rank of a tensor-parallel training. Presented with
// the names and shapes of the Hugging Face port (models/pangu_alpha.cc).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {

// The file that makes a folder one of these.
inline constexpr char kMegatronLatestName[] = "latest_checkpointed_iteration.txt";

// Whether `dir` is such a folder; reads none of it.
bool IsMegatronFolder(const std::string& dir);

struct MegatronConfig {
  Json json;             // the keys of the port's config.json
  std::string heads_of;  // where the number of heads comes from, which no tensor tells: "config.json", ...
};

// The configuration of a checkpoint: sizes as its tensors have them; the number of heads from the arguments of the
// training, if they are in the file, else as published for that width; a config.json in `dir` wins, key by key.
// Errors: as OpenMegatron; InvalidArgument when nothing tells the number of heads.
absl::StatusOr<MegatronConfig> ReadMegatronConfig(const std::string& dir);

// Opens the iteration that `dir` names as its latest. The pieces of a tensor that ranks share are put together when it
// is asked for. Rows that fill the embedding up for the ranks are handed out as well. Hostile files and errors: as
// TorchArchive; NotFound (a file is missing), InvalidArgument (the folder or the ranks do not fit together),
// Unimplemented (pipeline-parallel).
absl::StatusOr<std::unique_ptr<WeightSource>> OpenMegatron(const std::string& dir);

}  // namespace expertd
