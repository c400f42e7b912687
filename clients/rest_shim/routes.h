// Which path does what.
#pragma once

#include "clients/rest_shim/http_server.h"
#include "clients/rest_shim/metrics_page.h"
#include "clients/rest_shim/upstream.h"

namespace expertd::rest {

// A handler that answers from `upstream`, and /metrics from `metrics` (may be null). Both outlive it.
HttpHandler MakeRoutes(Upstream& upstream, MetricsPage* metrics);

}  // namespace expertd::rest
