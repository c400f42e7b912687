#include "clients/rest_shim/models_json.h"

#include <utility>

namespace expertd::rest {

Json ModelJson(const v1::Model& model) {
  Json json;
  json["id"] = model.name();
  json["object"] = "model";
  json["created"] = model.create_time().seconds();
  json["owned_by"] = "expertd";
  json["max_model_len"] = model.max_model_len();
  return json;
}

Json ModelListJson(const v1::ListModelsResponse& models) {
  Json data = Json::array();
  for (const v1::Model& model : models.models()) data.push_back(ModelJson(model));
  Json json;
  json["object"] = "list";
  json["data"] = std::move(data);
  return json;
}

}  // namespace expertd::rest
