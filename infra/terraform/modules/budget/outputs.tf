output "name" {
  value = aws_budgets_budget.this.name
}
