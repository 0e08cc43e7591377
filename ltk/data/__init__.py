"""Where images come from, which are kept, how they are drawn and changed."""
