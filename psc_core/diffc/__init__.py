"""DiffC (Theis, Salimans, Hoffman, Mentzer 2022): an image is sent as a sample of itself plus noise, step by step."""
