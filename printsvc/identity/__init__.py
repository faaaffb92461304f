"""Who a person is: number checks and the policy that issues or holds. Pure."""
