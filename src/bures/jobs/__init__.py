"""What is run: the options, the splits, the stages that the jobs share, and the jobs themselves."""
