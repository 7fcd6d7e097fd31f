"""A model behind an OpenAI-compatible server: requests that come and go share one decoding step."""
