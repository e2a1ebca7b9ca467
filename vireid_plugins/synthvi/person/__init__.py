"""The person in an image: body, clothes, pose, and the figure that is drawn."""
