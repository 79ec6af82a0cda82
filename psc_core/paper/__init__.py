"""PSC as published (Elata, Michaeli, Elad): a few rows a stage, the directions in which samples disagree most."""
