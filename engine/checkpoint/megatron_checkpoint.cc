#include "engine/checkpoint/megatron_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/shard_index.h"
#include "engine/checkpoint/torch_archive.h"

namespace expertd {
namespace {

constexpr int kMaxRanks = 64;
constexpr int kMaxLayers = 1024;
constexpr int64_t kVocabulary = 40000;  // of all PanGu-alpha models; more rows are padding
constexpr int64_t kEndOfText = 9;
constexpr int64_t kMaxConfigBytes = 4 << 20;

// How the ranks share a tensor.
enum class Sharing {
  kWhole,    // each has all of it
  kRows,     // each has some rows (or elements of a bias), one rank's after the other's
  kColumns,  // each has some columns
};

struct NamePair {
  std::string_view megatron;
  std::string_view port;
  Sharing sharing;
};

// Of one layer.
constexpr NamePair kLayerNames[] = {
    {"input_layernorm.weight", "ln_1.weight", Sharing::kWhole},
    {"input_layernorm.bias", "ln_1.bias", Sharing::kWhole},
    {"attention.query.weight", "attn.q_proj.weight", Sharing::kRows},
    {"attention.query.bias", "attn.q_proj.bias", Sharing::kRows},
    {"attention.key.weight", "attn.k_proj.weight", Sharing::kRows},
    {"attention.key.bias", "attn.k_proj.bias", Sharing::kRows},
    {"attention.value.weight", "attn.v_proj.weight", Sharing::kRows},
    {"attention.value.bias", "attn.v_proj.bias", Sharing::kRows},
    {"attention.dense.weight", "attn.c_proj.weight", Sharing::kColumns},
    {"attention.dense.bias", "attn.c_proj.bias", Sharing::kWhole},
    {"post_attention_layernorm.weight", "ln_2.weight", Sharing::kWhole},
    {"post_attention_layernorm.bias", "ln_2.bias", Sharing::kWhole},
    {"mlp.dense_h_to_4h.weight", "mlp.c_fc.weight", Sharing::kRows},
    {"mlp.dense_h_to_4h.bias", "mlp.c_fc.bias", Sharing::kRows},
    {"mlp.dense_4h_to_h.weight", "mlp.c_proj.weight", Sharing::kColumns},
    {"mlp.dense_4h_to_h.bias", "mlp.c_proj.bias", Sharing::kWhole},
};

constexpr char kWordTable[] = "transformer.wte.weight";
constexpr char kPositionTable[] = "transformer.wpe.weight";
constexpr char kQueryTable[] = "transformer.wqe.weight";

// Outside the layers. The Evolution checkpoint keeps its query table under a name of its own.
constexpr NamePair kOtherNames[] = {
    {"embedding.word_embeddings.weight", kWordTable, Sharing::kRows},
    {"embedding.position_embeddings.weight", kPositionTable, Sharing::kWhole},
    {"topQueryEmbedding.top_query_embeddings.weight", kQueryTable, Sharing::kRows},
    {"task_embedding.top_query_embeddings.weight", kQueryTable, Sharing::kRows},
    {"transformer.final_layernorm.weight", "transformer.ln_f.weight", Sharing::kWhole},
    {"transformer.final_layernorm.bias", "transformer.ln_f.bias", Sharing::kWhole},
};

// The file of one rank.
struct Rank {
  std::unique_ptr<TorchArchive> archive;
  TorchTensors tensors;  // of the language model
};

absl::StatusOr<std::string> FindIterationFolder(const std::string& dir) {
  const std::string path = StrCat(dir, "/", kMegatronLatestName);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64));
  const absl::string_view name = absl::StripAsciiWhitespace(text);
  if (name == "release") return dir + "/release";
  int64_t iteration = -1;
  if (!absl::SimpleAtoi(name, &iteration) || iteration < 0) {
    return absl::InvalidArgumentError(StrCat(path, " says \"", ShowName(ToStdView(name)),
                                             "\"; must be the number of an iteration, or release"));
  }
  return absl::StrFormat("%s/iter_%07d", dir, iteration);
}

// The files of ranks 0, 1, ...
absl::StatusOr<std::vector<std::string>> FindRankFiles(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string folder, FindIterationFolder(dir));
  std::error_code error;
  if (std::filesystem::exists(folder + "/mp_rank_00_000", error)) {
    return absl::UnimplementedError(StrCat(folder, "/mp_rank_00_000 is of a pipeline-parallel training; only "
                                           "tensor-parallel ones are supported"));
  }
  std::vector<std::string> files;
  for (int rank = 0; rank < kMaxRanks; ++rank) {
    const std::string file = absl::StrFormat("%s/mp_rank_%02d/model_optim_rng.pt", folder, rank);
    if (!std::filesystem::exists(file, error)) break;
    files.push_back(file);
  }
  if (files.empty()) return absl::NotFoundError(StrCat(folder, "/mp_rank_00/model_optim_rng.pt is missing"));
  return files;
}

absl::StatusOr<Rank> OpenRank(const std::string& path) {
  Rank rank;
  ASSIGN_OR_RETURN(rank.archive, TorchArchive::Open(path));
  const Pickle& pickle = rank.archive->pickle();
  const Pickle::Value* model = pickle.Find(pickle.root(), "model");
  if (model != nullptr) model = pickle.Find(*model, "language_model");
  if (model == nullptr) return absl::InvalidArgumentError(StrCat(path, " has no model.language_model"));
  absl::StatusOr<TorchTensors> tensors = rank.archive->TensorsIn(*model);
  if (!tensors.ok()) return WithPath(path, tensors.status());
  rank.tensors = *std::move(tensors);
  return rank;
}

absl::StatusOr<std::vector<Rank>> OpenRanks(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FindRankFiles(dir));
  std::vector<Rank> ranks;
  for (const std::string& file : files) {
    ASSIGN_OR_RETURN(Rank rank, OpenRank(file));
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

// The blocks of a rank, without the query layer.
int CountBlocks(const Rank& rank) {
  int count = 0;
  while (count < kMaxLayers && rank.tensors.contains(StrCat("transformer.layers.", count, ".input_layernorm.weight"))) {
    ++count;
  }
  return count;
}

class MegatronSource : public WeightSource {
 public:
  explicit MegatronSource(std::vector<Rank> ranks) : ranks_(std::move(ranks)) {
    for (const NamePair& name : kOtherNames) Add(std::string(name.megatron), std::string(name.port), name.sharing);
    const int num_blocks = CountBlocks(ranks_[0]);
    for (int i = 0; i < num_blocks; ++i) AddLayer(StrCat("transformer.layers.", i, "."), i);
    AddLayer("transformer.topQueryLayer.", num_blocks);
    ShareQueryTable();
  }

  bool Has(std::string_view name) const override { return tensors_.contains(name); }

  absl::StatusOr<WeightTensor> Get(std::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      return absl::NotFoundError(StrCat("tensor ", ShowName(name), " is missing from the checkpoint"));
    }
    const Shared& shared = found->second;
    if (shared.sharing == Sharing::kWhole || ranks_.size() == 1) return Piece(ranks_[0], shared);
    return Join(shared);
  }

  // What Get returns, without its bytes.
  absl::StatusOr<WeightTensor> Describe(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return absl::NotFoundError(StrCat("tensor ", ShowName(name), " is missing"));
    return Whole(ranks_[0].tensors.find(found->second.megatron)->second.tensor, found->second.sharing);
  }

  int num_layers() const { return CountBlocks(ranks_[0]) + 1; }
  const Pickle& pickle() const { return ranks_[0].archive->pickle(); }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& named : tensors_) names.push_back(named.first);
    return names;
  }

  int64_t TotalBytes() const override { return total_bytes_; }

  void Release(const WeightTensor& tensor) const override {
    for (const Rank& rank : ranks_) rank.archive->Release(tensor);
  }

 private:
  struct Shared {
    std::string megatron;  // its name in the files
    Sharing sharing = Sharing::kWhole;
  };

  void AddLayer(const std::string& megatron, int layer) {
    const std::string port = StrCat("transformer.h.", layer, ".");
    for (const NamePair& name : kLayerNames) {
      Add(StrCat(megatron, name.megatron), StrCat(port, name.port), name.sharing);
    }
  }

  void Add(const std::string& megatron, const std::string& port, Sharing sharing) {
    const auto found = ranks_[0].tensors.find(megatron);
    if (found == ranks_[0].tensors.end()) return;
    const int64_t share = sharing == Sharing::kWhole ? 1 : static_cast<int64_t>(ranks_.size());
    total_bytes_ += share * found->second.tensor.size_bytes;
    tensors_.insert_or_assign(port, Shared{megatron, sharing});
  }

  // The training cuts the query table like a vocabulary; descriptions of the format do not say so. Its rows tell: a
  // whole one has as many as there are positions.
  void ShareQueryTable() {
    const auto queries = tensors_.find(kQueryTable), positions = tensors_.find(kPositionTable);
    if (queries == tensors_.end() || positions == tensors_.end()) return;
    const TorchTensors& tensors = ranks_[0].tensors;
    const TorchTensor& table = tensors.find(queries->second.megatron)->second;
    if (table.tensor.shape == tensors.find(positions->second.megatron)->second.tensor.shape) {
      queries->second.sharing = Sharing::kWhole;
    }
  }

  static absl::StatusOr<WeightTensor> Piece(const Rank& rank, const Shared& shared) {
    const auto found = rank.tensors.find(shared.megatron);
    const std::string where = StrCat(rank.archive->path(), ": tensor ", ShowName(shared.megatron));
    if (found == rank.tensors.end()) return absl::NotFoundError(where + " is missing");
    absl::StatusOr<WeightTensor> tensor = found->second.Read();
    if (tensor.ok()) return tensor;
    return absl::Status(tensor.status().code(), StrCat(where, " ", ToStdView(tensor.status().message())));
  }

  // The pieces of all ranks, which are alike.
  absl::StatusOr<std::vector<WeightTensor>> Pieces(const Shared& shared) const {
    std::vector<WeightTensor> pieces;
    for (const Rank& rank : ranks_) {
      ASSIGN_OR_RETURN(WeightTensor piece, Piece(rank, shared));
      pieces.push_back(std::move(piece));
      const WeightTensor &first = pieces.front(), &last = pieces.back();
      if (!last.shape.empty() && last.shape == first.shape && last.dtype == first.dtype) continue;
      return absl::InvalidArgumentError(StrCat(rank.archive->path(), ": tensor ", ShowName(shared.megatron), " is ",
                                               DTypeName(last.dtype), " ", ShowShape(last.shape), "; that of rank 0 ",
                                               DTypeName(first.dtype), " ", ShowShape(first.shape)));
    }
    return pieces;
  }

  // The pieces in a buffer of their own: by rows, they follow each other; by columns, their rows do in turn.
  absl::StatusOr<WeightTensor> Join(const Shared& shared) const {
    ASSIGN_OR_RETURN(const std::vector<WeightTensor> pieces, Pieces(shared));
    WeightTensor joined = Whole(pieces.front(), shared.sharing);
    ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(joined.size_bytes));
    const int64_t num_runs = shared.sharing == Sharing::kRows ? 1 : std::max<int64_t>(joined.shape.front(), 1);
    const int64_t run_bytes = pieces.front().size_bytes / num_runs;
    std::byte* out = buffer.data();
    for (int64_t run = 0; run < num_runs && run_bytes > 0; ++run) {
      for (const WeightTensor& piece : pieces) {
        std::memcpy(out, piece.data + run * run_bytes, static_cast<size_t>(run_bytes));
        out += run_bytes;
      }
    }
    for (const WeightTensor& piece : pieces) Release(piece);
    const SharedBytes bytes = SharedBytes::Of(std::move(buffer));
    joined.data = bytes.data;
    joined.owner = bytes.owner;
    return joined;
  }

  // `piece` with the shape and the size of all ranks' together.
  WeightTensor Whole(WeightTensor piece, Sharing sharing) const {
    if (sharing == Sharing::kWhole || piece.shape.empty()) return piece;
    const auto num_ranks = static_cast<int64_t>(ranks_.size());
    (sharing == Sharing::kRows ? piece.shape.front() : piece.shape.back()) *= num_ranks;
    piece.size_bytes *= num_ranks;
    return piece;
  }

  const std::vector<Rank> ranks_;
  std::map<std::string, Shared, std::less<>> tensors_;
  int64_t total_bytes_ = 0;
};

// ---- the configuration ----

// The arguments of the training, a Namespace whose state is a dict; null when the file has none.
const Pickle::Value* FindArguments(const Pickle& pickle) {
  const Pickle::Value* const arguments = pickle.Find(pickle.root(), "args");
  if (arguments == nullptr || arguments->kind != Pickle::Kind::kObject || arguments->state == Pickle::kNothing) {
    return nullptr;
  }
  return &pickle.at(arguments->state);
}

// A positive number among the arguments.
const Pickle::Value* FindNumber(const Pickle& pickle, std::string_view key) {
  const Pickle::Value* const arguments = FindArguments(pickle);
  const Pickle::Value* const value = arguments == nullptr ? nullptr : pickle.Find(*arguments, key);
  const bool is_number = value != nullptr && (value->kind == Pickle::Kind::kInt || value->kind == Pickle::Kind::kFloat);
  return is_number && value->number > 0.0 ? value : nullptr;
}

// What the tensors tell, and of the arguments those that none of them does.
absl::StatusOr<Json> ConfigOfTensors(const MegatronSource& source) {
  ASSIGN_OR_RETURN(const WeightTensor words, source.Describe(kWordTable));
  ASSIGN_OR_RETURN(const WeightTensor positions, source.Describe(kPositionTable));
  ASSIGN_OR_RETURN(const WeightTensor up, source.Describe("transformer.h.0.mlp.c_fc.weight"));
  for (const WeightTensor* const table : {&words, &positions, &up}) {
    if (table->shape.size() == 2) continue;
    return absl::InvalidArgumentError(StrCat("a table or matrix has shape ", ShowShape(table->shape)));
  }
  const Pickle::Value* const vocabulary = FindNumber(source.pickle(), "vocab_size");
  const Pickle::Value* const eps = FindNumber(source.pickle(), "layernorm_epsilon");
  Json json = {{"architectures", {"GPTPanguForCausalLM"}}, {"model_type", "gpt_pangu"}};
  json["num_layers"] = source.num_layers();
  json["hidden_size"] = words.shape[1];
  json["intermediate_size"] = up.shape[0];
  json["activation_function"] = "gelu_new";  // by tanh, which the weights were trained with
  json["layer_norm_epsilon"] = eps == nullptr ? 1e-5 : eps->number;
  json["max_position_embeddings"] = positions.shape[0];
  json["vocab_size"] = std::min(words.shape[0], vocabulary == nullptr ? kVocabulary : vocabulary->integer);
  json["eos_token_id"] = kEndOfText;
  json["torch_dtype"] = words.dtype == DType::kF32 ? "float32" : words.dtype == DType::kF16 ? "float16" : "bfloat16";
  return json;
}

// What no shape tells, for the published widths.
std::optional<int64_t> PublishedHeads(const Json& json) {
  constexpr std::pair<int64_t, int64_t> kHeads[] = {{1024, 16}, {2560, 32}, {5120, 40}};
  for (const auto& [hidden_size, heads] : kHeads) {
    if (json["hidden_size"] == hidden_size) return heads;
  }
  return std::nullopt;
}

void SetHeads(const Pickle& pickle, MegatronConfig& config) {
  if (const Pickle::Value* const heads = FindNumber(pickle, "num_attention_heads")) {
    config.json["num_heads"] = heads->integer;
    config.heads_of = "the arguments of the training";
  } else if (const std::optional<int64_t> published = PublishedHeads(config.json)) {
    config.json["num_heads"] = *published;
    config.heads_of = "the published sizes";
  }
}

}  // namespace

bool IsMegatronFolder(const std::string& dir) {
  std::error_code error;
  return std::filesystem::exists(StrCat(dir, "/", kMegatronLatestName), error);
}

absl::StatusOr<MegatronConfig> ReadMegatronConfig(const std::string& dir) {
  ASSIGN_OR_RETURN(std::vector<Rank> ranks, OpenRanks(dir));
  const MegatronSource source(std::move(ranks));
  MegatronConfig config;
  absl::StatusOr<Json> sizes = ConfigOfTensors(source);
  if (!sizes.ok()) return WithPath(dir, sizes.status());
  config.json = *std::move(sizes);
  SetHeads(source.pickle(), config);
  const std::string path = dir + "/config.json";
  if (std::error_code error; std::filesystem::exists(path, error)) {
    ASSIGN_OR_RETURN(const Json given, ReadJsonFile(path, kMaxConfigBytes));
    if (!given.is_object()) return absl::InvalidArgumentError(StrCat(path, " is not a JSON object"));
    for (const auto& [key, value] : given.items()) config.json[key] = value;
    if (given.contains("num_heads")) config.heads_of = "config.json";
  }
  if (!config.heads_of.empty()) return config;
  return absl::InvalidArgumentError(StrCat(dir, " does not tell the number of heads; write num_heads to config.json"));
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenMegatron(const std::string& dir) {
  ASSIGN_OR_RETURN(std::vector<Rank> ranks, OpenRanks(dir));
  return std::make_unique<MegatronSource>(std::move(ranks));
}

}  // namespace expertd
