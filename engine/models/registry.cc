#include "engine/models/registry.h"

#include <array>
#include <filesystem>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_reader.h"

namespace expertd {
namespace {

// Every architecture that can be served; a new family is one line here.
const std::array<const ModelFamily*, 3> kFamilies = {
    &kQwen2Family,
    &kQwen3Family,
    &kQwen3MoeFamily,
};

}  // namespace

std::string KnownArchitectures() {
  std::string names;
  for (const ModelFamily* const family : kFamilies) StrAppend(&names, names.empty() ? "" : ", ", family->architecture);
  return names;
}

absl::StatusOr<const ModelFamily*> FindFamily(const Json& json) {
  const Json* const architectures = JsonFind(json, "architectures");
  if (architectures == nullptr) return absl::InvalidArgumentError("architectures is missing");
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

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& dir, const LoadOptions& options, ThreadPool& pool) {
  std::error_code error;
  if (!std::filesystem::is_directory(dir, error)) return absl::NotFoundError(StrCat(dir, " is not a folder"));
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(dir));
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<WeightReader> reader;
  if (options.is_dummy) {
    reader = MakeDummyReader(options.weight_format);
  } else {
    ASSIGN_OR_RETURN(source, OpenSafetensors(dir));
    reader = MakeSourceReader(*source, options.weight_format);
  }
  const std::string architecture = config.architecture;
  for (const ModelFamily* const family : kFamilies) {
    if (family->architecture != architecture) continue;
    absl::StatusOr<std::unique_ptr<Model>> model = family->build(std::move(config), *reader, options, pool);
    if (model.ok()) return model;
    return absl::Status(model.status().code(), StrCat(dir, ": ", ToStdView(model.status().message())));
  }
  return absl::InternalError(StrCat("no builder for ", architecture));
}

}  // namespace expertd
