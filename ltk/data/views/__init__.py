"""What views are made of: recipes, their random steps, and the batched operations on uint8 images beneath."""
