# Made and stored without ever being part of a plan or a state: ephemeral here, write-only in SSM. What needs it gets
# what SSM has, so that all agree even when an apply broke off half way.
ephemeral "aws_secretsmanager_random_password" "new" {
  password_length     = 40
  exclude_punctuation = true # secrets become parts of addresses
}

resource "aws_ssm_parameter" "this" {
  #checkov:skip=CKV_AWS_337:a key of one's own costs 1 USD a month asleep; AWS's keys encrypt
  name             = var.name
  type             = "SecureString"
  value_wo         = ephemeral.aws_secretsmanager_random_password.new.random_password
  value_wo_version = var.generation
}

ephemeral "aws_ssm_parameter" "stored" {
  arn = aws_ssm_parameter.this.arn
}
