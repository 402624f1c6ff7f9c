"""What is trained and what ranks: an encoder with heads, blends, and what joins their parts."""
