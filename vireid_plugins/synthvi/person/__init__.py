"""Who is filmed: bodies, clothes, poses, and the figure that they are drawn as."""
