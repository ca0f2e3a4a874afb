"""Looking at stores: whether every byte is right, and pictures of what is in them."""
