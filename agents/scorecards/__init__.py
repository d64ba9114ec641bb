"""Makes scorecards: points from the weights of a logistic model."""
