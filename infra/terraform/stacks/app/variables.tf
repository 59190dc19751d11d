# ---- shared by all stacks: environments/<env>.tfvars

variable "environment" {
  description = "Part of every name, so that environments in one account never meet."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,14}[a-z0-9]$", var.environment))
    error_message = "environment has 2 to 16 small letters, digits and hyphens, such as dev or pr-123; ${var.environment} has not."
  }
}

variable "region" {
  description = "Where everything runs."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is one of AWS's, such as eu-central-1, not ${var.region}."
  }
}

variable "zero_idle" {
  description = "Promise that nothing costs money while nobody asks; what would break it is refused."
  type        = bool
}

variable "disposable" {
  description = "Whether destroying the environment also destroys the documents in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
  validation {
    condition     = length(setintersection(keys(var.tags), ["project", "environment", "stack"])) == 0
    error_message = "The tags project, environment and stack are set already; choose other names."
  }
}

# ---- this stack: environments/<env>.app.tfvars

variable "gateway" {
  description = "rest streams answers as they are written; http is cheaper per request and answers in one piece."
  type        = string
  default     = "rest"
  validation {
    condition     = contains(["rest", "http"], var.gateway)
    error_message = "gateway is rest or http, not ${var.gateway}."
  }
}

variable "openapi_file" {
  description = "The app's OpenAPI document (JSON); the rest gateway takes its routes from it."
  type        = string
  default     = null
  validation {
    condition     = var.gateway != "rest" || var.openapi_file != null
    error_message = "gateway = \"rest\" needs openapi_file: write the app's OpenAPI document to a file and name it."
  }
}

variable "streaming_routes" {
  description = "Routes whose answers come piece by piece."
  type        = set(string)
  default     = ["POST /v1/query", "POST /v1/chat/completions"]
  validation {
    condition     = alltrue([for route in var.streaming_routes : can(regex("^[A-Z]+ /", route))])
    error_message = "A streaming route is written as POST /v1/query."
  }
}

variable "throttle" {
  description = "Requests per second, and how many at once, before clients are told to wait."
  type = object({
    rate  = optional(number, 100)
    burst = optional(number, 200)
  })
  default = {}
  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1 && var.throttle.burst <= 5000
    error_message = "throttle takes a rate of at least 1 and a burst of 1 to 5000."
  }
}

variable "package_dir" {
  description = "The folder with ingest.zip, query.zip, query-stream.zip and reindex.zip; null takes what scripts/build made."
  type        = string
  default     = null
  validation {
    condition     = var.package_dir == null || try(length(var.package_dir) > 0, false)
    error_message = "package_dir is empty."
  }
}

variable "runtime" {
  description = "The Python that the packages were built for."
  type        = string
  default     = "python3.12"
  validation {
    condition     = can(regex("^python3\\.(1[2-9])$", var.runtime))
    error_message = "runtime is python3.12 or later, not ${var.runtime}."
  }
}

variable "architecture" {
  description = "The processor that the packages were built for; arm64 is a fifth cheaper."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64, not ${var.architecture}."
  }
}

variable "adapter_layer_arn" {
  description = "The Lambda Web Adapter; null takes AWS's own layer for the architecture, in the version named in functions.tf."
  type        = string
  default     = null
  validation {
    condition     = var.adapter_layer_arn == null || can(regex(":layer:[A-Za-z0-9_-]+:[0-9]+$", var.adapter_layer_arn))
    error_message = "adapter_layer_arn ends in the layer's version, so that nothing changes unseen."
  }
}

variable "functions" {
  description = "Sizes that differ from those in functions.tf, by function: ingest, query, query-stream, reindex."
  type = map(object({
    memory_mb               = optional(number)
    timeout_s               = optional(number)
    reserved_concurrency    = optional(number)
    provisioned_concurrency = optional(number)
    connections             = optional(number)
  }))
  default = {}
  validation {
    condition     = length(setsubtract(keys(var.functions), ["ingest", "query", "query-stream", "reindex"])) == 0
    error_message = "functions knows ingest, query, query-stream and reindex."
  }
  validation {
    condition = alltrue([for name, size in var.functions :
      try(size.memory_mb >= 128 && size.memory_mb <= 10240, size.memory_mb == null)
    ])
    error_message = "functions: memory_mb is 128 to 10240."
  }
  validation {
    condition = alltrue([for name, size in var.functions :
      try(size.timeout_s >= 1 && size.timeout_s <= 900, size.timeout_s == null)
    ])
    error_message = "functions: timeout_s is 1 to 900; Lambda ends every call after 15 minutes."
  }
  validation {
    condition = alltrue([for name, size in var.functions :
      try(size.reserved_concurrency >= 1, size.reserved_concurrency == null)
    ])
    error_message = "functions: reserved_concurrency is at least 1, or the function never runs."
  }
  validation {
    # a question reads while its answer's record is written
    condition = alltrue([for name, size in var.functions :
      try(size.connections >= (startswith(name, "query") ? 2 : 1), size.connections == null)
    ])
    error_message = "functions: connections is at least 1, and at least 2 for query and query-stream, which write while they read."
  }
}

variable "settings" {
  description = "More settings by function, such as {query = {RAGZERO_PRICE_PROMPT = \"0.2\"}}; no secrets."
  type        = map(map(string))
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.settings), ["ingest", "query", "query-stream", "reindex"])) == 0
    error_message = "settings knows ingest, query, query-stream and reindex."
  }
  validation {
    condition = alltrue(flatten([for values in values(var.settings) : [
      for name in keys(values) : !can(regex("_(KEY|SECRET|PASSWORD|TOKEN|PEPPER)$|^DATABASE_URL$|^REDIS_URL$", name))
    ]]))
    error_message = "settings would put a secret into a function's environment, where everybody who may look at the function reads it; store it as an SSM parameter instead (output \"parameters\" says under which name)."
  }
}

variable "log_level" {
  description = "Of all functions."
  type        = string
  default     = "INFO"
  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARNING or ERROR, not ${var.log_level}."
  }
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days is ${var.log_days}; CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}

variable "default_tenant" {
  description = "Owns the objects that do not lie under tenants/<id>/; null refuses such objects."
  type        = string
  default     = null
  validation {
    condition     = var.default_tenant == null || can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.default_tenant))
    error_message = "default_tenant is a tenant's id, a UUID in small letters."
  }
}

variable "max_object_mb" {
  description = "Larger objects are refused, with that reason."
  type        = number
  default     = 100
  validation {
    condition     = var.max_object_mb >= 1 && var.max_object_mb <= 1024
    error_message = "max_object_mb is ${var.max_object_mb}; expected 1 to 1024."
  }
}

variable "noncurrent_days" {
  description = "How many days a replaced or deleted document can still be brought back from the bucket."
  type        = number
  default     = 30
  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650
    error_message = "noncurrent_days is ${var.noncurrent_days}; expected 1 to 3650."
  }
}

variable "web_origins" {
  description = "Web origins, besides the API's own, whose pages may ask, and upload straight into the bucket."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for origin in var.web_origins : can(regex("^https://[^*/]+$|^http://(localhost|127\\.0\\.0\\.1)(:[0-9]+)?$", origin))])
    error_message = "web_origins names exact origins such as https://app.example.com; a wildcard would let any page in."
  }
}

variable "visibility_timeout_s" {
  description = "How long a message that was taken stays hidden; null takes six times the ingest function's time-out."
  type        = number
  default     = null
  validation {
    condition     = var.visibility_timeout_s == null || try(var.visibility_timeout_s <= 43200, false)
    error_message = "visibility_timeout_s is more than the 43200 that SQS takes."
  }
}

variable "max_receive_count" {
  description = "How often a document is tried before it is given up."
  type        = number
  default     = 5
  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count is ${var.max_receive_count}; set 5 to 1000, because throttled deliveries count as attempts too."
  }
}

variable "batch_size" {
  description = "How many messages one call takes at most."
  type        = number
  default     = 10
  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10
    error_message = "batch_size is ${var.batch_size}; set 1 to 10."
  }
}

variable "maximum_concurrency" {
  description = "How many ingest functions the queue starts at once; null takes ingest's reserved concurrency."
  type        = number
  default     = null
  validation {
    condition     = var.maximum_concurrency == null || try(var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000, false)
    error_message = "maximum_concurrency is outside the 2 to 1000 that an event source mapping takes."
  }
}

variable "schedules" {
  description = "Tasks of the reindex function and when they run (UTC); {} leaves the function out."
  type        = map(string)
  # one after another in one hour: a database that sleeps is woken once a night, and no task finds the one copy taken
  default = {
    expire = "cron(0 3 * * ? *)"
    canary = "cron(5 3 * * ? *)"
    sweep  = "cron(10 3 * * ? *)"
    audit  = "cron(30 3 ? * SUN *)"
  }
  validation {
    condition     = length(setsubtract(keys(var.schedules), ["sweep", "canary", "audit", "expire"])) == 0
    error_message = "schedules knows sweep, canary, audit and expire."
  }
  validation {
    condition     = alltrue([for expression in values(var.schedules) : can(regex("^(cron|rate)\\(.+\\)$", expression))])
    error_message = "A schedule is cron(minutes hours day month weekday year) or rate(n hours), in UTC."
  }
}

variable "database" {
  description = "neon or aurora: what that stack left in SSM says how many connections there are, and in which network; url: a database of your own."
  type        = string
  default     = "neon"
  validation {
    condition     = contains(["neon", "aurora", "url"], var.database)
    error_message = "database is neon, aurora or url, not ${var.database}."
  }
}

variable "connection_budget" {
  description = "The connections that a database of your own grants (database = \"url\"); the others say it themselves."
  type        = number
  default     = null
  validation {
    condition     = (var.database == "url") == (var.connection_budget != null)
    error_message = "connection_budget belongs to database = \"url\", and only to it: set it there, leave it out elsewhere."
  }
}

variable "modal_min_containers" {
  description = "Warm GPU containers that the Modal definitions of this environment keep."
  type        = number
  default     = 0
  validation {
    condition     = var.modal_min_containers >= 0
    error_message = "modal_min_containers is ${var.modal_min_containers}; expected 0 or more."
  }
}

variable "alarms" {
  description = "Whether there are alarms and a dashboard; an alarm costs 0.10 USD a month after the first ten of an account."
  type        = bool
  default     = true
}

variable "alarm_emails" {
  description = "Who is told; each address has to confirm once."
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for email in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "alarm_emails holds addresses such as team@example.com."
  }
}

variable "thresholds" {
  description = "From where on somebody is told."
  type = object({
    p95_ms            = optional(number, 2000)
    error_rate        = optional(number, 0.01)
    queue_age_s       = optional(number, 300)
    connections_share = optional(number, 0.8)
    cold_starts       = optional(number, 50)
    throttles         = optional(number, 0)
  })
  default = {}
  validation {
    condition     = var.thresholds.error_rate > 0 && var.thresholds.error_rate < 1
    error_message = "thresholds.error_rate is a share between 0 and 1, not ${var.thresholds.error_rate}."
  }
}

variable "monthly_budget_usd" {
  description = "What a month may cost; the addresses are told at half of it, at it, and when it is foreseen. null sets no budget."
  type        = number
  default     = null
  validation {
    condition     = var.monthly_budget_usd == null || try(var.monthly_budget_usd > 0, false)
    error_message = "monthly_budget_usd is more than 0, or null."
  }
  validation {
    condition     = var.monthly_budget_usd == null || var.alarms
    error_message = "monthly_budget_usd tells those who get the alarms: set alarms = true too."
  }
}

variable "endpoint_url" {
  description = "Of a local AWS emulator, as the functions reach it; Terraform itself reads AWS_ENDPOINT_URL."
  type        = string
  default     = null
  validation {
    condition     = var.endpoint_url == null || can(regex("^http://(localhost|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]+)?$", var.endpoint_url))
    error_message = "endpoint_url is an emulator's on this machine, such as http://127.0.0.1:4566."
  }
}
