#include "engine/models/registry.h"

#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"
#include "engine/checkpoint/packed_folder.h"
#include "engine/checkpoint/weight_reader.h"

namespace expertd {
namespace {

// Every architecture that can be served; a new family is one line here.
const std::array kFamilies = {
    &kQwen2Family,         &kQwen3Family,      &kQwen3MoeFamily,   &kPanguProMoeFamily,
    &kPanguEmbeddedFamily, &kDeepseekV2Family, &kDeepseekV3Family, &kLlamaFamily,
    &kPanguAlphaFamily,
};

}  // namespace

std::string KnownArchitectures() {
  std::string names;
  for (const ModelFamily* const family : kFamilies) StrAppend(&names, names.empty() ? "" : ", ", family->architecture);
  return names;
}

namespace {

absl::StatusOr<const ModelFamily*> FindByModelType(const Json& json) {
  ASSIGN_OR_RETURN(const std::string model_type, JsonStringOr(json, "model_type", ""));
  if (model_type.empty()) {
    return absl::InvalidArgumentError(
        StrCat("architectures is missing, and so is model_type; supported are ", KnownArchitectures()));
  }
  for (const ModelFamily* const family : kFamilies) {
    if (family->model_type == model_type) return family;
  }
  return absl::UnimplementedError(
      StrCat("model_type \"", ShowName(model_type), "\" is not supported; supported are ", KnownArchitectures()));
}

}  // namespace

absl::StatusOr<const ModelFamily*> FindFamily(const Json& json) {
  const Json* const architectures = JsonFind(json, "architectures");
  if (architectures == nullptr) return FindByModelType(json);
  if (!architectures->is_array() || architectures->empty() || !architectures->front().is_string()) {
    return absl::InvalidArgumentError("architectures must be a list of names");
  }
  const std::string& name = architectures->front().get_ref<const std::string&>();
  for (const ModelFamily* const family : kFamilies) {
    if (family->architecture == name) return family;
  }
  return absl::UnimplementedError(
      StrCat("architecture \"", ShowName(name), "\" is not supported; supported are ", KnownArchitectures()));
}

namespace {

// Where the weights of a folder come from. The reader may read from the source.
struct OpenedWeights {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<WeightReader> reader;
};

absl::Status WithFolder(const std::string& dir, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), StrCat(dir, ": ", ToStdView(status.message())));
}

absl::StatusOr<OpenedWeights> OpenWeights(const std::string& dir, const LoadOptions& options) {
  OpenedWeights opened;
  if (options.is_dummy) {
    opened.reader = MakeDummyReader(options.weight_format);
    return opened;
  }
  if (IsPackedFolder(dir)) {
    ASSIGN_OR_RETURN(opened.reader, OpenPackedFolder(dir));
    return opened;
  }
  ASSIGN_OR_RETURN(opened.source, OpenCheckpoint(dir));
  ASSIGN_OR_RETURN(std::unique_ptr<StoredWeights> weights, OpenStoredWeights(dir, *opened.source));
  opened.reader = MakeSourceReader(std::move(weights), options.weight_format, options.quantized_weights);
  return opened;
}

// Errors name `dir`.
absl::StatusOr<std::unique_ptr<Model>> BuildModel(const std::string& dir, ModelConfig config, WeightReader& reader,
                                                  const LoadOptions& options, ThreadPool& pool) {
  const std::string architecture = config.architecture;
  for (const ModelFamily* const family : kFamilies) {
    if (family->architecture != architecture) continue;
    absl::StatusOr<std::unique_ptr<Model>> model = family->build(std::move(config), reader, options, pool);
    const absl::Status finished = model.ok() ? reader.Finish() : model.status();
    if (!finished.ok()) return WithFolder(dir, finished);
    return model;
  }
  return absl::InternalError(StrCat("no builder for ", architecture));
}

absl::Status CheckFolder(const std::string& dir) {
  std::error_code error;
  return std::filesystem::is_directory(dir, error) ? absl::OkStatus()
                                                   : absl::NotFoundError(StrCat(dir, " is not a folder"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& dir, const LoadOptions& options, ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFolder(dir));
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(dir));
  ASSIGN_OR_RETURN(const OpenedWeights weights, OpenWeights(dir, options));
  return BuildModel(dir, std::move(config), *weights.reader, options, pool);
}

absl::Status PackModel(const std::string& dir, const std::string& packed_dir, const LoadOptions& options,
                       ThreadPool& pool) {
  RETURN_IF_ERROR(CheckFolder(dir));
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(dir));
  ASSIGN_OR_RETURN(const std::optional<WeightFormat> packed, FindPackedFormat(dir));
  if (packed) return absl::InvalidArgumentError(StrCat(dir, " is packed already, as ", WeightFormatName(*packed)));
  ASSIGN_OR_RETURN(const OpenedWeights weights, OpenWeights(dir, options));
  ASSIGN_OR_RETURN(const std::unique_ptr<PackedFolderWriter> writer,
                   PackedFolderWriter::Create(packed_dir, options.weight_format));
  const std::unique_ptr<WeightReader> tee = writer->Tee(*weights.reader);
  // The model itself is not wanted: building it asks for every weight once.
  RETURN_IF_ERROR(BuildModel(dir, std::move(config), *tee, options, pool).status());
  if (IsMegatronFolder(dir)) {
    ASSIGN_OR_RETURN(const MegatronConfig made, ReadMegatronConfig(dir));
    RETURN_IF_ERROR(writer->AddFile("config.json", DumpJson(made.json, 2)));
    LogInfo("config_made", {{"folder", packed_dir}, {"heads_of", made.heads_of}});
  }
  return writer->Finish(dir);
}

}  // namespace expertd
