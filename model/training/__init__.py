"""Training: recipes, tuning, the experiment over seeds, and the model card."""
