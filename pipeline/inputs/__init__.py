"""From untrusted bytes to arrays, and the prompts and labels that go with them."""
