"""OpenAI's images API: its words for a request, and its forms of answers."""
