variable "name" {
  description = "Of the queue; its dead-letter queue is called the same with -dead."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,75}$", var.name))
    error_message = "A queue's name has 1 to 75 letters, digits, hyphens and underscores; ${var.name} has not."
  }
}

variable "visibility_timeout_s" {
  description = "How long a message that was taken stays hidden, in seconds."
  type        = number
  validation {
    condition     = var.visibility_timeout_s >= 0 && var.visibility_timeout_s <= 43200
    error_message = "visibility_timeout_s is ${var.visibility_timeout_s}; SQS takes 0 to 43200."
  }
}

variable "max_receive_count" {
  description = "How often a message is tried before it is a dead letter."
  type        = number
  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count is ${var.max_receive_count}; set 5 to 1000, because throttled deliveries count as attempts too."
  }
}

variable "sender_bucket_arn" {
  description = "The bucket whose events come here."
  type        = string
  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::", var.sender_bucket_arn))
    error_message = "sender_bucket_arn is the ARN of a bucket."
  }
}
