"""What `psc train-prior` is made of: photographs, loss, growth, validation, the loop and the prior folder."""
