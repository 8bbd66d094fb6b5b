"""Text: from a released adapter of a language model to the sentences it was trained on."""
