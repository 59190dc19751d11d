# What each function may do, and why: the one place to look and to change. One action a line, resources by name.
locals {
  bucket     = [module.documents.arn]
  objects    = ["${module.documents.arn}/*"]
  given_up   = [module.queue.dead_letters.arn]
  queues     = [module.queue.arn, module.queue.dead_letters.arn]
  everything = ["*"] # actions that know no resources

  every = { for name in keys(local.functions) : name => concat(
    [
      { action = "logs:CreateLogStream", resources = local.logs[name], reason = "each copy writes a stream of its own" },
      { action = "logs:PutLogEvents", resources = local.logs[name], reason = "what it logs" },
      { action = "xray:PutTraceSegments", resources = local.everything, reason = "traces" },
      { action = "xray:PutTelemetryRecords", resources = local.everything, reason = "traces" },
      { action = "ssm:GetParametersByPath", resources = ["${local.ssm}/${local.reader[name]}"], reason = "its settings, secrets among them, and nobody else's" },
    ],
    local.database.network == null ? [] : [
      { action = "ec2:CreateNetworkInterface", resources = local.everything, reason = "Lambda's way into the database's network" },
      { action = "ec2:DescribeNetworkInterfaces", resources = local.everything, reason = "the same" },
      { action = "ec2:DescribeSubnets", resources = local.everything, reason = "the same" },
      { action = "ec2:DeleteNetworkInterface", resources = local.everything, reason = "the same, when the function is gone" },
      { action = "ec2:AssignPrivateIpAddresses", resources = local.everything, reason = "the same" },
      { action = "ec2:UnassignPrivateIpAddresses", resources = local.everything, reason = "the same" },
    ],
  ) }

  permissions = { for name in keys(local.functions) : name => concat(local.every[name], {
    ingest = [
      { action = "sqs:ReceiveMessage", resources = [module.queue.arn], reason = "the mapping takes messages in the function's name" },
      { action = "sqs:DeleteMessage", resources = [module.queue.arn], reason = "done messages" },
      { action = "sqs:GetQueueAttributes", resources = [module.queue.arn], reason = "how long the queue is decides how many functions start" },
      { action = "sqs:SendMessage", resources = [module.queue.arn], reason = "reminders of webhooks that are to be told again" },
      { action = "s3:GetObject", resources = local.objects, reason = "the object's state and bytes as they are now" },
      { action = "s3:GetObjectVersion", resources = local.objects, reason = "the bytes of exactly the version whose state was read" },
      { action = "s3:ListBucket", resources = local.bucket, reason = "without it a missing object is 403 and not 404" },
    ]
    query = [
      { action = "s3:PutObject", resources = local.objects, reason = "uploads through the API" },
      { action = "s3:GetObject", resources = local.objects, reason = "an object's state as it is now; other metadata is a copy of it onto itself; download links" },
      { action = "s3:ListMultipartUploadParts", resources = local.objects, reason = "an upload in parts is completed when all bytes are there" },
      { action = "s3:AbortMultipartUpload", resources = local.objects, reason = "one that is given up leaves nothing" },
      { action = "s3:DeleteObject", resources = local.objects, reason = "deletes through the API" },
      { action = "s3:ListBucket", resources = local.bucket, reason = "without it a missing object is 403 and not 404" },
      { action = "s3:DeleteObjectVersion", resources = local.objects, reason = "a delete takes older versions along" },
      { action = "s3:ListBucketVersions", resources = local.bucket, reason = "which those are" },
      { action = "s3:GetBucketNotification", resources = local.bucket, reason = "the doctor: does the bucket report to the queue?" },
      { action = "s3:GetBucketVersioning", resources = local.bucket, reason = "the doctor: does it keep versions?" },
      { action = "s3:GetLifecycleConfiguration", resources = local.bucket, reason = "the doctor: does it delete by itself?" },
      { action = "sqs:GetQueueAttributes", resources = local.queues, reason = "the doctor: what waits, and what was given up?" },
      { action = "sqs:SendMessage", resources = [module.queue.arn], reason = "requeueing a document" },
      { action = "sqs:ReceiveMessage", resources = local.given_up, reason = "looking at dead letters" },
      { action = "sqs:ChangeMessageVisibility", resources = local.given_up, reason = "putting them back" },
      { action = "sqs:DeleteMessage", resources = local.given_up, reason = "redriving and discarding them" },
    ]
    query-stream = [] # answers come from the database; documents are the other function's
    reindex = [
      { action = "s3:ListBucket", resources = local.bucket, reason = "the sweep compares the bucket with the index" },
      { action = "s3:GetObject", resources = local.objects, reason = "how old an object is whose document says when it goes" },
      { action = "s3:DeleteObject", resources = local.objects, reason = "documents whose time has come" },
      { action = "s3:ListBucketVersions", resources = local.bucket, reason = "their older versions go along" },
      { action = "s3:DeleteObjectVersion", resources = local.objects, reason = "the same" },
      { action = "sqs:SendMessage", resources = [module.queue.arn, try(module.reindex_dead_letters[0].arn, module.queue.arn)], reason = "what the sweep found is queued; its own failed calls go to their dead letters" },
      { action = "sqs:GetQueueAttributes", resources = [module.queue.arn], reason = "the sweep waits while ingest has enough to do" },
      { action = "sqs:ReceiveMessage", resources = local.given_up, reason = "the audit: do dead letters name what was erased?" },
      { action = "sqs:ChangeMessageVisibility", resources = local.given_up, reason = "putting them back" },
      { action = "s3:GetObject", resources = local.objects, reason = "how old an object is whose time may have come" },
      { action = "s3:DeleteObject", resources = local.objects, reason = "documents that go by themselves" },
      { action = "s3:DeleteObjectVersion", resources = local.objects, reason = "and their older versions" },
      { action = "s3:ListBucketVersions", resources = local.bucket, reason = "which those are" },
    ]
  }[name]) }

  ssm  = "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${local.account}:parameter/ragzero/${var.environment}"
  logs = { for name in keys(local.functions) : name => ["arn:${data.aws_partition.current.partition}:logs:${var.region}:${local.account}:log-group:/aws/lambda/${local.prefix}-${name}:*"] }
}
