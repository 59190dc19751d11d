variable "name" {
  description = "Of the function, its role and its log group."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "A function's name has 1 to 64 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "handler" {
  description = "What the runtime calls."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_./-]+$", var.handler))
    error_message = "handler is a dotted Python name or a script, not ${var.handler}."
  }
}

variable "runtime" {
  description = "The Python the package was built for."
  type        = string
  validation {
    condition     = can(regex("^python3\\.(1[2-9])$", var.runtime))
    error_message = "runtime is python3.12 or later, not ${var.runtime}."
  }
}

variable "architecture" {
  description = "The processor the package was built for."
  type        = string
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64, not ${var.architecture}."
  }
}

variable "package" {
  description = "Where the zip lies, and its SHA-256 in base64."
  type = object({
    bucket = string
    key    = string
    sha256 = string
  })
  validation {
    condition     = endswith(var.package.key, ".zip")
    error_message = "package.key names a zip, not ${var.package.key}."
  }
}

variable "layers" {
  description = "ARNs of layers, each with its version."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for arn in var.layers : can(regex(":layer:[A-Za-z0-9_-]+:[0-9]+$", arn))])
    error_message = "A layer is given as an ARN that ends in its version, so that nothing changes unseen."
  }
}

variable "memory_mb" {
  description = "Memory; processor time grows with it."
  type        = number
  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb is ${var.memory_mb}; Lambda takes 128 to 10240."
  }
}

variable "timeout_s" {
  description = "The longest a call may take."
  type        = number
  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900
    error_message = "timeout_s is ${var.timeout_s}; Lambda takes 1 to 900."
  }
}

variable "reserved_concurrency" {
  description = "How many run at once at most."
  type        = number
  validation {
    condition     = var.reserved_concurrency >= 1
    error_message = "reserved_concurrency is ${var.reserved_concurrency}; at least 1, or the function never runs."
  }
}

variable "provisioned_concurrency" {
  description = "How many are kept warm, which costs money day and night."
  type        = number
  default     = 0
  validation {
    condition     = var.provisioned_concurrency >= 0 && var.provisioned_concurrency <= var.reserved_concurrency
    error_message = "provisioned_concurrency is ${var.provisioned_concurrency}; set 0 to reserved_concurrency (${var.reserved_concurrency})."
  }
}

variable "environment" {
  description = "Settings; never a secret."
  type        = map(string)
  validation {
    # Lambda counts 4 KB over all names and values
    condition     = sum([for name, value in var.environment : length(name) + length(value)]) <= 4096
    error_message = "The environment is larger than Lambda's 4 KB; move values to the parameters under RAGZERO_SSM_PREFIX."
  }
}

variable "permissions" {
  description = "What the role may do, each with its reason."
  type = list(object({
    action    = string
    resources = list(string)
    reason    = string
  }))
  validation {
    condition     = alltrue([for each in var.permissions : !strcontains(each.action, "*")])
    error_message = "A permission names one action; * grants more than anybody reviewed."
  }
  validation {
    condition     = alltrue([for each in var.permissions : length(each.reason) > 0])
    error_message = "A permission says why the function needs it."
  }
}

variable "network" {
  description = "Subnets and security groups when the function has to reach a private database."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
  validation {
    condition     = var.network == null || length(try(var.network.subnet_ids, [])) > 0
    error_message = "network needs at least one subnet; leave it null for a function outside a VPC."
  }
}

variable "dead_letters_arn" {
  description = "Where calls go that nobody waits for and that failed; null for a function that somebody waits for."
  type        = string
  default     = null
  validation {
    condition     = var.dead_letters_arn == null || can(regex("^arn:[a-z-]+:sqs:", var.dead_letters_arn))
    error_message = "dead_letters_arn is the ARN of a queue."
  }
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days is ${var.log_days}; CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}
