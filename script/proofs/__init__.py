"""What the proofs of the render engine share: persons who do not exist, and pictures of their papers."""
