"""`zoo export`: a network as one file that runs without zoo, compared with the network it was made of."""
