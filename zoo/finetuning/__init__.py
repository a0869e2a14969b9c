"""`zoo finetune`: a recipe carried out, from built model to checkpoint and report."""
